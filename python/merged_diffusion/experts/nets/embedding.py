"""Sines and cosines of a time or a noise level, as networks of diffusion models are told it.

[sin(f_0 u), ..., sin(f_{h-1} u), cos(f_0 u), ..., cos(f_{h-1} u)],  f_i = 10000^(-i/(h - 1)),  h = n/2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoids(u: Tensor, n: int) -> Tensor:
    """The embedding float64 [B, n] of ``u`` [B].

    Differs from the public code: phases are formed in float64; in float32 that of u = 1000 loses 3e-5.
    """
    half = n // 2
    exponents = torch.arange(half, dtype=torch.float64, device=u.device) / max(half - 1, 1)
    phases = u.double()[:, None] * 10000**-exponents
    return torch.cat([phases.sin(), phases.cos()], dim=1)
