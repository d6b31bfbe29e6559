"""Results as tables: a column for each name, as data frames take them and as notebooks show them.

pandas and polars are used where they are installed; nothing here needs either.
"""

from __future__ import annotations

import html
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Column = npt.NDArray[Any]
SHOWN: Final = 24  # rows of a notebook's table


class Tabular(ABC):
    """A result with a row for each image, threshold or model."""

    ERRORS: ClassVar[Mapping[str, str]] = {}
    """The column of each column's standard error: both are one cell of a notebook's table."""

    @abstractmethod
    def to_dict(self) -> dict[str, Column]:
        """Columns [N] by name; a number that a row does not have is NaN."""

    def to_pandas(self) -> pd.DataFrame:
        """As a data frame of pandas.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        frame: pd.DataFrame = _package("pandas").DataFrame(self.to_dict())
        return frame

    def to_polars(self) -> pl.DataFrame:
        """As a data frame of polars.

        Raises
        ------
        UsageError
            polars is not installed.
        """
        frame: pl.DataFrame = _package("polars").DataFrame(self.to_dict())
        return frame

    def _glance(self) -> dict[str, Column]:
        """The columns that a notebook shows."""
        return self.to_dict()

    def _repr_html_(self) -> str:
        """A small table for a notebook: the first rows under what ``repr`` says, errors beside numbers."""
        columns = self._glance()
        errors = {name: error for name, error in self.ERRORS.items() if name in columns}
        names = [name for name in columns if name not in errors.values()]
        heads = [f"{name} ± {errors[name]}" if errors.get(name) in columns else name for name in names]
        n = len(next(iter(columns.values()), ()))
        rows = [
            [_cell(columns, name, errors.get(name), row) for name in names] for row in range(min(n, SHOWN))
        ]
        return html_table(heads, rows, caption=repr(self), more=n - len(rows))


def one_row(values: Mapping[str, object]) -> dict[str, Column]:
    """Columns [1] of a result that is a row by itself; NaN for a number that is not known."""
    return {name: np.array([np.nan if value is None else value]) for name, value in values.items()}


def text_of_error(error: float | None) -> str:
    """What stands behind a number that has this standard error."""
    return "" if error is None else f" ± {error:.4f}"


def html_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, more: int = 0) -> str:
    """Rows of cells in HTML, and how many ``more`` there are."""
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in names)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    if more:
        lines.append(f'<td colspan="{len(names)}">{more} more rows</td>')
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table style="text-align: right"><caption>{html.escape(caption)}</caption>{body}</table>'


def _cell(columns: Mapping[str, Column], name: str, error: str | None, row: int) -> str:
    shown = _shown(columns[name][row])
    if error is None or error not in columns or not np.isfinite(columns[error][row]):
        return shown
    return f"{shown} ± {_shown(columns[error][row])}"


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        return str(int(value)) if float(value).is_integer() else f"{value:.4f}"
    return str(value)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} is not installed",
            hint=f"pip install {name}, or use to_dict(), which gives columns of numpy",
        ) from error
