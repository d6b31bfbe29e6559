"""Small images in grids (figures 7 to 10).

Pixels are shown as they are, without smoothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from merged_diffusion.data.mosaic import mosaic
from merged_diffusion.plots.look import blank

Images = npt.NDArray[np.uint8]


def grid(images: Images, *, levels: int = 256, columns: int | None = None) -> Figure:
    """Figures 7 to 10: images side by side."""
    sheet = mosaic(images, levels, columns=columns)
    height, width = sheet.shape[:2]
    figure, axes = blank(6.4, max(0.8, 6.4 * height / width))
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return figure
