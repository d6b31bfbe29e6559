"""Views of a photograph: squares at many scales, each reduced to 32 x 32 pixels.

A view is at least 64 pixels and a thirtieth of the photograph's width wide, so that every pixel of it stands
for several, and neither blocks of a JPEG nor a sharpener's edges are left. One in which no colour varies
by ``CONTRAST`` is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataError

SIZE: Final = 32
NARROWEST: Final = 1 / 30  # of the width
WIDEST_APART: Final = 0.4  # of the shorter side
CONTRAST: Final = 4.0  # standard deviation over a view, in grey levels
TRIES: Final = 2000  # of a place for a view among others
ROUNDS: Final = 50

Pixels = npt.NDArray[np.uint8]


def views_anywhere(file: Path, n: int, *, seed: int) -> Pixels:
    """``n`` views [n, 3, 32, 32] that differ, at any place.

    The logarithm of the side is uniform up to the shorter side of the photograph.
    """
    photo, random = _Photo(file), np.random.RandomState(seed)
    low, high = photo.narrowest, float(min(photo.width, photo.height))
    views: dict[bytes, Pixels] = {}
    for _ in range(ROUNDS * n):
        side = int(low * (high / low) ** random.random_sample())
        view = photo.view(*photo.place(side, random), side)
        if view is not None:
            views.setdefault(view.tobytes(), view)
        if len(views) == n:
            return np.stack(list(views.values()))
    raise DataError(f"{file}: only {len(views)} of {n} views differ and show something", file=str(file))


def views_apart(file: Path, n: int, *, seed: int) -> Pixels:
    """``n`` views [n, 3, 32, 32], none of which shows what another shows.

    Their sides fall from `WIDEST_APART` of the photograph's shorter side to the narrowest.
    """
    photo, random = _Photo(file), np.random.RandomState(seed)
    high = WIDEST_APART * min(photo.width, photo.height)
    falling = (np.arange(n) / (n - 1)) ** 0.7
    sides = [int(high * (photo.narrowest / high) ** share) for share in falling]
    for _ in range(ROUNDS):
        views = _packed(photo, sides, random)
        if len(views) == n:
            return np.stack(views)
    raise DataError(f"{file}: no room for {n} views apart", file=str(file))


def _packed(photo: _Photo, sides: list[int], random: np.random.RandomState) -> list[Pixels]:
    """Views of these sides at places apart, the first ones that do not find room left out with all after."""
    squares: list[tuple[int, int, int]] = []
    views: list[Pixels] = []
    for side in sides:
        for _ in range(TRIES):
            x, y = photo.place(side, random)
            if all(x + side <= a or a + s <= x or y + side <= b or b + s <= y for a, b, s in squares):
                view = photo.view(x, y, side)
                if view is not None:
                    squares.append((x, y, side))
                    views.append(view)
                    break
        else:
            break
    return views


class _Photo:
    """A photograph and its halves, quarters and so on.

    A view is cut from the smallest of them that has four pixels each way for one of the view.
    """

    def __init__(self, file: Path) -> None:
        from PIL import Image

        with Image.open(file) as image:
            whole = image.convert("RGB")
        self.width, self.height = whole.size
        self.narrowest = max(2.0 * SIZE, NARROWEST * self.width)
        self.reduced: dict[int, Image.Image] = {1: whole}
        factor = 2
        while min(self.width, self.height) // factor >= 4 * SIZE:
            self.reduced[factor] = whole.reduce(factor)
            factor *= 2

    def place(self, side: int, random: np.random.RandomState) -> tuple[int, int]:
        """A place at which a square of this side lies within."""
        x = int(random.randint(self.width - side + 1))
        return x, int(random.randint(self.height - side + 1))

    def view(self, x: int, y: int, side: int) -> Pixels | None:
        """The square [3, 32, 32] whose upper left corner is there, or None where it shows nothing."""
        from PIL import Image

        factor = max(f for f in self.reduced if f == 1 or side >= 4 * SIZE * f)
        image = self.reduced[factor]
        ends = min((x + side) / factor, image.width), min((y + side) / factor, image.height)
        small = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=(x / factor, y / factor, *ends))
        pixels: Pixels = np.asarray(small, dtype=np.uint8).transpose(2, 0, 1)
        contrast = pixels.reshape(3, -1).std(axis=1).max()
        return pixels if contrast >= CONTRAST else None
