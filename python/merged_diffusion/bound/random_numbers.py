"""The random numbers of the bound, by (seed, image, draw).

A draw counts repeats in its upper half and times in its lower one, from 1 up; 0 there is the offset of the
repeat's times. The highest bit marks the noise of a loss profile, whose draws count the gammas of its grid.
The reconstruction is of the latent that ``dequantise="decoder"`` would take.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.ode.items import Keys

Floats = npt.NDArray[np.float64]

REPEAT: Final = np.uint64(1 << 32)
PROFILE: Final = np.uint64(1 << 63)
MOST: Final = 1 << 31  # repeats, and times of one


def time_offsets(seed: int, ids: Keys, repeat: int) -> Floats:
    """Offsets u [N] in (0, 1): the times of a repeat are t_j = (j + u)/T."""
    found = np.empty((len(ids), 1))
    draws = np.full(len(ids), np.uint64(repeat) * REPEAT)
    _core.fill_uniform(found, 0.0, 1.0, seed, "training", ids, draws)
    return found[:, 0]


def time_draws(repeat: int, index: npt.NDArray[np.int64]) -> Keys:
    """Draws that name the diffusion noise of the times ``index`` of a repeat."""
    named: Keys = np.uint64(repeat) * REPEAT + index.astype(np.uint64) + np.uint64(1)
    return named


def profile_draws(index: npt.NDArray[np.int64]) -> Keys:
    """Draws that name the noise at the gammas ``index`` of a grid; the same for both experts of a pair."""
    named: Keys = PROFILE + index.astype(np.uint64)
    return named


def diffusion_noise(out: Floats, seed: int, ids: Keys, draws: Keys) -> None:
    """Fill ``out`` [M, d] with the eps of these images and draws."""
    _core.fill_normal(out, seed, "training", ids, draws)


def reconstruction_noise(seed: int, ids: Keys, repeat: int, dim: int) -> Floats:
    """Standard normal n [N, d] of the latent alpha x + sigma n at gamma_min."""
    found = np.empty((len(ids), dim))
    _core.fill_normal(found, seed, "dequantisation", ids, np.full(len(ids), repeat, dtype=np.uint64))
    return found
