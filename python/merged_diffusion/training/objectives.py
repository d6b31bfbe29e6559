"""What the two kinds of expert minimise, for x [B, C, H, W] in [-1, 1] and noise eps of the same shape.

Both are means over all values of the batch. The laws of gamma draw from ``generator``, else from torch's
global one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import alpha, edm_sigma, per_image, sigma


def noised(x: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
    """The noised images z = alpha x + sigma eps at ``gamma`` [B] (Kingma et al. 2021, eq. 1)."""
    return per_image(alpha(gamma), x) * x + per_image(sigma(gamma), x) * eps


def likelihood_loss(expert: VdmExpert, x: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
    """|eps - eps_hat|^2 (Kingma et al. 2021, eq. 15); for the bound, ``gamma`` [B] is uniform."""
    eps_hat: Tensor = expert(noised(x, eps, gamma), gamma)
    return (eps_hat - eps).square().mean()


def quality_loss(
    expert: EdmExpert, x: Tensor, eps: Tensor, gamma: Tensor, cond: Tensor | None = None
) -> Tensor:
    """lambda(s) |D - x|^2 at s = exp(gamma/2), ``gamma`` [B] (Karras et al. 2022, eq. 8).

    ``cond`` [B] are classes. With their lambda = r^2/(s s_d)^2 it is |F - F*|^2, free of cancellation.
    """
    return quality_residual(expert, x, eps, gamma, cond).square().mean()


def quality_residual(
    expert: EdmExpert,
    x: Tensor,
    eps: Tensor,
    gamma: Tensor,
    cond: Tensor | None = None,
    augment: Tensor | None = None,
) -> Tensor:
    """F - F* [B, C, H, W], F* = (s x/s_d - s_d eps)/r with r^2 = s^2 + s_d^2 (Karras et al. 2022, eq. 8).

    ``augment`` [B, augment_dim] says what was done to the images.
    """
    s = edm_sigma(gamma)
    s_d = expert.data_std
    r = torch.hypot(s, torch.full_like(s, s_d))
    target = (per_image(s / s_d, x) * x - s_d * eps) / per_image(r, x)
    return expert.raw((x + per_image(s, x) * eps) / per_image(r, x), s, cond, augment) - target


def uniform_gammas(
    n: int, gamma_range: tuple[float, float], generator: torch.Generator | None = None
) -> Tensor:
    """``n`` equally spaced gammas with one random offset (Kingma et al. 2021, appendix I.1)."""
    low, high = gamma_range
    offset = torch.rand((), dtype=torch.float64, generator=generator)
    t = (offset + torch.arange(n, dtype=torch.float64) / n) % 1
    return low + (high - low) * t


def normal_gammas(
    n: int,
    gamma_range: tuple[float, float],
    p_mean: float,
    p_std: float,
    p_uniform: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``n`` gammas with ln s = gamma/2 normal (Karras et al. 2022, table 1).

    Differs from Karras et al. 2022: a share ``p_uniform`` is uniform on the range, because the tails of a
    narrow law leave the network untrained near both ends.
    """
    low, high = gamma_range
    gamma = 2 * (p_mean + p_std * torch.randn(n, dtype=torch.float64, generator=generator))
    anywhere = low + (high - low) * torch.rand(n, dtype=torch.float64, generator=generator)
    return torch.where(torch.rand(n, generator=generator) < p_uniform, anywhere, gamma)
