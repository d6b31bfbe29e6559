"""From z_min to grey levels v in 0..L-1.

    p(v | z) is proportional to exp(-(z/alpha - x_v)^2 / (2 s^2)),  s = sigma/alpha,  x_v = 2(v + 1/2)/L - 1

(Kingma et al. 2021, section 3.2). ``argmax`` takes the most probable level, as the public codes do;
``sample`` draws one, as the paper writes.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import MAX_LEVELS

REACH: Final = 9.0  # standard deviations; what lies beyond weighs less than 1e-17

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[Any]


def argmax(x: Floats, levels: int) -> Levels:
    """The level whose value lies next to x = z/alpha, uint8; uint16 above 256 levels."""
    nearest = np.floor((x + 1) * (levels / 2)).clip(0, levels - 1)
    return nearest.astype(np.uint8 if levels <= MAX_LEVELS else np.uint16)


def sampled(x: Floats, s: float, levels: int, uniforms: Floats) -> Levels:
    """Levels drawn from p(v | z) for x = z/alpha, by one uniform number each; s = 0 is `argmax`."""
    nearest = argmax(x, levels)
    reach = min(math.ceil(REACH * s * levels / 2), levels - 1)
    if reach == 0:
        return nearest
    # Image by image: the levels within reach are an axis more.
    return np.stack([_drawn(*row, s, levels, reach) for row in zip(x, nearest, uniforms, strict=True)])


def _drawn(x: Floats, nearest: Levels, uniforms: Floats, s: float, levels: int, reach: int) -> Levels:
    offsets = np.arange(-reach, reach + 1)
    candidates = nearest.astype(np.int64)[..., None] + offsets
    distance = (2 * (candidates + 0.5) / levels - 1 - x[..., None]) / s
    distance[(candidates < 0) | (candidates >= levels)] = np.inf
    # Relative to the most probable level, so that not all weights vanish where x lies outside [-1, 1].
    weights = np.exp(0.5 * (distance[..., reach : reach + 1] ** 2 - distance**2))
    cumulated = weights.cumsum(-1)
    chosen = (cumulated < uniforms[..., None] * cumulated[..., -1:]).sum(-1)
    found: Levels = np.take_along_axis(candidates, chosen[..., None], -1)[..., 0].astype(nearest.dtype)
    return found
