"""How figures look: colours that the colour-blind can tell apart, few lines, ink that follows the page.

Figures are drawn in `INK`; `svg` turns it into ``currentColor``, so that one picture serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# After Okabe and Ito's palette for the colour-blind; each stands out from white and from a dark page.
COLOURS: Final[Mapping[str, str]] = {
    "merged": "#009E73",
    "likelihood": "#3A8FD1",
    "quality": "#D55E00",
    "gate": "#E69F00",
    "ancestral": "#B8689B",
}
CYCLE: Final = ("#009E73", "#B8689B", "#E69F00", "#56B4E9")
INK: Final = "#123321"  # occurs in no palette: `svg` replaces it
FAINT: Final = 0.25
ROOM: Final = 0.1  # inches round a figure: words of an SVG are wider than they were measured
FONT: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def blank(width: float = 5.0, height: float = 3.4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes: no frame above and to the right, a faint grid across."""
    with mpl.rc_context(FONT):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=ROOM, h_pad=ROOM / 2))
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=INK, alpha=FAINT / 2, linewidth=0.6)
    axes.set_axisbelow(True)
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    return figure, axes


def text(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Words at a point of the data, in ink unless another colour is given."""
    style = {"color": INK, "fontsize": 9, "family": FONT["font.family"]} | style
    axes.annotate(words, (x, y), textcoords="offset points", **style)


def label_y(axes: Axes, words: str) -> None:
    """What is drawn upwards; broken before its bracket where one line is longer than the axis."""
    label = axes.set_ylabel(words)
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.draw_without_rendering()
        if label.get_window_extent().height > axes.get_window_extent().height:
            label.set_text(words.replace(" (", "\n(", 1))


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions as near to the wanted ones as a distance of ``gap`` between neighbours allows.

    Neighbours that are too close form a block about their common mean, which blocks in its way join.
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    blocks: list[list[int]] = []
    for k in order:
        blocks.append([k])
        while len(blocks) > 1 and _first(blocks[-1], wanted, gap) - _last(blocks[-2], wanted, gap) < gap:
            last = blocks.pop()
            blocks[-1] += last
    placed = [0.0] * len(wanted)
    for block in blocks:
        for position, k in enumerate(block):
            placed[k] = _first(block, wanted, gap) + position * gap
    return placed


def _first(block: Sequence[int], wanted: Sequence[float], gap: float) -> float:
    return sum(wanted[k] for k in block) / len(block) - gap * (len(block) - 1) / 2


def _last(block: Sequence[int], wanted: Sequence[float], gap: float) -> float:
    return _first(block, wanted, gap) + gap * (len(block) - 1)


def svg(figure: Figure, name: str) -> str:
    """The figure as one ``<svg>`` element for a page, its ids made the page's own by ``name``.

    Without prolog, namespaces and metadata, so that it refers to nothing elsewhere.
    """
    stream = io.StringIO()
    with mpl.rc_context(FONT | {"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    found = stream.getvalue()
    found = found[found.index("<svg") :]
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(r' xmlns(:\w+)?="[^"]*"', "", found).replace("xlink:href", "href")
    found = found.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    found = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', found)
    found = re.sub(r'(url\(|href=")#', rf"\1#{name}-", found)
    return found.replace(INK, "currentColor").replace(INK.lower(), "currentColor")
