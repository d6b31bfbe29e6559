"""Sines and cosines of a time or a noise level, as networks of diffusion models are told it.

[sin(f_0 u), ..., sin(f_{h-1} u), cos(f_0 u), ..., cos(f_{h-1} u)],  f_i = 10000^(-i/(h - 1)),  h = n/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from merged_diffusion.schedules import as_input, widened


def sinusoids(u: Tensor, n: int, like: Tensor) -> Tensor:
    """The embedding [B, n] of ``u`` [B], in the dtype and on the device of ``like``.

    Differs from the public code: phases are formed in float64; in float32 that of u = 1000 loses 3e-5.
    """
    half, wide = n // 2, widened(u)
    exponents = torch.arange(half, dtype=torch.float64, device=wide.device) / max(half - 1, 1)
    phases = wide[:, None] * 10000**-exponents
    return as_input(torch.cat([phases.sin(), phases.cos()], dim=1), like)
