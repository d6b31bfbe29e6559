"""Tables in markdown and work-precision plots from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from suite import analysis
from suite.analysis import Interval
from suite.plan import COLOURS, DEFAULT, PAPER, PRESETS, Cell, Measured
from suite.setting import Floats

Place = Literal["outside lower left", "outside lower right"]
MEBI = 2**20
LOOK = {
    "scipy": ("SciPy RK45, whole batch (the paper's)", "tab:gray", "s"),
    "torchdiffeq": ("torchdiffeq dopri5", "tab:olive", "v"),
    "torchode": ("torchode dopri5", "tab:brown", "^"),
    "dopri5-shared": ("dopri5, shared steps", "tab:cyan", "x"),
    "dopri5": ("dopri5, a step size per image", "tab:blue", "o"),
    "adams": ("adams", "tab:red", "D"),
    "coloured": ("adams, colours", "tab:orange", "P"),
}


def written(problems: Mapping[str, Measured], missing: Mapping[str, str], out: Path) -> str:
    """The report's text, also kept as ``report.md`` beside the plots."""
    parts = [f"Left out: {name} ({reason})." for name, reason in missing.items()]
    parts += [_ratios(problems), _never_worse(problems)]
    parts += [f"{found.title}, {found.n} images\n\n{_peers(found)}" for found in problems.values()]
    text = "\n\n".join(parts)
    (out / "report.md").write_text(text + "\n")
    _plot(problems, out / "work-precision.svg")
    return text


def _ratios(problems: Mapping[str, Measured]) -> str:
    evaluations = {name: analysis.saved_evaluations(measured) for name, measured in problems.items()}
    passes = [
        {name: analysis.saved_passes(measured, row) for name, measured in problems.items()}
        for row in ("default", *COLOURS)
    ]
    columns = evaluations, *passes
    rows = [
        [measured.title, f"{measured.product_cost:.2f}", *(_interval(column[name]) for column in columns)]
        for name, measured in problems.items()
    ]
    rows.append(["geometric mean", "", *(_interval(analysis.geometric_mean(column)) for column in columns)])
    rows.append(["worst", "", *(f"{min(i.value for i in column.values()):.2f}" for column in columns)])
    heads = ["problem", "product / forward", "evaluations, equal discretisation error"]
    colours = (f"with {n} colours" for n in COLOURS.values())
    return _table([*heads, "forward passes, equal total error", *colours], rows)


def _never_worse(problems: Mapping[str, Measured]) -> str:
    rows = []
    for measured in problems.values():
        usual = np.sqrt(analysis.passes(measured, "paper-1")[1].mean())
        over = [
            _interval(analysis.error_over_paper(measured, preset)) if preset in measured.total else ""
            for preset in PRESETS
        ]
        rows.append([measured.title, f"{usual:.2e}", *over])
    return _table(["problem", "the paper's total error", *(f"{name} / that" for name in PRESETS)], rows)


def _peers(measured: Measured) -> str:
    rows = [
        _row(LOOK[name][0], cell, measured, discretisation=_rms(cell[2]))
        for name, cells in measured.curves.items()
        for cell in cells
        if (cell[0].tol, cell[0].h_max) in ((PAPER, None), DEFAULT)
    ]
    for name, cells in measured.total.items():
        probes = cells[0][0].probes
        if name.startswith("paper-"):
            title = f"{LOOK['scipy'][0]}, {probes} probes averaged" if probes > 1 else LOOK["scipy"][0]
        else:
            title = f"adams {name if name in PRESETS else f'default, {probes} colours'}, a fresh probe a node"
        rows.append(_row(title, cells[0], measured, total=_rms(np.array([errors for *_, errors in cells]))))
    heads = ["solver", "evaluations", "forward passes", "discretisation error", "total error"]
    return _table([*heads, "seconds", "outside the network", "peak MiB"], rows)


def _row(
    title: str, cell: Cell, measured: Measured, *, discretisation: str = "", total: str = ""
) -> list[str]:
    setting, found, _ = cell
    evaluations = found.evaluations.mean()
    return [
        title,
        f"{evaluations:.1f}",
        f"{evaluations * (1 + setting.probes * measured.product_cost):.0f}",
        discretisation,
        total,
        f"{found.seconds:.2f}",
        f"{found.seconds - found.network_seconds:.2f}",
        "" if found.peak_bytes is None else f"{found.peak_bytes / MEBI:.0f}",
    ]


def _rms(errors: Floats) -> str:
    return f"{np.sqrt((errors**2).mean()):.2e}"


def _interval(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plot(problems: Mapping[str, Measured], path: Path) -> None:
    figure, axes = plt.subplots(
        len(problems), 2, figsize=(9, 3 * len(problems)), squeeze=False, layout="constrained"
    )
    for (left, right), measured in zip(axes, problems.values(), strict=True):
        for name, cells in measured.curves.items():
            curve = analysis.evaluations_curve(cells)
            label, colour, marker = LOOK[name]
            left.loglog(curve.cost, curve.errors(), marker=marker, ms=4, lw=1, color=colour, label=label)
        _draw_total(right, measured)
        left.set_title(measured.title, loc="left", fontsize=10)
        left.set_xlabel("network evaluations an image")
        left.set_ylabel("discretisation error, bits/dim")
        right.set_xlabel("forward passes an image")
        right.set_ylabel("total error, bits/dim")
    for each in axes.flat:
        each.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        each.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        each.xaxis.set_minor_formatter(NullFormatter())
        each.yaxis.set_minor_formatter(NullFormatter())
    # Under the columns: within the axes it would cover a curve.
    places: tuple[Place, Place] = ("outside lower left", "outside lower right")
    for column, place in zip(axes.T, places, strict=True):
        handles, labels = column[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc=place, fontsize=8, ncols=1)
    figure.savefig(path)
    plt.close(figure)


def _draw_total(axes: Axes, measured: Measured) -> None:
    for label, names, look in (
        ("the paper's, probes averaged", [n for n in measured.total if n.startswith("paper-")], "scipy"),
        ("adams' presets", [n for n in measured.total if n in PRESETS], "adams"),
        ("adams, 1, 4 and 9 colours", ["default", *COLOURS], "coloured"),
    ):
        found = [analysis.passes(measured, name) for name in names]
        errors = [float(np.sqrt(squares.mean())) for _, squares in found]
        _, colour, marker = LOOK[look]
        axes.loglog([cost for cost, _ in found], errors, marker=marker, ms=4, lw=1, color=colour, label=label)
