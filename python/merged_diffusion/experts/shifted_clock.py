"""Whether the clock of an expert is the one that it was trained with.

Of z made at gamma the noise is predicted best by a network that is told gamma: its squared error, as a
function of gamma + delta, is least at delta = 0. Told the time of another gamma by a wrong clock, a network
is mostly consistent with itself, but better at a delta that makes good for the clock. What the bound loses by
it is the integral of the difference of the errors over gamma, divided by 2 ln 2, in bits/dim (Kingma et al.
2021, eq. 15); that, on noise of its own, paired row by row, is what a warning rests on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor

from merged_diffusion.errors import ExpertError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.noised import IMAGES, Noised, Place, noised
from merged_diffusion.experts.other_words import changed, other_clocks, other_schedules
from merged_diffusion.experts.public_expert import PublicExpert

Shift = Callable[[Tensor], Tensor]
TOP: Final = 4.0  # gamma above which hardly any error is left to compare
GAMMAS: Final = 8
DRAWS: Final = 4  # of each image, where the first look found something
STEP: Final = 0.5  # by which the first look shifts
SHIFTS: Final = (0.25, 0.5, 1.0)
COSTS: Final = 0.02  # bits/dim; bundled experts win 0.01 at most
STANDARD_ERRORS: Final = 4.0
FIRST_ERRORS: Final = 1.0  # of the first look, which only decides whether there is a second
FIRST_COSTS: Final = 0.01


@dataclass(frozen=True)
class Gain:
    """Bits/dim that a shift saves, with its standard error over rows, and the words for it."""

    bits: float
    se: float

    @property
    def is_sure(self) -> bool:
        """Whether it costs something and is beyond chance."""
        return self.bits > COSTS and self.bits > STANDARD_ERRORS * self.se


def clock_warning(expert: Expert, place: Place, over: tuple[float, float]) -> str | None:
    """What is to be said of the clock over these gammas; None where nothing is.

    It is looked at below `TOP` only, at gammas that do not depend on how far above it the range goes.
    """
    low, high = over[0], min(over[1], TOP)
    if not has_clock(expert) or low >= high:
        return None
    gamma = low + (high - low) * (torch.arange(GAMMAS, dtype=torch.float64) + 0.5) / GAMMAS
    first = noised(place, gamma)
    losses = first.losses(expert)
    directions = _suspicious(expert, first, losses)
    if not directions and not _fits_another(expert, first, losses, high - low):
        return None
    second = noised(place, gamma, draws=DRAWS, seed=1)
    own = second.losses(expert)
    best: tuple[Gain, Shift] | None = None
    for shift in directions:
        found = _gain(own - second.losses(told(expert, shift)), gamma, high - low)
        if best is None or found.bits > best[0].bits:
            best = found, shift
    if best is not None and not best[0].is_sure:
        best = None
    named = _named(expert, second, own, high - low, 0.0 if best is None else best[0].bits)
    if best is None and named is None:
        return None
    return _text(expert, best, named, gamma)


def has_clock(expert: Expert) -> bool:
    """Whether somebody declared its time: experts of the package that take gamma itself have none."""
    declared = expert.expert if isinstance(expert, Centred) else expert
    if isinstance(declared, CallableExpert | PublicExpert):
        return True
    return not type(declared).__module__.startswith("merged_diffusion.")


def told(expert: Expert, shift: Shift) -> Expert:
    """The expert with the time of another gamma; what its output is read with stays that of its own."""
    declared = expert.expert if isinstance(expert, Centred) else expert
    if not isinstance(declared, CallableExpert | PublicExpert):
        return cast("Expert", _Told(expert, shift))
    own, (low, high) = declared.clock, declared.gamma_range
    return changed(expert, clock=lambda gamma: own(shift(gamma).clamp(low, high)))


class _Told:
    """An expert of somebody's own class, told another gamma."""

    def __init__(self, expert: Expert, shift: Shift) -> None:
        self.name, self._expert, self._shift = expert.name, expert, shift

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        return self._expert(z, self._shift(gamma).clamp(*self._expert.gamma_range), cond)


