"""The clock gamma = -log SNR, for tensors: the core's formulas where they must run on the device.

alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma), EDM's sigma = sigma/alpha = exp(gamma/2)
(Kingma et al. 2021, eq. 1-3; Karras et al. 2022, table 1). All in float64, so where a device has none (mps)
the clock stays on the host; ``tests/test_schedules.py`` pins them to ``merged_diffusion._core`` over gamma in
[-60, 60].
"""

from __future__ import annotations

import torch
from torch import Tensor


def alpha(gamma: Tensor) -> Tensor:
    """Scale of the data in z = alpha x + sigma eps."""
    return torch.sigmoid(-gamma.double()).sqrt()


def sigma(gamma: Tensor) -> Tensor:
    """Scale of the noise in z = alpha x + sigma eps."""
    return torch.sigmoid(gamma.double()).sqrt()


def edm_sigma(gamma: Tensor) -> Tensor:
    """Noise level in units of the data, sigma/alpha."""
    return (gamma.double() / 2).exp()


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """``values`` [B] in the dtype, on the device and with the number of axes of ``like`` [B, C, H, W]."""
    return as_input(values, like).view(-1, *(1,) * (like.dim() - 1))


def as_input(values: Tensor, like: Tensor) -> Tensor:
    """Float64 ``values`` in the dtype and on the device of ``like``: rounded first, then moved."""
    return values.to(like.dtype).to(like.device)


def home(device: torch.device) -> torch.device:
    """Where float64 numbers for a device live: on the host for mps, which has none, else there itself."""
    return torch.device("cpu") if device.type == "mps" else device


def widened(z: Tensor) -> Tensor:
    """``z`` in float64, at `home`."""
    return z.to(home(z.device)).double()
