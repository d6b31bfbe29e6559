"""An expert of ``ends`` pixels, seen from the space of ``centred`` ones, in which every model lives.

With c = L/(L - 1) the two values of a pixel are y = c x. A denoiser D of y gives (the paper feeds it z/alpha
unscaled; here 256/255 in its exact place)

    x_hat(z, gamma) = D(c z/alpha; c sigma/alpha) / c,    so    eps_hat(z, gamma) = eps_hat_ends(z', gamma')

with gamma' = gamma + 2 log c and z' = c alpha(gamma')/alpha(gamma) z: noise of level sigma/alpha on x is
noise of level c sigma/alpha on y, and the noise itself is the same. It holds however the expert predicts.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from merged_diffusion import schedules
from merged_diffusion.experts.base import Expert, ImageShape, Pixels


class Centred(nn.Module):
    """``expert`` of ``ends`` pixels as one of ``centred`` pixels; its gamma range is the expert's own."""

    pixels: Pixels = "centred"

    def __init__(self, expert: Expert) -> None:
        super().__init__()
        self.training = False
        self.expert = expert
        self.name: str = expert.name
        # Ranges are checked once, in the expert's gamma: 2 log c is 0.008 at 256 levels.
        self.gamma_range: tuple[float, float] = expert.gamma_range
        self.levels: int = expert.levels
        self.image_shape: ImageShape = expert.image_shape
        self.conditional: bool = expert.conditional
        self.label_range: tuple[int, int] | None = getattr(expert, "label_range", None)
        self.is_coupled: bool = getattr(expert, "is_coupled", False)
        self.is_guided: bool = getattr(expert, "is_guided", False)
        self.is_closed_form: bool = getattr(expert, "is_closed_form", False)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] of z [B, C, H, W] at gamma [B]."""
        c = self.levels / (self.levels - 1)
        there = gamma.double() + 2 * math.log(c)
        ratio = c * schedules.alpha(there) / schedules.alpha(gamma)
        eps_hat: Tensor = self.expert(z * schedules.per_image(ratio, z), there, cond)
        return eps_hat

    def extra_repr(self) -> str:
        """The factor between the two values of a pixel."""
        return f"c={self.levels}/{self.levels - 1}"
