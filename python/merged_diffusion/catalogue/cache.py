"""Where public files lie: paths only, so that a command can look before anything heavy is loaded.

data/cifar-10-binary.tar.gz, data/imagenet32-old/, data/imagenet32-new/
experts/edm-cifar10-32x32-uncond-vp.pkl, experts/google-vdm-cifar10/, experts/addtt-vdm-cifar10/
stats/cifar10-32x32.npz, features/, hf/owner/name/revision/
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final

from merged_diffusion.errors import UsageError

VARIABLE: Final = "MERGED_DIFFUSION_CACHE"
HUB: Final = re.compile(r"hf:([\w-][\w.-]*)/([\w-][\w.-]*)@([\w-][\w.-]*)", re.ASCII)


def cache_folder(given: str | Path | None = None) -> Path:
    """The cache: ``given`` (``--cache``), else ``MERGED_DIFFUSION_CACHE``, else the platform's own place."""
    named = given or os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("merged-diffusion", appauthor=False)


def cached(*parts: str, folder: str | Path | None = None) -> Path:
    """The path of a file or folder in the cache, whether it is there or not."""
    return cache_folder(folder).joinpath(*parts)


def hub_folder(source: str) -> PurePosixPath:
    """``hf/owner/name/revision``, below the cache, of ``hf:owner/name@revision``.

    Raises
    ------
    UsageError
        Not of that form; a revision has to be named, since another one is another expert.
    """
    found = HUB.fullmatch(source)
    if found is None:
        raise UsageError(
            f"{source!r} is not of the form hf:owner/name@revision",
            hint="for instance hf:google/ddpm-cifar10-32@main",
        )
    return PurePosixPath("hf", *found.groups())
