"""What the two kinds of expert minimise, for x [B, C, H, W] in [-1, 1] and noise eps of the same shape.

Both are means over all values of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import alpha, per_image, sigma


def noised(x: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
    """z = alpha x + sigma eps at ``gamma`` [B] (Kingma et al. 2021, eq. 1)."""
    return per_image(alpha(gamma), x) * x + per_image(sigma(gamma), x) * eps


def likelihood_loss(expert: VdmExpert, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """|eps - eps_hat|^2 with gamma uniform on the expert's range: the bound's weight (Kingma et al. 2021, eq. 15).

    ``t`` [B] in [0, 1) is the position in that range.
    """
    low, high = expert.gamma_range
    gamma = low + (high - low) * t.double()
    return (expert(noised(x, eps, gamma), gamma) - eps).square().mean()


def quality_loss(
    expert: EdmExpert, x: Tensor, eps: Tensor, normal: Tensor, p_mean: float, p_std: float
) -> Tensor:
    """Karras et al. 2022, eq. 8: lambda(s) |D - x|^2, ln s = p_mean + p_std * ``normal`` [B].

    With their lambda = r^2/(s s_d)^2 it is |F - (s x/s_d - s_d eps)/r|^2, free of cancellation.
    """
    s = (p_mean + p_std * normal.double()).exp()
    s_d = expert.data_std
    r = torch.hypot(s, torch.full_like(s, s_d))
    target = (per_image(s / s_d, x) * x - s_d * eps) / per_image(r, x)
    raw = expert.raw((x + per_image(s, x) * eps) / per_image(r, x), s)
    return (raw - target).square().mean()
