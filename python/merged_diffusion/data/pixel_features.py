"""What pixels alone say of how many bits an image costs: numbers of each image that no network computes.

Rough images cost more bits than smooth ones, whatever the model. Over all neighbouring values of an image, d
being their differences in grey levels:

    roughness          log2(1 + mean |horizontal d| + mean |vertical d|)
    log differences    mean log2(1 + |d|)
    saturated          share of values at 0 or L - 1
    contrast           log2(1 + standard deviation of the values)
    flat               share of d that are 0
    chroma roughness   the roughness of red - green and of blue - green together, of colour images

They are the features of `merged_diffusion.estimate_mean`. The list is fixed: whoever chooses features by the
values that they are to predict has an error that no formula for fixed ones tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data

CHUNK: Final = 1 << 22  # values at a time
NAMES: Final = ("roughness", "log differences", "saturated", "contrast", "flat")
OF_COLOUR: Final = ("chroma roughness",)


@dataclass(frozen=True)
class PixelFeatures:
    """Features [N, p] of N images, and their names [p], in the order of their worth."""

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]


def pixel_features(data: Data) -> PixelFeatures:
    """The features of every image of ``data``: five of grey images, six of colour ones."""
    n, channels = data.images.shape[:2]
    rows = max(1, CHUNK // max(1, data.images[0].size)) if n else 1
    chunks = [_features(data.images[at : at + rows], data.levels) for at in range(0, n, rows)]
    return PixelFeatures(NAMES + (OF_COLOUR if channels == 3 else ()), np.concatenate(chunks))


def _features(images: npt.NDArray[np.uint8], levels: int) -> npt.NDArray[np.float64]:
    pixels = images.astype(np.int32)
    across, down = _differences(pixels)
    both = np.concatenate([across, down], axis=1)
    flat = pixels.reshape(len(pixels), -1)
    logarithms = np.log2(1 + np.arange(levels))
    columns = [
        _roughness(across, down),
        _mean(logarithms[both]),
        _mean((flat == 0) | (flat == levels - 1)),
        np.log2(1 + flat.std(axis=1)),
        _mean(both == 0),
    ]
    if pixels.shape[1] == 3:
        columns.append(_roughness(*_differences(pixels[:, [0, 2]] - pixels[:, [1]])))
    return np.stack(columns, axis=1)


def _differences(pixels: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Sizes of horizontal and of vertical ones, [n, any]."""
    across, down = (np.abs(np.diff(pixels, axis=axis)).reshape(len(pixels), -1) for axis in (3, 2))
    return across, down


def _roughness(across: npt.NDArray[np.int32], down: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.log2(1 + _mean(across) + _mean(down))
    return found


def _mean(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Over each image [n]; 0 of none, such as differences within a row of one pixel."""
    if not values.shape[1]:
        return np.zeros(len(values))
    found: npt.NDArray[np.float64] = values.astype(np.float64).mean(axis=1)
    return found
