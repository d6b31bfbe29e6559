"""The likelihood expert: a network that predicts eps from z (Kingma et al. 2021, section 5 and appendix C).

eps_hat(z, gamma) = z + net([z, sin(w z), cos(w z)], u),  u = (gamma - gamma_low)/(gamma_high - gamma_low),

where the network's own gamma_low and gamma_high are those of its card for a bundled one, and [-13.3, 5] for
the public ones, whatever ends of gamma were learned. One that predicts F = (eps - sigma z)/alpha instead, the
velocity of Zheng et al. 2023, has  eps_hat = alpha F + sigma z.

``sp`` is their other schedule, a straight path: sigma' = sigmoid(gamma/2), alpha' = 1 - sigma', of the same
SNR as alpha, sigma. Its z' = alpha' x + sigma' eps = z/(alpha + sigma) does not preserve the variance; the
network is given z', and its velocity F = (eps - x)/sqrt(2) has  eps_hat = sqrt(2) alpha' F + z'  (i-DODE's
model_vdm.py).

The Fourier features have periods of a few grey levels, w = pi L / period: at low noise the network sees on
which grey level a pixel lies. In the bundled networks each is multiplied by exp(-(w sigma)^2 / 8). This
differs from Kingma et al. 2021, appendix C, because a feature whose phase is lost in the noise carries
nothing and makes the flow stiff.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.base import described
from merged_diffusion.experts.nets import small, vdm_unet
from merged_diffusion.schedules import alpha, as_input, per_image, sigma

Predicts = Literal["eps", "velocity"]
Input = Literal["vp", "sp"]


class VdmExpert(nn.Module):
    """A network of z, which predicts eps or the velocity, on its own gamma range.

    A bundled network is its ``net``; a public one, of ``architecture = "vdm-unet"``, is its ``model``, so
    that the expert's state has the keys of the public files.
    """

    kind = "vdm"
    conditional = False
    waves: Tensor

    def __init__(
        self,
        name: str,
        network: Mapping[str, object],
        *,
        image_shape: tuple[int, int, int],  # 0 in H, W: any
        levels: int,
        gamma_range: tuple[float, float],
        pixels: Literal["centred", "ends"] = "centred",
        periods: Sequence[float] = (),
        predicts: Predicts = "eps",
        input: Input = "vp",  # noqa: A002 (the card's word)
    ) -> None:
        super().__init__()
        self.provenance: dict[str, str] = {}  # filled in where weights are loaded
        self.meaning: str | None = None  # likewise
        self.name, self.levels, self.pixels = name, levels, pixels
        self.image_shape = (image_shape[0], image_shape[1] or None, image_shape[2] or None)
        self._sizes = image_shape
        self.gamma_range = gamma_range
        self.predicts = predicts
        self.input = input
        self.model: vdm_unet.VdmUnet | None = None
        architecture = network.get("architecture", "small")
        if architecture == "vdm-unet":
            self.model, self.time_range = vdm_unet.build(network, image_shape[0])
        elif architecture == "small":
            self._build_small(network, periods)
        else:
            raise CheckpointError(
                f"[network] architecture = {architecture!r:.100} is none of kind 'vdm'",
                hint="known: 'vdm-unet', 'small'",
                key="architecture",
                found=architecture,
            )

    def _build_small(self, network: Mapping[str, object], periods: Sequence[float]) -> None:
        self.time_range = self.gamma_range
        waves = [math.pi * self.levels / period for period in periods]
        # On the CPU even if parameters are meant to have no storage yet: no file brings it.
        buffer = torch.tensor(waves, dtype=torch.float32, device=torch.device("cpu"))
        self.register_buffer("waves", buffer, persistent=False)
        c_in = self._sizes[0] * (1 + 2 * len(periods))
        self.net = small.build(network, c_in, self._sizes)

    def __repr__(self) -> str:
        return described(self)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """eps_hat [B, C, H, W] at ``z`` [B, C, H, W] and ``gamma`` [B]; unconditional."""
        if self.input == "sp":
            return self._straight(z, gamma)
        out = self.raw(z, gamma)
        if self.predicts == "velocity":
            return per_image(alpha(gamma), z) * out + per_image(sigma(gamma), z) * z
        return out

    def _straight(self, z: Tensor, gamma: Tensor) -> Tensor:
        """eps_hat of a network of ``sp``."""
        both = alpha(gamma) + sigma(gamma)
        z = z * per_image(1 / both, z)
        out = self.raw(z, gamma)
        if self.predicts == "velocity":
            return per_image(math.sqrt(2) * alpha(gamma) / both, z) * out + z
        return out

    def raw(self, z: Tensor, gamma: Tensor) -> Tensor:
        """What the network predicts [B, C, H, W]."""
        low, high = self.time_range
        if self.model is None:
            u = (gamma - low) / (high - low)
            predicted: Tensor = z + self.net(self.features(z, gamma), as_input(u, z))
        else:
            # In the network's precision from gamma on, as it was trained: 2e-8 more of t moves the fastest
            # phase, that of 1000 t, by 2e-5, and a single-precision network's eps_hat as much.
            predicted = self.model(z, (as_input(gamma, z) - low) / (high - low))
        return predicted

    def features(self, z: Tensor, gamma: Tensor) -> Tensor:
        """``z`` and its damped sines and cosines [B, C (1 + 2 F), H, W], a bundled network's input."""
        spread = per_image(sigma(gamma), z)
        columns = [z]
        for wave in self.waves:
            damping = torch.exp(-((wave * spread) ** 2) / 8)
            columns += [damping * torch.sin(wave * z), damping * torch.cos(wave * z)]
        return torch.cat(columns, dim=1)
