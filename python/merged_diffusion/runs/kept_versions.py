"""The environments of a run's records: a file for each, named by its digest, which the records bear."""

from __future__ import annotations

from typing import Final

from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.environment import Versions, digest
from merged_diffusion.runs.settings_file import json_text

ENVIRONMENTS: Final = "environments"


def keep_versions(run: Directory, found: Versions) -> str:
    """Have the versions beside the records of a run; the digest that stands for them."""
    name = f"{digest(found)}.json"
    run.make_folder(ENVIRONMENTS)
    with run.folder(ENVIRONMENTS) as known:
        known.remove_drafts([name])
        if known.status(name) is None:
            known.write(name, json_text(found))
    return digest(found)
