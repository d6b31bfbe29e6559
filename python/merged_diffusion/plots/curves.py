"""Curves and points: what was measured over the threshold, with its standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from merged_diffusion.plots.look import COLOURS, CYCLE, FAINT, INK, blank, label_y, spread, text
from merged_diffusion.roles import Span, roles_in

# Where a point's name may stand, in points: beside its error bars first, then on them.
SIDES: Final = (
    *((5, 5, "left"), (5, -13, "left"), (-5, 5, "right"), (-5, -13, "right")),
    *((8, -3, "left"), (-8, -3, "right")),
)
LINE: Final = 0.055  # a line of text, as a part of the height of the axes


@dataclass(frozen=True)
class Curve:
    """A quantity at thresholds ``eta``, with standard errors or None; ``name`` is empty for the only one."""

    name: str
    eta: Sequence[float]
    value: Sequence[float]
    error: Sequence[float | None]


@dataclass(frozen=True)
class Level:
    """What an expert alone has: a line across, in the colour of its ``role``."""

    role: str
    name: str
    value: float
    error: float | None = None


@dataclass(frozen=True)
class Point:
    """A model in the trade-off: bits/dim across, distance upwards."""

    name: str
    role: str
    bits_per_dim: float
    distance: float
    bits_error: float | None = None
    distance_error: float | None = None


def over_eta(curves: Sequence[Curve], levels: Sequence[Level], *, unit: str) -> Figure:
    """Figures 2, 4 and 5: a quantity over the threshold, the experts alone as lines, labels at the ends."""
    figure, axes = blank()
    labels: list[tuple[float, str, str]] = []
    for level in levels:
        colour = COLOURS[level.role]
        axes.axhline(level.value, color=colour, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
        if level.error is not None:
            axes.axhspan(
                level.value - level.error, level.value + level.error, color=colour, alpha=0.1, linewidth=0
            )
        labels.append((level.value, level.name, colour))
    for curve, colour in zip(curves, _colours(curves), strict=True):
        axes.errorbar(
            curve.eta,
            curve.value,
            yerr=_errors(curve.error),
            color=colour,
            marker="o",
            markersize=4.5,
            linewidth=1.6,
            capsize=2.5,
            elinewidth=1,
            label=curve.name or None,
        )
        if len(curve.eta):
            labels.append((curve.value[-1], curve.name or "merged", colour))
    # From the left end: below the names at the right there is room, to the left of the axis there is none.
    axes.set_xlabel("threshold η  (0: quality expert … 1: likelihood expert)", loc="left")
    axes.margins(x=0.03)
    _label_right(axes, labels)
    label_y(axes, unit)
    return figure


def trade_off(points: Sequence[Point], *, distance: str) -> Figure:
    """Likelihood against sample quality; below and to the left is better, points carry their threshold."""
    figure, axes = blank(5.0, 4.0)
    merged = [point for point in points if point.role == "merged"]
    axes.plot(
        [point.bits_per_dim for point in merged],
        [point.distance for point in merged],
        color=COLOURS["merged"],
        linewidth=1.2,
        alpha=0.6,
        label="merged",
    )
    for point in points:
        colour = COLOURS[point.role]
        axes.errorbar(
            [point.bits_per_dim],
            [point.distance],
            xerr=_errors([point.bits_error]),
            yerr=_errors([point.distance_error]),
            color=colour,
            marker="o" if point.role == "merged" else "D",
            markersize=5.5,
            ecolor=(colour, 0.35),
            elinewidth=0.8,
            capsize=0,
        )
    axes.margins(0.12)
    axes.set_xlabel("bits/dim (less is better)")
    label_y(axes, f"{distance} (less is better)")
    _label_points(figure, axes, points)
    return figure


def profiles(
    gammas: npt.NDArray[np.float64],
    losses: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]],
    *,
    crossing: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Figure:
    """The loss |eps - eps_hat|^2 per dimension of each expert over gamma [G], and where the two cross.

    ``losses`` maps a role to its mean [G] and standard error [G]; NaN where the expert was not asked.
    """
    figure, axes = blank()
    labels = []
    for role, (mean, error) in losses.items():
        axes.plot(gammas, mean, color=COLOURS[role], linewidth=1.8, label=role)
        if error is not None:
            axes.fill_between(gammas, mean - error, mean + error, color=COLOURS[role], alpha=0.2, linewidth=0)
        known = np.flatnonzero(np.isfinite(mean))
        if known.size:
            labels.append((float(mean[known[-1]]), role, COLOURS[role]))
    if interval is not None:
        axes.axvspan(*interval, color=INK, alpha=0.08, linewidth=0)
    if crossing is not None:
        axes.axvline(crossing, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(
            f"crossing at γ = {crossing:.2f}",
            (crossing, 1),
            xycoords=("data", "axes fraction"),
            xytext=(5, -10),
            textcoords="offset points",
            color=INK,
            fontsize=9,
        )
    axes.set_xlabel("γ = −log SNR  (data … noise)")
    axes.set_ylabel("loss per dimension")
    _label_right(axes, labels)
    return figure


def histogram(values: Mapping[str, npt.NDArray[np.float64]], *, bins: int = 30) -> Figure:
    """Bits/dim of the images under each model, on common bins; a tick of its colour at each mean."""
    figure, axes = blank()
    together = np.concatenate([np.asarray(v, dtype=np.float64) for v in values.values()])
    edges = np.histogram_bin_edges(together, bins=min(bins, max(5, 2 * int(np.sqrt(len(together))))))
    highest = 0.0
    labels = []
    for role, own in values.items():
        counts, _ = np.histogram(own, bins=edges)
        colour = COLOURS.get(role, CYCLE[0])
        is_filled = role == "merged" or len(values) == 1
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=role)
        if is_filled:
            axes.stairs(counts, edges, color=colour, alpha=0.2, fill=True)
        highest = max(highest, float(counts.max()))
        labels.append((float(np.mean(own)), role, colour))
    axes.set_ylim(0, highest * (1.12 + 0.1 * len(labels)))
    for row, (mean, role, colour) in enumerate(sorted(labels, reverse=True)):
        height = highest * (1.06 + 0.1 * row)
        axes.plot([mean, mean], [0, height], color=colour, linewidth=1, linestyle=(0, (2, 2)))
        text(axes, mean, height, f"{role}, mean {mean:.3f}", xytext=(4, -3), color=colour)
    axes.set_xlabel("bits/dim of an image")
    axes.set_ylabel("images")
    return figure


def legs(
    parts: Sequence[Span], ranges: Mapping[str, tuple[float, float]], *, eta: float | None = None
) -> Figure:
    """Figure 1: over gamma, where each expert was trained (pale) and where it is in charge (full).

    ``parts`` run from data to noise; several experts may be in charge of one.
    """
    figure, axes = blank(5.0, 1.8)
    axes.grid(visible=False)
    axes.spines[["left"]].set_visible(False)
    roles = list(dict.fromkeys([*(role for part in parts for role in roles_in(part.role)), *ranges]))
    colours = {role: COLOURS.get(role, CYCLE[number % len(CYCLE)]) for number, role in enumerate(roles)}
    for height, role in enumerate(reversed(roles)):
        if role in ranges:
            low, high = ranges[role]
            axes.barh(height, high - low, left=low, height=0.5, color=colours[role], alpha=FAINT, linewidth=0)
    for part in parts:
        for role in roles_in(part.role):
            height = len(roles) - 1 - roles.index(role)
            width = part.end - part.start
            axes.barh(height, width, left=part.start, height=0.5, color=colours[role], linewidth=0)
    is_switch = len(parts) == 2
    if is_switch:
        switch = parts[0].end
        axes.axvline(switch, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        words = f"γ = {switch:.2f}" if eta is None else f"η = {eta:.4g}, γ = {switch:.2f}"
        low, high = min(p.start for p in parts), max(p.end for p in parts)
        is_right = switch > (low + high) / 2
        text(
            axes,
            switch,
            len(roles) - 0.42,
            words,
            xytext=(-5 if is_right else 5, 0),
            ha="right" if is_right else "left",
        )
    axes.set_ylim(-0.5, len(roles) - (0.1 if is_switch else 0.5))
    names = [role if role.startswith("expert-") else f"{role} expert" for role in reversed(roles)]
    axes.set_yticks(range(len(roles)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("γ = −log SNR  (data … noise)")
    return figure


def _colours(curves: Sequence[Curve]) -> list[str]:
    return [CYCLE[k % len(CYCLE)] for k in range(len(curves))]


def _errors(errors: Sequence[float | None]) -> list[float] | None:
    return None if any(error is None for error in errors) else [float(e) for e in errors if e is not None]


def _label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right border at the height of their values, moved apart where they would touch."""
    axes.autoscale_view()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = spread([(value - low) / (high - low) for value, _, _ in labels], 1.25 * LINE)
    for (_, name, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            name,
            (1, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
            annotation_clip=False,
        )


def _label_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Each point's name on that side of it where it covers no other point or name; none where all do.

    The experts' come first.
    """
    points = sorted(points, key=lambda point: point.role == "merged")
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    where = axes.transData.transform([(p.bits_per_dim, p.distance) for p in points])
    border = axes.get_window_extent()
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in where]
    for point, (x, y) in zip(points, where, strict=True):
        width, height = (5.6 * len(point.name) + 2) * scale, 11 * scale
        for dx, dy, ha in SIDES:
            left = x + dx * scale - (width if ha == "right" else 0)
            box = (left, y + dy * scale, left + width, y + dy * scale + height)
            inside = (
                box[0] >= border.x0 and box[2] <= border.x1 and box[1] >= border.y0 and box[3] <= border.y1
            )
            if inside and not any(_touch(box, other) for other in taken):
                taken.append(box)
                text(
                    axes,
                    point.bits_per_dim,
                    point.distance,
                    point.name,
                    xytext=(dx, dy),
                    ha=ha,
                    color=COLOURS[point.role],
                )
                break


def _touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
