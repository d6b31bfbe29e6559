"""The quality expert: a preconditioned denoiser of y = z/alpha at noise s = sigma/alpha (Karras et al. 2022).

D(y; s) = c_skip y + c_out F(c_in y, ln(s)/4) with c_skip = s_d^2/r^2, c_out = s s_d/r, c_in = 1/r,
r^2 = s^2 + s_d^2 (their table 1), s_d the standard deviation of the data; eps_hat = (z - alpha D)/sigma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from merged_diffusion.experts.base import described
from merged_diffusion.experts.nets import by_name, small
from merged_diffusion.schedules import alpha, as_input, edm_sigma, per_image


class EdmExpert(nn.Module):
    """A denoiser of z/alpha seen as a noise predictor on its own gamma range.

    A bundled network is its ``net``; a public one, of any other ``architecture`` than "small", is its
    ``model``, so that the expert's state has the keys of EDM's files. One with ``label_dim`` is conditional.
    """

    kind = "edm"

    def __init__(
        self,
        name: str,
        network: Mapping[str, object],
        *,
        image_shape: tuple[int, int, int],
        levels: int,
        gamma_range: tuple[float, float],
        data_std: float,
        pixels: Literal["centred", "ends"] = "centred",
    ) -> None:
        super().__init__()
        self.provenance: dict[str, str] = {}  # filled in where weights are loaded
        self.meaning: str | None = None  # likewise
        self.name, self.levels, self.pixels = name, levels, pixels
        self.image_shape = image_shape
        self.gamma_range = gamma_range
        self.data_std = data_std
        self.model: nn.Module | None = None
        if network.get("architecture", "small") == "small":
            self.net = small.build(network, image_shape[0], image_shape)
        else:
            self.model = by_name.build(network, image_shape, ("small",))
        self.label_range = (-1, -1) if self.model is None else by_name.label_range(self.model)
        self.conditional = self.label_range[1] >= 0

    def __repr__(self) -> str:
        return described(self)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] at ``z`` [B, C, H, W] and ``gamma`` [B].

        ``cond`` are classes, int64 [B], -1 for none, or weights of classes [B, label_dim].

        Not (z - alpha D)/sigma: in float32 that difference loses 5e-5 at gamma = -13.3. With D's definition
        it is  z s/(alpha r^2) - (s_d/r) F.
        """
        s = edm_sigma(gamma)
        r = torch.hypot(s, torch.full_like(s, self.data_std))
        raw = self.raw(z * per_image(1 / (alpha(gamma) * r), z), s, cond)
        return z * per_image(s / (alpha(gamma) * r**2), z) - per_image(self.data_std / r, z) * raw

    def raw(
        self, scaled: Tensor, s: Tensor, cond: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F at c_in y [B, C, H, W] and noise level ``s`` [B]; ``augment`` [B, augment_dim], if any."""
        noise = s.log() / 4
        if self.model is not None:
            both: Tensor = self.model(scaled, noise, cond, *(() if augment is None else (augment,)))
            out = both[:, : scaled.shape[1]]  # without a variance
        else:
            out = self.net(scaled, as_input((noise + 1.5) / 2.6, scaled))  # about [0, 1] for s in 0.002..80
        return out
