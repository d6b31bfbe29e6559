"""The loss of an expert by gamma: l(gamma) = E |eps - eps_hat(z, gamma)|^2 per value.

Half its integral over gamma is the diffusion term of the variational bound in nats (Kingma et al. 2021,
eq. 13). The profiles of two experts give the bound of every merge of them; their crossing is where to switch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import home, widened
from merged_diffusion.training.objectives import noised

SPACING: Final = 0.25
N_IMAGES: Final = 512
ROWS: Final = 128


@dataclass(frozen=True)
class Profile:
    """Loss per value [G] at the gammas [G]; ``per_image`` [G, N] before the mean over images."""

    gamma: npt.NDArray[np.float64]
    per_image: npt.NDArray[np.float64]

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """Mean over the images [G]."""
        mean: npt.NDArray[np.float64] = self.per_image.mean(axis=1)
        return mean


def grid(gamma_range: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Middles of the cells of width 1/4 that have their middle inside the range; the same for all experts."""
    low, high = gamma_range
    cells = np.arange(math.floor(low / SPACING), math.ceil(high / SPACING))
    middles: npt.NDArray[np.float64] = (cells.astype(np.float64) + 0.5) * SPACING
    return middles[(middles >= low) & (middles <= high)]


@fenced()
def loss_profile(expert: VdmExpert | EdmExpert, data: Data, *, seed: int = 0) -> Profile:
    """The profile over the expert's range on at most 512 images of ``data``.

    The noise is a function of (seed, gamma, image): two experts meet the same.
    """
    data = data.select(limit=min(N_IMAGES, len(data)))
    x = torch.from_numpy(pixel_values(data.images, data.levels, expert.pixels)).float()
    has_classes = getattr(expert, "conditional", False) and data.labels is not None
    labels = torch.from_numpy(data.labels) if has_classes else None
    gammas = grid(expert.gamma_range)
    losses = [_losses(expert, x, labels, gamma, seed) for gamma in gammas]
    return Profile(gammas, np.stack(losses))


def _losses(
    expert: VdmExpert | EdmExpert, x: Tensor, labels: Tensor | None, gamma: float, seed: int
) -> npt.NDArray[np.float64]:
    """|eps - eps_hat|^2 per value, [N]."""
    cell = math.floor(gamma / SPACING)
    generator = torch.Generator().manual_seed((seed << 16) + cell + (1 << 15))
    eps = torch.randn(x.shape, generator=generator)
    parameter = next(iter(expert.parameters()), x) if isinstance(expert, torch.nn.Module) else x
    device, dtype = parameter.device, parameter.dtype
    out = []
    for rows in torch.split(torch.arange(len(x)), ROWS):
        at = torch.full((len(rows),), gamma, dtype=torch.float64, device=home(device))
        z = noised(x[rows].to(device, dtype), eps[rows].to(device, dtype), at)
        eps_hat = expert(z, at) if labels is None else expert(z, at, labels[rows].to(device))
        error = eps_hat - eps[rows].to(device, dtype)
        out.append(widened(error).square().flatten(1).mean(dim=1).cpu())
    return torch.cat(out).numpy()
