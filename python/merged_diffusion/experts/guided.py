"""An expert that is guided by another: its prediction, moved away from what the guide predicts.

    eps_hat = eps_g + w (eps - eps_g)

with eps of the expert and eps_g of its guide: of the same network without a class (Ho and Salimans 2022,
eq. 6, whose w counts from 0 where this one counts from 1), or of a weaker expert of the same data
(autoguidance, Karras et al. 2024). It acts in an interval of gamma, outside of which the guide is not asked;
w = 1 is the expert itself, bit for bit.

Differs from Kynkaanniemi et al. 2024, whose weight jumps at the ends of the interval: here it goes from 1 to
w and back within 1 of each end, on a polynomial of fifth degree (twice differentiable), because an adaptive
multistep method is wrong across a jump, by 0.4 bits/dim in a closed form, and says nothing.

What is so predicted is no posterior mean of the noise in any data: the flow along it has a likelihood, which
is that of the guided flow, but bounds, losses by gamma and what is made of them are refused.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Final, Literal, cast

import torch
from torch import Tensor, nn

from merged_diffusion import schedules
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import (
    Expert,
    ImageShape,
    Pixels,
    check_declaration,
    check_posterior,
    described,
)
from merged_diffusion.experts.centred import Centred

RAMP: Final = 1.0  # in gamma: of what was tried, the shortest over which adams keeps its tolerance
NO_CLASS: Final = -1  # of labels, where a network takes them (`experts/nets/by_name.py`)
Guide = Expert | Literal["none-class"]


class Guided(nn.Module):
    """``expert`` guided by ``guide`` with a weight, on images of the same shape, pixels and levels.

    Parameters
    ----------
    guide
        Another expert, or ``none-class``: the same one without a class, which it must have been trained to do
        without now and then. No file says whether it was.
    weight
        w from 0 up; 1 is no guidance, 0 the guide.
    interval
        Gammas between which the guide acts (default: everywhere), and within 1 of whose ends it does so less.

    Raises
    ------
    ExpertError
        The two do not take the same images, or one of them is no denoiser or is guided itself.
    UsageError
        A weight or an interval that means nothing, or gammas at which the guide was not trained.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> strong, weak = (md.GaussianExpert((1, 4, 4), variance=v) for v in (0.2, 0.3))
    >>> md.Guided(strong, weak, 2.0, interval=(-6.0, 2.0)).name
    'gaussian guided by gaussian with weight 2.0 at gamma -6.0 to 2.0'
    """

    def __init__(
        self, expert: Expert, guide: Guide, weight: float, *, interval: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        self.training = False
        check_declaration(expert)
        check_posterior(expert, "guiding it")
        self.expert = expert
        self.weight = _weight(weight)
        self.interval = (-math.inf, math.inf) if interval is None else _interval(interval)
        if guide == "none-class":
            self.guide, self.without_class = expert, True
            _check_without_class(expert)
        else:
            self.guide, self.without_class = guide, False
            _check_guide(expert, self.guide, self.interval)
        by = "no class" if self.without_class else self.guide.name
        between = "" if interval is None else f" at gamma {self.interval[0]!r} to {self.interval[1]!r}"
        self.name = f"{expert.name} guided by {by} with weight {self.weight!r}{between}"
        self.kind: str | None = getattr(expert, "kind", None)
        self.gamma_range = expert.gamma_range
        self.pixels: Pixels = expert.pixels
        self.levels = expert.levels
        self.image_shape: ImageShape = expert.image_shape
        self.conditional = expert.conditional or self.guide.conditional
        ranges = [getattr(each, "label_range", None) for each in (expert, self.guide) if each.conditional]
        known = [found for found in ranges if found is not None]
        self.label_range: tuple[int, int] | None = None
        if known:
            self.label_range = max(low for low, _ in known), min(high for _, high in known)
        self.is_guided = self.weight != 1
        self.provenance: dict[str, object] = {**getattr(expert, "provenance", {}), **self._guidance(interval)}

    def __repr__(self) -> str:
        return described(cast(Expert, self))

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] at z [B, C, H, W] and gamma [B]; the guide is asked for all rows or none."""
        if self.without_class and self.is_guided and cond is None:
            raise UsageError(
                f"{self.name}: no classes were given, and without one it is what it is guided by",
                hint="give labels (--labels), or another guide",
            )
        eps = self.expert(z, gamma, cond if self.expert.conditional else None)
        low, high = self.interval
        acts = (gamma > low) & (gamma < high)
        if self.weight == 1 or not bool(acts.any()):  # waits for the device: half of the network calls
            return eps
        eps_g = self.guide(z, gamma, self._of_guide(cond))
        moved = eps_g + schedules.per_image(self.weight_at(gamma), z) * (eps - eps_g)
        return torch.where(acts.to(z.device).view(-1, 1, 1, 1), moved, eps)

    def weight_at(self, gamma: Tensor) -> Tensor:
        """The weight at gamma [B], float64: 1 outside of the interval."""
        low, high = self.interval
        ramp = min(RAMP, (high - low) / 2)
        u = (torch.minimum(gamma - low, high - gamma).double() / ramp).clamp(0, 1)
        return 1 + (self.weight - 1) * u**3 * (10 - 15 * u + 6 * u**2)

    def _guidance(self, interval: tuple[float, float] | None) -> dict[str, object]:
        """What a record has to say of the guide; nothing where it is not asked."""
        if not self.is_guided:
            return {}
        between = None if interval is None else list(self.interval)
        guide = "none-class" if self.without_class else self.guide.name
        return {"guidance": {"guide": guide, "weight": self.weight, "interval": between}}

    def _of_guide(self, cond: Tensor | None) -> Tensor | None:
        if self.without_class:
            return None if cond is None else torch.full_like(cond, NO_CLASS)
        return cond if self.guide.conditional else None


