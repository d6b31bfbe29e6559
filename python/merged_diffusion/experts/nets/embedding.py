"""Sines and cosines of a time or a noise level, as networks of diffusion models are told it.

Differs from the public code: phases are formed in float64; in float32 that of a time of 1000 loses 3e-5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from merged_diffusion.schedules import as_input, widened

SLOWEST = 10000.0


def sinusoids(u: Tensor, n: int, like: Tensor) -> Tensor:
    """[sin(f_i u), cos(f_i u)], f_i = 10000^(-i/(h - 1)), i = 0, ..., h - 1, h = n/2: the embedding [B, n].

    ``u`` is [B]; the result has the dtype of ``like`` and lies where it does.
    """
    half, wide = n // 2, widened(u)
    exponents = torch.arange(half, dtype=torch.float64, device=wide.device) / max(half - 1, 1)
    phases = wide[:, None] * SLOWEST**-exponents
    return as_input(torch.cat([phases.sin(), phases.cos()], dim=1), like)


def cosines(u: Tensor, n: int, like: Tensor) -> Tensor:
    """[cos(f_i u), sin(f_i u)], f_i = 10000^(-i/h): OpenAI's order and frequencies, of which none is 1/10000.

    An odd ``n`` ends with a zero.
    """
    half, wide = n // 2, widened(u)
    exponents = torch.arange(half, dtype=torch.float64, device=wide.device) / max(half, 1)
    phases = wide[:, None] * SLOWEST**-exponents
    waves = torch.cat([phases.cos(), phases.sin(), wide.new_zeros(len(wide), n % 2)], dim=1)
    return as_input(waves, like)


def fourier(u: Tensor, frequencies: Tensor, like: Tensor) -> Tensor:
    """[sin(2 pi f u), cos(2 pi f u)] of random ``frequencies`` [n/2]: the embedding [B, n]."""
    wide = widened(u)
    phases = wide[:, None] * (2 * math.pi * frequencies.to(wide))
    return as_input(torch.cat([phases.sin(), phases.cos()], dim=1), like)
