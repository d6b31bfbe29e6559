"""Figures from results: functions that return matplotlib's ``Figure``, without pyplot and its global state.

Curves over the threshold, the trade-off of likelihood against sample quality, loss profiles over gamma, the
legs of a merged model, histograms (`curves`); grids and strips of small images (`image_grids`). `svg` writes
a figure for a page, its text as text.
"""

from merged_diffusion.plots.curves import (
    Curve,
    Level,
    Point,
    histogram,
    legs,
    over_eta,
    profiles,
    trade_off,
)
from merged_diffusion.plots.image_grids import grid, strips
from merged_diffusion.plots.look import COLOURS, svg

__all__ = [
    "COLOURS",
    "Curve",
    "Level",
    "Point",
    "grid",
    "histogram",
    "legs",
    "over_eta",
    "profiles",
    "strips",
    "svg",
    "trade_off",
]
