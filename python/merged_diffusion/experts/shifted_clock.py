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
from merged_diffusion.experts.other_words import changed, other_clocks
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


def clock_warning(expert: Expert, place: Place, look: Noised, losses: Tensor) -> str | None:
    """What is to be said of the clock; None where nothing is.

    ``losses`` [K R] are those of ``look``, which the declaration has been compared on.
    """
    if not has_clock(expert):
        return None
    directions = _suspicious(expert, look, losses)
    if not directions:
        return None
    low, high = float(look.gamma[0]), float(look.gamma[-1])
    half = (high - low) / (2 * (len(look.gamma) - 1))
    low, high = low - half, min(high + half, TOP)
    gamma = low + (high - low) * (torch.arange(GAMMAS, dtype=torch.float64) + 0.5) / GAMMAS
    second = noised(place, gamma, draws=DRAWS, seed=1)
    own = second.losses(expert)
    best: tuple[Gain, Shift] | None = None
    for shift in directions:
        found = _gain(own - second.losses(told(expert, shift)), gamma, high - low)
        if best is None or found.bits > best[0].bits:
            best = found, shift
    if best is None or not best[0].is_sure:
        return None
    return _text(expert, best[0], best[1], gamma) + _named(expert, second, own, high - low, best[0])


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
    """Shifts that may be better, by one step to either side; by turns where that saves calls."""
    useful = look.gamma < TOP
    count = int(useful.sum())
    if count < 2:
        return []
    rows = look.rows
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
    centre, width = look.gamma[:count].mean(), float(look.gamma[count - 1] - look.gamma[0])
    tilt = 2 * (look.gamma[:count] - centre) / width
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


def _text(expert: Expert, gain: Gain, shift: Shift, gamma: Tensor) -> str:
    low, high = gamma[1], gamma[-2]
    return (
        f"the clock of expert {expert.name} is probably wrong, or it was trained for other images: noise of "
        f"gamma = {float(low):.3g} it predicts better when it is told {float(shift(low)):.3g}, of "
        f"{float(high):.3g} when told {float(shift(high)):.3g}; this costs at least {gain.bits:.2g} +- "
        f"{gain.se:.1g} bits/dim; "
    )


def _named(expert: Expert, look: Noised, own: Tensor, width: float, best: Gain) -> str:
    """The common slip that does what the best shift does, or what to look at."""
    found: tuple[float, str] | None = None
    for words, line, other in other_clocks(expert):
        try:
            gain = _gain(own - look.losses(other), look.gamma, width)
        except ExpertError:
            continue
        if gain.is_sure and gain.bits > best.bits and (found is None or gain.bits > found[0]):
            found = gain.bits, words if line is None or line == words else f"{words}: write {line}"
    if found is None:
        return "compare its schedule with that of the training, entry by entry"
    return f"what would fit is {found[1]}"
