"""What a recipe aims at: the weight of equation 9, the law that gammas are drawn from, what a row is told.

A row's loss is w(gamma)/p(gamma) |eps - eps_hat|^2; its mean over the whole batch is minimised. All that is
random is drawn for the whole batch, from one generator, and then cut to the rows of a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import as_input, edm_sigma, home
from merged_diffusion.training.augmentation import Augmentations, augmented, draw_augmentations
from merged_diffusion.training.gamma_laws import Law, Uniform, spread_times
from merged_diffusion.training.importance import LossByCell
from merged_diffusion.training.learned_ends import ENDS, VALUES, LearnedEnds, bound_nats
from merged_diffusion.training.loss_weights import LossWeight
from merged_diffusion.training.objectives import noised, quality_residual

Trainable = VdmExpert | EdmExpert


@dataclass(frozen=True, eq=False)
class Told:
    """What is drawn for each row beside image and noise: times, augmentations, classes left out."""

    gamma: Tensor  # float64 [B]; of learned ends the times t that gamma(t) is taken at
    augmentations: Augmentations | None = None
    dropped: Tensor | None = None  # bool [B]
    # Of learned ends: where the values of an image begin whose reconstruction is looked at, float64 [B], and
    # their noise [B, VALUES].
    values: tuple[Tensor, Tensor] | None = None

    def rows(self, chosen: Tensor | slice) -> Told:
        """Those of the rows ``chosen``."""
        done, dropped, values = self.augmentations, self.dropped, self.values
        return Told(
            self.gamma[chosen],
            None if done is None else done.rows(chosen),
            None if dropped is None else dropped[chosen],
            None if values is None else (values[0][chosen], values[1][chosen]),
        )


@dataclass(frozen=True, eq=False)
class Aim:
    """A weight with the law that is drawn from; ``profile`` where that law is learned."""

    weight: LossWeight
    sampling: str  # of `recipe.LAWS`
    gamma_range: tuple[float, float]
    spreads: bool = True
    augment: float = 0.0
    label_dropout: float = 0.0
    profile: LossByCell | None = None
    learns_ends: bool = False

    @classmethod
    def of(
        cls,
        weight: LossWeight,
        gamma_range: tuple[float, float],
        *,
        sampling: str = "published",
        spreads: bool = True,
        augment: float = 0.0,
        label_dropout: float = 0.0,
        learns_ends: bool = False,
    ) -> Aim:
        """With a profile that has met nothing where there is one."""
        profile = LossByCell(weight, gamma_range) if sampling == "importance" else None
        return cls(weight, sampling, gamma_range, spreads, augment, label_dropout, profile, learns_ends)

    def law(self) -> Law:
        """What the next step draws from."""
        if self.profile is not None:
            return self.profile.law()
        return Uniform(self.gamma_range) if self.sampling == "uniform" else self.weight.law

    def draw(self, n: int, generator: torch.Generator | None = None) -> Told:
        """For the ``n`` rows of a whole batch, from ``generator`` or torch's own."""
        if self.spreads:
            offset = torch.rand((), dtype=torch.float64, generator=generator)
            times = spread_times(offset, n)
        else:
            times = torch.rand(n, dtype=torch.float64, generator=generator)
        gamma = times if self.learns_ends else self.law().quantile(times)
        done = draw_augmentations(n, self.augment, generator) if self.augment else None
        dropped = torch.rand(n, generator=generator) < self.label_dropout if self.label_dropout else None
        if not self.learns_ends:
            return Told(gamma, done, dropped)
        start = torch.rand(n, dtype=torch.float64, generator=generator)
        return Told(gamma, done, dropped, (start, torch.randn(n, VALUES, generator=generator)))

    def losses(
        self, expert: Trainable, x: Tensor, eps: Tensor, told: Told, cond: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of each row [B], whose mean is minimised, and its mean squared error in eps [B].

        ``x``, ``eps`` [B, C, H, W] and ``cond``, classes int64 [B], lie on the expert's device, ``told`` lies
        on the CPU.
        """
        augment = None
        if told.augmentations is not None:
            x, augment = augmented(x, told.augmentations), as_input(told.augmentations.labels(), x)
        if cond is not None and told.dropped is not None:
            cond = torch.where(told.dropped.to(cond.device), -1, cond)
        ends = getattr(expert, ENDS, None)
        if isinstance(ends, LearnedEnds) and told.values is not None:
            errors = eps_errors(expert, x, eps, ends.gamma(told.gamma.to(ends.b.device)))
            start, noise = (part.to(x.device) for part in told.values)
            return bound_nats(ends, errors, x, noise, start, expert.levels), errors
        errors = eps_errors(expert, x, eps, told.gamma.to(home(x.device)), cond, augment)
        return as_input(self.weight.under(self.law(), told.gamma), errors) * errors, errors

    def learn(self, told: Told, errors: Tensor) -> None:
        """Take in the errors [B] of a whole batch, once all of its rows are known."""
        if self.profile is not None:
            self.profile.learn(told.gamma, errors)

    def state(self) -> dict[str, Tensor]:
        """What a snapshot keeps."""
        return {} if self.profile is None else self.profile.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a snapshot; without anything in it from the start."""
        if self.profile is not None and state:
            self.profile.load(state)


def eps_errors(
    expert: Trainable,
    x: Tensor,
    eps: Tensor,
    gamma: Tensor,
    cond: Tensor | None = None,
    augment: Tensor | None = None,
) -> Tensor:
    """|eps - eps_hat|^2 per value [B], at ``gamma`` [B].

    Of a quality expert it is (s_d/r)^2 |F - F*|^2, r^2 = s^2 + s_d^2, free of cancellation.
    """
    if isinstance(expert, VdmExpert):
        eps_hat: Tensor = expert(noised(x, eps, gamma), gamma)
        return (eps_hat - eps).square().flatten(1).mean(dim=1)
    squares = quality_residual(expert, x, eps, gamma, cond, augment).square().flatten(1).mean(dim=1)
    s_d = expert.data_std
    return as_input(s_d**2 / (edm_sigma(gamma) ** 2 + s_d**2), squares) * squares
