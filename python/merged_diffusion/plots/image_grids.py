"""Small images in grids (figures 7 to 10) and strips (figures 3 and 6: one row per threshold, same noise).

Pixels are shown as they are, without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from merged_diffusion.plots.look import INK, blank

Images = npt.NDArray[np.unsignedinteger[Any]]
GAP = 1  # pixels between images


def mosaic(images: Images, *, levels: int = 256, columns: int | None = None) -> npt.NDArray[np.uint8]:
    """Images [N, C, H, W] as one RGBA picture [rows (H + 1) - 1, columns (W + 1) - 1, 4], clear gaps."""
    n, channels, height, width = images.shape
    across = columns or ceil(sqrt(n))
    down = ceil(n / across)
    sheet = np.zeros((down * (height + GAP) - GAP, across * (width + GAP) - GAP, 4), dtype=np.uint8)
    grey = np.rint(images.astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    colour = np.repeat(grey, 3, axis=1) if channels == 1 else grey
    for k, image in enumerate(colour):
        top, left = (k // across) * (height + GAP), (k % across) * (width + GAP)
        sheet[top : top + height, left : left + width, :3] = image.transpose(1, 2, 0)
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet


def grid(images: Images, *, levels: int = 256, columns: int | None = None) -> Figure:
    """Figures 7 to 10: images side by side."""
    sheet = mosaic(images, levels=levels, columns=columns)
    height, width = sheet.shape[:2]
    figure, axes = blank(6.4, max(0.8, 6.4 * height / width))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return figure


def strips(rows: Sequence[tuple[str, Images]], *, levels: int = 256) -> Figure:
    """Figures 3 and 6: a named row of images per model, column by column from the same noise."""
    sheet = mosaic(np.concatenate([images for _, images in rows]), levels=levels, columns=len(rows[0][1]))
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