def _weight(given: object) -> float:
    weight = float(given) if isinstance(given, Real) else math.nan
    if not 0 <= weight < math.inf:
        raise UsageError(
            f"guidance weight {given!r} is no finite number from 0 up",
            hint="1 is none, 2 doubles the difference",
        )
    return weight


def _interval(given: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise UsageError(
            f"guidance interval {given!r} is no pair LOW, HIGH of gammas",
            hint="minus log SNR, the lower first",
        )
    return low, high


def _check_without_class(expert: Expert) -> None:
    known: tuple[int, int] | None = getattr(expert, "label_range", None)
    if not expert.conditional or known is None or known[0] > NO_CLASS:
        reason = "says not that it can do without" if expert.conditional else "takes no class"
        raise ExpertError(
            f"expert {expert.name} {reason}: it cannot be guided by itself without a class",
            hint="name another expert as its guide",
            expert=expert.name,
        )


def _check_guide(expert: Expert, guide: Expert, interval: tuple[float, float]) -> None:
    check_declaration(guide)
    check_posterior(guide, "guiding by it")
    for what, own, other in (
        ("images of shape", expert.image_shape, guide.image_shape),
        ("grey levels", expert.levels, guide.levels),
        ("pixels", expert.pixels, guide.pixels),
    ):
        if own != other:
            raise ExpertError(
                f"expert {expert.name} takes {what} {own}, its guide {guide.name} {other}",
                hint="a guide has to take the same images",
                expert=guide.name,
                expected=own,
                found=other,
            )
    low, high = max(interval[0], expert.gamma_range[0]), min(interval[1], expert.gamma_range[1])
    least, most = guide.gamma_range
    if low < high and not (least <= low and high <= most):
        raise UsageError(
            f"guide {guide.name} was trained at gamma {least:g} to {most:g}, and is to act at {low:g} to "
            f"{high:g}",
            hint=f"let it act within its range: interval = ({max(low, least):g}, {min(high, most):g})",
        )


def unguided(expert: Expert) -> Expert:
    """The expert that a guided one asks first: that is what denoises data. Any other as it is."""
    if isinstance(expert, Guided):
        return expert.expert
    if isinstance(expert, Centred) and isinstance(expert.expert, Guided):
        return cast(Expert, Centred(expert.expert.expert))
    return expert
