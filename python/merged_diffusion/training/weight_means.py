"""Running means of the weights of a network in training: several at once, by decay or by half-life.

mean <- keep mean + (1 - keep) weights after each step, keep the decay, or 2^(-batch/half-life) (Karras et al.
2022, table 7, who count in images). Young means forget faster: a decay is at most (1 + n)/(10 + n) at step n,
a half-life at most a share of the images seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from merged_diffusion.training.recipe import Recipe

WARM: Final = 10  # a decay starts with (1 + n)/(10 + n)


@dataclass(frozen=True)
class MeanRule:
    """How one mean forgets; ``name`` is that of its folder, behind ``ema-``."""

    name: str
    decay: float | None = None
    half_life: float | None = None
    warms: bool = True
    ramp_up: float = 0.0

    def keep(self, step: int, batch: int) -> float:
        """What stays of the mean at a step, of 1."""
        if self.decay is not None:
            return min(self.decay, (1 + step) / (WARM + step)) if self.warms else self.decay
        half_life = self.half_life or 0.0
        if self.ramp_up:
            half_life = min(half_life, self.ramp_up * step * batch)
        return float(0.5 ** (batch / half_life)) if half_life else 0.0


def rules(recipe: Recipe) -> list[MeanRule]:
    """The means of a recipe; the first becomes the expert."""
    decays = [MeanRule(f"{decay:.12g}", decay=decay, warms=recipe.ema_warmup) for decay in recipe.decays]
    return decays + [
        MeanRule(f"half-life-{images:.12g}", half_life=images, ramp_up=recipe.ema_ramp_up)
        for images in recipe.half_lives
    ]


class WeightMeans:
    """The means of a network's parameters, by the names of their rules, each a mapping by parameter."""

    def __init__(self, net: nn.Module, by: list[MeanRule]) -> None:
        self.rules = by
        self.of: dict[str, dict[str, Tensor]] = {
            rule.name: {k: v.detach().clone() for k, v in net.named_parameters()} for rule in by
        }

    @property
    def first(self) -> dict[str, Tensor]:
        """The mean that becomes the expert."""
        return self.of[self.rules[0].name]

    @torch.no_grad()
    def update(self, net: nn.Module, step: int, batch: int) -> None:
        """After the step of that number."""
        values = [value.detach() for value in net.parameters()]
        for rule in self.rules:
            torch._foreach_lerp_(list(self.of[rule.name].values()), values, weight=1 - rule.keep(step, batch))

    def tensors(self) -> dict[str, Tensor]:
        """All of them under the names of a snapshot: those of the first begin with ``mean.``."""
        named: dict[str, Tensor] = {}
        for number, rule in enumerate(self.rules):
            head = "mean" if number == 0 else f"mean-{rule.name}"
            named |= {f"{head}.{key}": value for key, value in self.of[rule.name].items()}
        return named
