"""Repositories of the hub as experts: ``hf:owner/name@revision``.

Only what a loader reads is brought: configs and weights as safetensors, with the hashes that the hub states.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from typing import Any, Final

from merged_diffusion.catalogue.entries import HUB, Download, Public
from merged_diffusion.errors import CheckpointError, ResourceError
from merged_diffusion.experts.running_mean import is_running_mean
from merged_diffusion.fetch.patience import patiently
from merged_diffusion.fetch.transfer import BY_HAND, TIMEOUTS, check_status

SHA256: Final = re.compile("[0-9a-f]{64}")
MAX_LISTING: Final = 1 << 23
FILES: Final = (
    *("model_index.json", "config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"),
    *("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"),
    *("card.toml", "model.safetensors"),
)
UNET: Final = "/diffusion_pytorch_model.safetensors"
CONFIG: Final = "/config.json"


def _is_read(file: object) -> bool:
    """Whether a loader reads a file of that name."""
    if not isinstance(file, str) or file in FILES:
        return isinstance(file, str)
    folder, _, name = file.rpartition("/")
    if is_running_mean(folder) and "/" not in folder:
        return f"/{name}" in (UNET, CONFIG)
    # A variant of the weights that says that it is the running mean.
    is_variant = folder in ("", "unet") and name.startswith("diffusion_pytorch_model.")
    return is_variant and is_running_mean(name) and name.endswith(".safetensors")


def endpoint() -> str:
    """The hub's address; ``HF_ENDPOINT`` names a mirror, as in the hub's own library."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def with_files(entry: Public) -> Public:
    """The entry of a ``hf:`` name with the files that its repository lists.

    Raises
    ------
    ResourceError
        The hub does not answer, or knows no such repository and revision.
    CheckpointError
        It holds no weights as safetensors.
    """
    owner, name, revision = entry.at.split("/")[1:]
    address = f"{endpoint()}/api/models/{owner}/{name}/revision/{revision}?blobs=true"
    listed = {row["rfilename"]: row for row in _listing(address) if _is_read(row.get("rfilename"))}
    if any(file.endswith(UNET) and not file.startswith("unet/") for file in listed):
        # The running mean is what is evaluated, and a loader looks no further.
        listed = {file: row for file, row in listed.items() if not file.startswith("unet/")}
    if not any(file.endswith(".safetensors") for file in listed):
        raise CheckpointError(
            f"{entry.name}: the repository holds no weights as safetensors (pickles are not fetched)",
            hint="convert them where they are trusted: save_pretrained writes safetensors",
            expert=entry.name,
        )
    return replace(
        entry,
        downloads=tuple(
            Download(
                f"{endpoint()}/{owner}/{name}/resolve/{revision}/{file}",
                f"{entry.at}/{file}",
                row.get("size"),
                (row.get("lfs") or {}).get("sha256"),
            )
            for file, row in sorted(listed.items())
        ),
    )


def _listing(address: str) -> list[dict[str, Any]]:
    import requests

    def ask() -> bytes:
        with requests.get(address, timeout=TIMEOUTS, stream=True) as answer:
            answer.raise_for_status()
            check_status(answer)
            return bytes(answer.raw.read(MAX_LISTING, decode_content=True))

    try:
        content = patiently(ask, lambda: 0, address, BY_HAND)
        rows: list[dict[str, object]] = json.loads(content)["siblings"]
        if not isinstance(rows, list):
            raise TypeError("siblings is no list")
    except requests.RequestException as error:
        raise ResourceError(f"{address}: {error}", hint=BY_HAND, url=address) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResourceError(
            f"{address}: not a list of files ({error!r})", hint=BY_HAND, url=address
        ) from error
    return [row for row in rows if _is_sound(row)]


def _is_sound(row: Any) -> bool:
    """Whether a row of the listing has the types that it is read with."""
    if not isinstance(row, dict) or not isinstance(row.get("rfilename"), str):
        return False
    size, large = row.get("size"), row.get("lfs") or {}
    sha256 = large.get("sha256") if isinstance(large, dict) else 0
    return (size is None or (type(size) is int and size >= 0)) and (
        sha256 is None or (isinstance(sha256, str) and SHA256.fullmatch(sha256) is not None)
    )
