"""The random numbers of samples, each a function of (seed, purpose, image id, step).

Never of a batch, an order or a threshold: image 7 starts from the same noise under every eta.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import _core, schedules
from merged_diffusion.ode.items import Keys
from merged_diffusion.ode.placing import placed


class Noise:
    """Standard normal numbers [B, C, H, W], float64, of the images ``ids`` [B]."""

    def __init__(self, seed: int, ids: Keys, shape: tuple[int, int, int], device: torch.device) -> None:
        self._seed = seed
        self._ids = ids
        self._shape = shape
        self._device = schedules.home(device)

    def start(self) -> Tensor:
        """What the images begin with."""
        return self._drawn("start", 0)

    def step(self, number: int) -> Tensor:
        """What a step adds."""
        return self._drawn("sampling", number)

    def _drawn(self, purpose: str, draw: int) -> Tensor:
        noise = normal(self._seed, purpose, self._ids, int(np.prod(self._shape)), draw)
        return placed(noise, self._device).view(-1, *self._shape)


def normal(seed: int, purpose: str, ids: Keys, dim: int, draw: int = 0) -> npt.NDArray[np.float64]:
    """Rows [B, d] of the images ``ids``."""
    noise = np.empty((len(ids), dim))
    _core.fill_normal(noise, seed, purpose, ids, np.full(len(ids), draw, dtype=np.uint64))
    return noise


def decoding_uniforms(seed: int, ids: Keys, dim: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in (0, 1), rows [B, d], that choose grey levels."""
    found = np.empty((len(ids), dim))
    _core.fill_uniform(found, 0.0, 1.0, seed, "decoding", ids, np.zeros(len(ids), dtype=np.uint64))
    return found
