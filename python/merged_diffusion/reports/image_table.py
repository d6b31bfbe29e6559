"""Scores by image as a file: CSV for everything, Parquet for data frames; a row per image and model."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion._core import __version__
from merged_diffusion.data import load_data
from merged_diffusion.errors import UsageError
from merged_diffusion.frames import Column
from merged_diffusion.jobs.kept_scores import scores_of
from merged_diffusion.reports.tables import csv_text
from merged_diffusion.runs import Run, open_run
from merged_diffusion.sweeps import sweep_folder

MARK: Final = "merged_diffusion"
OWN_CSV: Final = re.compile(r"\A(run,)?(model,)?id,(file,)?(label,)?status,")
OWN_PARQUET: Final = re.compile(rf"{MARK}[\s\S]*PAR1\Z")
FORMATS: Final = ("csv", "parquet")


def image_columns(folders: Sequence[str | Path], *, cache: str | Path | None = None) -> dict[str, Column]:
    """Columns by name: those of every score; ``run`` and ``model`` before them, where they tell rows apart.

    A number that a row does not have is NaN, a text is empty.

    Raises
    ------
    RunError
        One is no run of ``nll`` or ``vlb``, nor a sweep of such.
    """
    load, parts = functools.cache(partial(load_data, cache=cache)), []  # one set of images, many runs
    for run in (run for folder in folders for run in _runs(Path(folder))):
        for model, each in {run.settings.get("model", "merged"): run, **run.parts()}.items():
            own = scores_of(each, load)
            marks = {"run": str(run.path), "model": model}
            parts.append({name: np.full(len(own), mark) for name, mark in marks.items()} | own.to_dict())
    names = dict.fromkeys(name for columns in parts for name in columns)
    found = {name: np.concatenate([_filled(columns, name, parts) for columns in parts]) for name in names}
    return {
        name: column
        for name, column in found.items()
        if name not in ("run", "model") or len(np.unique(column)) > 1
    }


def as_csv(columns: Mapping[str, Column]) -> str:
    """RFC 4180, all digits of each number; a text that looks like a formula has a ' before it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    cells = [[_csv(value) for value in column.tolist()] for column in columns.values()]
    writer.writerows(zip(*cells, strict=True))
    return stream.getvalue()


def changed_in_csv(columns: Mapping[str, Column]) -> list[str]:
    """The texts that a CSV holds otherwise than they are, as it holds them, each once."""
    texts = {value for column in columns.values() if column.dtype.kind == "U" for value in column.tolist()}
    return sorted(cell for value in texts if (cell := csv_text(value)) != value)


def as_parquet(columns: Mapping[str, Column]) -> bytes:
    """For data frames; needs pyarrow.

    Raises
    ------
    UsageError
        pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "Parquet is written by pyarrow, which is not installed",
            hint="pip install 'merged-diffusion[tables]', or use --format csv",
        ) from error
    table = pa.table({name: pa.array(column.tolist()) for name, column in columns.items()})
    stream = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({MARK: __version__}), stream)
    return stream.getvalue()


def _runs(folder: Path) -> list[Run]:
    """A run, or those that a sweep keeps."""
    table = sweep_folder.read(folder)
    if table is None:
        return [open_run(folder)]
    if table.metric == "sample":
        raise UsageError(f"{folder}: a sweep of samples has no scores", hint="name one of nll or vlb")
    return [open_run(folder / row.folder) for row in table.rows if row.summary is not None]


def _filled(columns: Mapping[str, Column], name: str, parts: Sequence[Mapping[str, Column]]) -> Column:
    """A column, or as many empty cells as it would have."""
    if name in columns:
        return columns[name]
    is_text = any(name in other and other[name].dtype.kind == "U" for other in parts)
    return np.full(len(columns["id"]), "" if is_text else np.nan)


def _csv(value: object) -> object:
    """A value as a cell, which is empty for NaN."""
    if isinstance(value, str):
        return csv_text(value)
    return "" if value != value else value
