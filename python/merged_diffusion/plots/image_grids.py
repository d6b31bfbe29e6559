"""Small images in grids (figures 7 to 10) and strips (figures 3 and 6: one row per threshold, same noise).

Pixels are shown as they are, without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from merged_diffusion.data.mosaic import GAP, mosaic
from merged_diffusion.plots.look import INK, blank

Images = npt.NDArray[np.uint8]


def grid(images: Images, *, levels: int = 256, columns: int | None = None) -> Figure:
    """Figures 7 to 10: images side by side."""
    sheet = mosaic(images, levels, columns=columns)
    height, width = sheet.shape[:2]
    figure, axes = blank(6.4, max(0.8, 6.4 * height / width))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return figure


def strips(rows: Sequence[tuple[str, Images]], *, levels: int = 256) -> Figure:
    """Figures 3 and 6: a named row of images per model, column by column from the same noise."""
    sheet = mosaic(np.concatenate([images for _, images in rows]), levels, columns=len(rows[0][1]))
    height, width = sheet.shape[:2]
    figure, axes = blank(6.4, max(1.0, 5.7 * height / width + 0.1))
    axes.imshow(sheet, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    pitch = rows[0][1].shape[2] + GAP
    axes.set_xticks([])
    axes.set_yticks([k * pitch + (pitch - GAP - 1) / 2 for k in range(len(rows))], [name for name, _ in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    return figure
