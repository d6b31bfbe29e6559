"""Images beside each other in one picture: how a file of samples, a notebook and a person see a set."""

from __future__ import annotations

import base64
import html
import io
import math
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

SMALLEST: Final = 64  # pixels of a tile, at least
GREY_LEVELS: Final = 256  # of a picture
SHOWN: Final = 64  # images in a notebook
GAP: Final = 1  # pixels between images

Pixels = npt.NDArray[np.uint8]


def as_shown(images: Pixels, levels: int) -> Pixels:
    """Images [N, C, H, W] of L levels as people see them: round(255 v/(L - 1))."""
    if levels == GREY_LEVELS:
        return images
    return np.rint(255.0 * images / (levels - 1)).astype(np.uint8)


def mosaic(images: Pixels, levels: int, *, columns: int | None = None, scale: int = 1) -> Pixels:
    """Images in rows as one RGBA picture, each pixel ``scale`` wide, with a white and clear line between.

    [rows (scale H + 1) - 1, columns (scale W + 1) - 1, 4]; by default about as many rows as columns.
    """
    n, _, height, width = images.shape
    across = columns or math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    tiles = as_shown(images, levels).transpose(0, 2, 3, 1).repeat(scale, 1).repeat(scale, 2)
    step = height * scale + GAP, width * scale + GAP
    page = np.full((down * step[0] - GAP, across * step[1] - GAP, 4), 255, dtype=np.uint8)
    page[..., 3] = 0
    for number, tile in enumerate(tiles):
        top, left = (i * length for i, length in zip(divmod(number, across), step, strict=True))
        place = page[top : top + tile.shape[0], left : left + tile.shape[1]]
        place[..., :3], place[..., 3] = tile, 255  # grey is broadcast
    return page


def picture(images: Pixels, levels: int) -> Pixels:
    """All images in a picture to look at [H', W', 3]: small ones are enlarged pixel by pixel."""
    return mosaic(images, levels, scale=max(1, SMALLEST // max(images.shape[2:])))[..., :3]


def html_mosaic(images: Pixels, levels: int, caption: str) -> str:
    """The first images as a picture in HTML, for a notebook."""
    content = io.BytesIO()
    Image.fromarray(picture(images[:SHOWN], levels)).save(content, "PNG")
    source = base64.b64encode(content.getvalue()).decode()
    more = f", the first {SHOWN} are shown" if len(images) > SHOWN else ""
    return (
        f"<figure><figcaption>{html.escape(caption + more)}</figcaption>"
        f'<img src="data:image/png;base64,{source}" alt="{html.escape(caption)}"></figure>'
    )
