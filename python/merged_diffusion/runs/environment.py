"""Versions and hardware: they may differ when a run goes on, but every record names its own."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

Versions = dict[str, str | None]


PACKAGE: Final = "merged_diffusion"


def versions() -> Versions:
    """Package, Python, torch, CUDA and GPU of this process; torch's parts only where torch is loaded."""
    found: Versions = {
        PACKAGE: _version("merged-diffusion"),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "torch": _version("torch"),
        "machine": platform.machine(),
        "cuda": None,
        "gpu": None,
    }
    if "torch" in sys.modules:
        import torch

        found["cuda"] = torch.version.cuda
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def digest(found: Versions) -> str:
    """Eight hex digits that stand for an environment in a record."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]
