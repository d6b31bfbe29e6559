"""EDM's augmentation, of which the network is told: it does not leak (Karras et al. 2022, appendix F.2).

    what                  numbers                       labels                        map
    flip, left-right      a_0 of 0, 1                   a_0                           exact
    flip, top-bottom      a_1 of 0, 1                   a_1                           exact
    scaling               a_2 normal                    a_2                           2^(0.2 a_2)
    rotation              a_3 uniform                   cos a_3 - 1, sin a_3          by the angle a_3
    anisotropy            a_4 uniform, a_5 normal       a_5 cos a_4, a_5 sin a_4      2^(+-0.2 a_5) along a_4
    translation           a_6, a_7 normal               a_6, a_7                      an eighth of the size

Angles are of [-pi, pi); a_4 is 0 for half of the images, which are stretched along their own axes. Each is
done with the probability of the card, and left out its numbers are 0; left and right are flipped of half of
the images always, as in their training of CIFAR-10. Nine zeros say that nothing was done, and an expert is
always asked with them: what it draws is not augmented. Maps are done in the order of the table. As published,
a stretch along a_4 and a shrinking along the opposite angle have the same labels.

Differs from the public code: pixels are taken one row at a time, without a margin that a batch would share,
so that an image does not depend on its neighbours; images go on mirrored about their edge, not about the
middle of their last pixel; flips are the first of the maps, and no other is rounded to whole pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from merged_diffusion.training.warping import warped

N_LABELS: Final = 9
SCALE: Final = 2.0**0.2  # by which a standard deviation of scaling and of anisotropy stretches
AXIS_TURNED: Final = 0.5  # the share of stretches whose axis is drawn (aniso_rotate_prob of their code)
SHIFT: Final = 1 / 8  # of an image's width and height, a standard deviation of translation


@dataclass(frozen=True)
class Augmentations:
    """The numbers a_0 to a_7 of each image, float64 [B] each."""

    flip_across: Tensor
    flip_down: Tensor
    scale: Tensor
    angle: Tensor
    axis: Tensor
    stretch: Tensor
    shift_right: Tensor
    shift_down: Tensor

    def rows(self, chosen: Tensor | slice) -> Augmentations:
        """Those of the images ``chosen``."""
        return Augmentations(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def labels(self) -> Tensor:
        """What the network is told, float64 [B, 9]."""
        return torch.stack(
            [
                *(self.flip_across, self.flip_down, self.scale, self.angle.cos() - 1, self.angle.sin()),
                *(self.stretch * self.axis.cos(), self.stretch * self.axis.sin()),
                *(self.shift_right, self.shift_down),
            ],
            dim=1,
        )

    def maps(self, height: int, width: int) -> Tensor:
        """What is done after the flips: matrix and shift in pixels [B, 2, 3]."""
        turn = _rotation(self.axis)
        sizes = torch.stack([SCALE**self.stretch, SCALE**-self.stretch], dim=1)
        matrix = (turn * sizes[:, None, :]) @ turn.transpose(1, 2) @ _rotation(self.angle)
        matrix = matrix * (SCALE**self.scale)[:, None, None]
        shift = torch.stack([self.shift_right * width, self.shift_down * height], dim=1) * SHIFT
        return torch.cat([matrix, shift[:, :, None]], dim=2)


def draw_augmentations(n: int, probability: float, generator: torch.Generator | None = None) -> Augmentations:
    """Those of the ``n`` images of a whole batch, from ``generator`` or torch's own."""
    uniform = torch.rand(8, n, dtype=torch.float64, generator=generator)
    normal = torch.randn(4, n, dtype=torch.float64, generator=generator)
    scaled, turned, stretched, shifted = (u < probability for u in uniform[:4])
    angles = 2 * math.pi * uniform[4:6] - math.pi
    is_turned = torch.rand(n, dtype=torch.float64, generator=generator) < AXIS_TURNED
    return Augmentations(
        flip_across=(uniform[6] < 0.5).double(),
        flip_down=(uniform[7] < probability / 2).double(),
        scale=normal[0] * scaled,
        angle=angles[0] * turned,
        axis=angles[1] * (stretched & is_turned),
        stretch=normal[1] * stretched,
        shift_right=normal[2] * shifted,
        shift_down=normal[3] * shifted,
    )


def augmented(x: Tensor, done: Augmentations) -> Tensor:
    """``x`` [B, C, H, W] with what was drawn for each; of nine zeros it is the image itself, exactly.

    In the numbers of ``x``, under autocast as well: what a network is shown is not rounded.
    """
    across, down = (
        (flag > 0.5).view(-1, 1, 1, 1).to(x.device) for flag in (done.flip_across, done.flip_down)
    )
    x = torch.where(across, x.flip(3), x)
    x = torch.where(down, x.flip(2), x)
    numbers = torch.stack([done.scale, done.angle, done.stretch, done.shift_right, done.shift_down])
    moved = (numbers != 0).any(dim=0).nonzero().flatten()
    if len(moved):
        maps = done.rows(moved).maps(x.shape[2], x.shape[3])
        x = x.index_copy(0, moved.to(x.device), warped(x[moved.to(x.device)], maps))
    return x


def _rotation(angle: Tensor) -> Tensor:
    """Matrices [B, 2, 2] of a turn by ``angle`` [B], from right towards down."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