def _suspicious(expert: Expert, look: Noised, losses: Tensor) -> list[Shift]:
    """Shifts that may be better, by one step to either side; by turns where that saves calls.

    ``losses`` [K R] are the expert's of ``look``.
    """
    count, rows = len(look.gamma), look.rows
    places = torch.arange(count * rows)
    gamma, row = places // rows, places % rows
    by_turns = count * rows > IMAGES * GAMMAS // 2 and look.most > IMAGES
    up = places[(gamma + row) % 2 == 0] if by_turns else places
    down = places[(gamma + row) % 2 == 1] if by_turns else places
    change = {}
    for sign, chosen in ((1.0, up), (-1.0, down)):
        try:
            shifted = look.losses(told(expert, _constant(sign * STEP)), chosen)
        except ExpertError:
            return []
        values = torch.full((count, rows), math.nan, dtype=torch.float64)
        values[gamma[chosen], row[chosen]] = shifted - losses[chosen]
        change[sign] = values
    mean = {sign: values.nanmean(1) for sign, values in change.items()}
    spread = {sign: _variance_of_mean(values) for sign, values in change.items()}
    slope, curve = mean[1.0] - mean[-1.0], mean[1.0] + mean[-1.0]
    centre, width = look.gamma.mean(), float(look.gamma[-1] - look.gamma[0])
    tilt = 2 * (look.gamma - centre) / width
    scale = width * count / (count - 1) / (2 * math.log(2)) / count
    shifts: list[Shift] = []
    for weight, make in ((torch.ones_like(tilt), _constant), (tilt, _tilted(float(centre), width / 2))):
        force = float((weight * slope).sum())
        error = math.sqrt(float((weight.square() * (spread[1.0] + spread[-1.0])).sum()))
        stiffness = float((weight.square() * curve).sum())
        steepness = 8 * max(stiffness, abs(force) / 4)
        gain = scale * force**2 / steepness if steepness else 0.0  # an expert that does not look at gamma
        if gain > FIRST_COSTS and abs(force) > FIRST_ERRORS * error:
            shifts += [make(-math.copysign(size, force)) for size in SHIFTS]
    return shifts


def _fits_another(expert: Expert, look: Noised, losses: Tensor, width: float) -> bool:
    """Whether the schedule of another name may be better: no constant or linear shift makes good for that."""
    for other in other_schedules(expert):
        try:
            gain = _gain(losses - look.losses(other), look.gamma, width)
        except ExpertError:
            continue
        if gain.bits > FIRST_COSTS and gain.bits > FIRST_ERRORS * gain.se:
            return True
    return False


def _variance_of_mean(values: Tensor) -> Tensor:
    """Of the mean of each row of ``values`` [K, R] that is not NaN, the variance [K]."""
    count = values.isfinite().sum(1)
    away = (values - values.nanmean(1, keepdim=True)).square().nansum(1)
    return away / (count * (count - 1).clamp(min=1))


def _constant(by: float) -> Shift:
    return lambda gamma: gamma + by


def _tilted(centre: float, half: float) -> Callable[[float], Shift]:
    def shift(by: float) -> Shift:
        return lambda gamma: gamma + by * ((gamma - centre) / half).clamp(-1, 1)

    return shift


def _gain(saved: Tensor, gamma: Tensor, width: float) -> Gain:
    """Of ``saved`` [K R] squared error, in bits/dim."""
    values = saved.view(len(gamma), -1)
    scale = width / (2 * math.log(2))
    if not bool(values.isfinite().all()):
        return Gain(-math.inf, math.inf)
    return Gain(
        scale * float(values.mean()), scale * math.sqrt(float(_variance_of_mean(values).sum())) / len(gamma)
    )


def _text(
    expert: Expert, best: tuple[Gain, Shift] | None, named: tuple[Gain, str] | None, gamma: Tensor
) -> str:
    by, cost = "", named[0] if named is not None else None
    if best is not None:
        cost, shift = best
        low, high = gamma[1], gamma[-2]
        by = (
            f": noise of gamma = {float(low):.3g} it predicts better when it is told "
            f"{float(shift(low)):.3g}, of {float(high):.3g} when told {float(shift(high)):.3g}"
        )
    assert cost is not None  # noqa: S101 (one of the two is there)
    fits = "compare its schedule with that of the training, entry by entry"
    if named is not None:
        fits = f"what would fit is {named[1]}"
    return (
        f"the clock of expert {expert.name} is probably wrong, or it was trained for other images{by}; this "
        f"costs at least {cost.bits:.2g} +- {cost.se:.1g} bits/dim of the variational bound, and of the "
        f"likelihood less or more; {fits}"
    )


def _named(expert: Expert, look: Noised, own: Tensor, width: float, least: float) -> tuple[Gain, str] | None:
    """The common slip that does more than the best shift, which saves ``least`` bits/dim, and its line."""
    found: tuple[Gain, str] | None = None
    for words, line, other in other_clocks(expert):
        try:
            gain = _gain(own - look.losses(other), look.gamma, width)
        except ExpertError:
            continue
        if gain.is_sure and gain.bits > least and (found is None or gain.bits > found[0].bits):
            found = gain, words if line is None or line == words else f"{words}: write {line}"
    return found
