"""A table of cells that know their digits, written as markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from merged_diffusion.escapes import shown

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMATS: Final = ("markdown", "latex", "csv")


@dataclass(frozen=True)
class Number:
    """A value shown with ``digits`` decimals, its standard error beside it; CSV keeps all digits of both."""

    value: float
    digits: int = 3
    error: float | None = None
    signed: bool = False

    def text(self, between: str = " ± ", minus: str = "-") -> str:
        """The number as it is printed."""
        sign = "+" if self.signed else ""
        shown = f"{self.value:{sign}.{self.digits}f}".replace("-", minus)
        return shown if self.error is None else f"{shown}{between}{self.error:.{self.digits}f}"


Cell = Number | str | None


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, and notes below; ``strong`` names the rows to stand out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    strong: frozenset[int] = field(default_factory=frozenset)


def written(table: Table, form: str) -> str:
    """The table in one of `FORMATS`."""
    return {"markdown": markdown, "latex": latex, "csv": comma_separated}[form](table)


def markdown(table: Table) -> str:
    """GitHub's tables; what is Markdown in a name is escaped."""
    numeric = _numeric(table)
    lines = [f"**{_md(table.title)}**", "", "| " + " | ".join(map(_md, table.columns)) + " |"]
    lines.append("|" + "|".join("---:" if column else "---" for column in numeric) + "|")
    for position, row in enumerate(table.rows):
        cells = [_md(_plain(cell)) for cell in row]
        if position in table.strong:
            cells = [f"**{cell}**" if cell else cell for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {_md(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A ``tabular`` with booktabs' rules, in a ``table``."""
    numeric = _numeric(table)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_tex(table.title)}}}",
        f"  \\begin{{tabular}}{{{''.join('r' if column else 'l' for column in numeric)}}}",
        "    \\toprule",
        "    " + " & ".join(map(_tex, table.columns)) + " \\\\",
        "    \\midrule",
    ]
    for position, row in enumerate(table.rows):
        cells = [_tex_cell(cell, strong=position in table.strong) for cell in row]
        lines.append("    " + " & ".join(cells) + " \\\\")
    lines += ["    \\bottomrule", "  \\end{tabular}"]
    lines += [f"  \\par\\footnotesize {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def comma_separated(table: Table) -> str:
    """RFC 4180; a column ``se`` behind each that has standard errors. Title and notes are left out."""
    with_error = [
        any(isinstance(row[k], Number) and row[k].error is not None for row in table.rows)  # type: ignore[union-attr]
        for k in range(len(table.columns))
    ]
    lines: list[list[str]] = [[]]
    for name, has_error in zip(table.columns, with_error, strict=True):
        name = csv_text(name)
        lines[0] += [name, f"{name} se"] if has_error else [name]
    for row in table.rows:
        line: list[str] = []
        for cell, has_error in zip(row, with_error, strict=True):
            is_number = isinstance(cell, Number)
            line.append(repr(cell.value) if isinstance(cell, Number) else csv_text(cell or ""))
            if has_error:
                error = cell.error if isinstance(cell, Number) and is_number else None
                line.append("" if error is None else repr(error))
        lines.append(line)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers, which stand to the right."""
    return [any(isinstance(row[k], Number) for row in table.rows) for k in range(len(table.columns))]


def _plain(cell: Cell) -> str:
    return cell.text() if isinstance(cell, Number) else cell or ""


MARKDOWN: Final[Mapping[int, str]] = str.maketrans({c: "\\" + c for c in "\\|*_`<>[]"})
LATEX: Final[Mapping[int, str]] = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "±": "$\\pm$",
        "\n": " ",
    }
)


def csv_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula, which a number never is here."""
    return "'" * text.startswith(FORMULA) + shown(text, one_line=True)


def _md(text: str) -> str:
    return shown(text).translate(MARKDOWN).replace("\n", " ")


def _tex(text: str) -> str:
    return shown(text).translate(LATEX)


def _tex_cell(cell: Cell, *, strong: bool) -> str:
    if isinstance(cell, Number):
        inner = cell.text(between=" \\pm ")
        return f"$\\mathbf{{{inner}}}$" if strong else f"${inner}$"
    text = _tex(cell or "")
    return f"\\textbf{{{text}}}" if strong and text else text


# How files of the paper's tables begin: one may be replaced by another, whatever its number.
# Of CSV, which has no title; a column of standard errors stands behind many.
HEADERS: Final = (
    r"model,gamma,bits/dim(,bits/dim se)?,difference(,difference se)?,(evaluations|sd of repeats)"
    r"(,paper bits/dim,paper (evaluations|sd))?",
    r"model,gamma,sampler,[^\n]+,images,evaluations(,paper FID,paper evaluations)?",
    r"model,source,NLL \(bits/dim\)(,NLL \(bits/dim\) se)?,(FID|distance)(,(FID|distance) se)?,evaluations",
    r"expert,end,alpha,sigma,gamma",
)
BEGINNINGS: Final[Mapping[str, re.Pattern[str]]] = {
    "markdown": re.compile(r"\A\*\*[^\n]+ \(table [1-6]\)\*\*\n\n\| [^\n]+ \|\n\|---"),
    "latex": re.compile(
        r"\A% needs \\usepackage\{booktabs\}\n\\begin\{table\}\n  \\centering\n"
        r"  \\caption\{[^\n]+ \(table [1-6]\)\}\n"
    ),
    "csv": re.compile(rf"\A({'|'.join(HEADERS)})\n"),
}
