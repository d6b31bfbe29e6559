"""The likelihood expert: a network that predicts eps from z (Kingma et al. 2021, section 5 and appendix C).

eps_hat(z, gamma) = z + net([z, sin(w z), cos(w z)], u),  u = (gamma - gamma_min)/(gamma_max - gamma_min).

The Fourier features have periods of a few grey levels, w = pi L / period: at low noise the network sees on
which grey level a pixel lies. Differs from Kingma et al. 2021, appendix C: each feature is multiplied by
exp(-(w sigma)^2 / 8), because a feature whose phase is lost in the noise carries nothing and makes the flow
stiff.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from merged_diffusion.experts.nets import small
from merged_diffusion.schedules import per_image, sigma


class VdmExpert(nn.Module):
    """An eps-predicting network of z on its own gamma range."""

    kind = "vdm"
    conditional = False
    waves: Tensor

    def __init__(
        self,
        name: str,
        network: Mapping[str, object],
        *,
        image_shape: tuple[int, int, int],
        levels: int,
        gamma_range: tuple[float, float],
        pixels: Literal["centred", "ends"] = "centred",
        periods: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.provenance: dict[str, str] = {}  # filled in where weights are loaded
        self.name, self.levels, self.pixels = name, levels, pixels
        self.image_shape = image_shape
        self.gamma_range = gamma_range
        waves = torch.tensor([math.pi * levels / period for period in periods], dtype=torch.float32)
        self.register_buffer("waves", waves, persistent=False)
        c_in = image_shape[0] * (1 + 2 * len(periods))
        self.net = small.build(network, c_in, image_shape)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """eps_hat [B, C, H, W] at ``z`` [B, C, H, W] and ``gamma`` [B]; unconditional."""
        low, high = self.gamma_range
        u = ((gamma - low) / (high - low)).to(z.dtype)
        eps_hat: Tensor = z + self.net(self.features(z, gamma), u)
        return eps_hat

    def features(self, z: Tensor, gamma: Tensor) -> Tensor:
        """``z`` and its damped sines and cosines [B, C (1 + 2 F), H, W]."""
        spread = per_image(sigma(gamma), z)
        columns = [z]
        for wave in self.waves:
            damping = torch.exp(-((wave * spread) ** 2) / 8)
            columns += [damping * torch.sin(wave * z), damping * torch.cos(wave * z)]
        return torch.cat(columns, dim=1)
