"""Sets of images by name or path: ``load_data("photos")``, ``load_data("my_images.npz")``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from merged_diffusion.data.bundled import BUNDLED, LEVELS, load_bundled
from merged_diffusion.data.folders import load_path
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import DataNotFoundError, UsageError
from merged_diffusion.experts.catalogue import known

__all__ = ["Data", "load_data", "pixel_values"]

SPLITS: Final = ("test", "train")
NOT_READABLE: Final = ("cifar10", "imagenet32")


def load_data(source: str | Path, split: str = "test", levels: int | None = None) -> Data:
    """``digits``, ``photos``, or a path: a folder of PNG files, an .npz or an .npy.

    A path holds one set, which takes any ``split`` name; if its content is that of a known set, it is that
    set.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is neither test nor train")
    name = str(source)
    if name in BUNDLED:
        if levels not in (None, LEVELS[name]):
            raise UsageError(
                f"levels = {levels}, but {name} has {LEVELS[name]} grey levels", hint="leave --levels out"
            )
        return load_bundled(name, split)
    if name in NOT_READABLE:
        raise DataNotFoundError(f"{name} cannot be read by this version", hint="try --data photos", data=name)
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{name!r} is neither {', '.join((*BUNDLED, *NOT_READABLE))} nor an existing path")
    data = load_path(path, split, levels)
    same = [set_name for set_name, card in known()["data"].items() if card.get("sha256") == data.sha256]
    return load_bundled(same[0]) if same else data
