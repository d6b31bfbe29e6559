"""Images for a page: those that a run scored, from its data set by id, and those that it drew."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from merged_diffusion.data import NAMES, load_data
from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.reports.results import Result
from merged_diffusion.runs import open_run
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps.sweep_row import SweepRow

SHOWN: Final = 12  # best and worst images
DRAWN: Final = 64  # samples of a grid


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, with its id and bits/dim."""

    uri: str
    id: int
    bits_per_dim: float | None = None


@dataclass(frozen=True)
class SetWords(TypedValues):
    """The settings by which a set is loaded again."""

    data: str
    split: str = "test"
    levels: int | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Drawn:
    """Samples of a row: images [N, C, H, W] with their grey levels."""

    images: npt.NDArray[Any]
    ids: npt.NDArray[np.int64]
    levels: int


def records_of(result: Result, row: SweepRow) -> list[Record]:
    """The records of a row whose evaluation succeeded; none where the run is not there."""
    folder = result.folder(row)
    if not (folder / "settings.json").is_file():
        return []
    records = open_run(folder).records()
    return [record for record in records if record.is_ok and record.bits_per_dim is not None]


def extremes(result: Result, row: SweepRow) -> tuple[list[Picture], list[Picture], str | None]:
    """The images of least and most bits/dim; none, and why, where the data set is not here."""
    records = sorted(records_of(result, row), key=lambda record: record.bits_per_dim or 0.0)
    if not records:
        return [], [], None
    asked = SetWords.from_dict(result.settings)
    source = _source(asked.data, result.path)
    if source is None:
        words = "settings.json names a file outside of the run, which a page does not follow"
        return [], [], f"The images are left out: {words}."
    try:
        # Not from the cache that the settings name: it is a path as well.
        data = load_data(source, asked.split, asked.levels, variant=asked.variant)
    except MergedDiffusionError as error:
        return [], [], f"The images are left out: {error}"
    if data.sha256 != result.data.get("sha256"):
        return [], [], "The images are left out: the data set that is here is not the one that was scored."
    place = {int(image): k for k, image in enumerate(data.ids)}

    def pictures(chosen: Sequence[Record]) -> list[Picture]:
        return [
            Picture(uri(data.images[place[record.id]], data.levels), record.id, record.bits_per_dim)
            for record in chosen
        ]

    n = min(SHOWN, len(records) // 2) or 1
    return pictures(records[:n]), pictures(records[-n:][::-1]), None


def _source(data: Any, run: Path) -> str | Path | None:
    """Where a page takes a set from: a known one, or a file within the run; settings of others are data."""
    if data in NAMES:
        return str(data)
    path = run / str(data)
    return path if path.resolve().is_relative_to(run.resolve()) and path.exists() else None


def drawn(folder: Path) -> Drawn | None:
    """The samples of a file or kept in a directory: an ``.npz``, a zip or PNG files; None without any."""
    if not folder.exists():
        return None
    for place in (
        [folder]
        if folder.is_file()
        else [*sorted(folder.glob("*.npz")), *sorted(folder.glob("*.zip")), folder / "images", folder]
    ):
        try:
            data = load_data(place)
        except MergedDiffusionError:
            continue
        return Drawn(data.images, data.ids, data.levels)
    return None


def uri(image: npt.NDArray[Any], levels: int) -> str:
    """An image [C, H, W] as a PNG in a data URI."""
    grey = np.rint(image.astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    pixels = grey[0] if len(grey) == 1 else np.ascontiguousarray(grey.transpose(1, 2, 0))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
