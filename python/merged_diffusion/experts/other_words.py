"""The same network under other words than it was declared by, one changed at a time, and the line to paste.

What a network of another time, another scale of z or other pixels would have to be given is tried, too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast, get_args

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.experts import vdm
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.callables import CLOCKS, CallableExpert, Clock, Input, Predicts
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.public_expert import PublicExpert
from merged_diffusion.experts.timetables import Timetable
from merged_diffusion.experts.vdm import VdmExpert

# Flow matching from noise to data and back: who takes one for the other has both sign and time reversed.
VELOCITIES: Final = {"x0-minus-eps": "eps-minus-x0", "eps-minus-x0": "x0-minus-eps"}


def _declared(expert: Expert) -> Expert:
    return expert.expert if isinstance(expert, Centred) else expert


def changed(expert: Expert, **facts: object) -> Expert:
    """The expert with other facts declared; the network itself is shared."""
    declared = _declared(expert)
    other = copy.copy(declared)
    other.__dict__ = dict(declared.__dict__)
    for name, value in facts.items():
        object.__setattr__(other, name, value)
    return Centred(other) if isinstance(expert, Centred) else other


def other_clocks(expert: Expert) -> Iterator[tuple[str, str | None, Expert]]:
    """The words, the line to paste where it is one, and the expert with another time."""
    declared = _declared(expert)
    if isinstance(declared, CallableExpert | PublicExpert):
        yield from _likely(expert)
    if not isinstance(declared, CallableExpert):
        return
    if not declared.likely:
        for clock, line, time in _clocks(declared):
            yield clock, line, changed(expert, clock=time)
    own = declared.clock
    if declared.time == "timestep" and isinstance(own, Timetable):
        for by, words in ((1, "a step more"), (-1, "a step less")):
            yield f"times that are {words}", None, changed(expert, clock=_later(own, by))


def other_schedules(expert: Expert) -> Iterator[Expert]:
    """A network of discrete time under the schedules of the other names."""
    declared = _declared(expert)
    if not isinstance(declared, CallableExpert):
        return
    for line, _, other in _likely(expert):
        if "(net, schedule=" in line:
            yield other


def _later(own: Clock, by: int) -> Clock:
    return lambda gamma: own(gamma) + by


def _likely(expert: Expert) -> Iterator[tuple[str, str | None, Expert]]:
    declared = cast("CallableExpert | PublicExpert", _declared(expert))
    for line, make in declared.likely.items():
        try:
            other = make()
        except MergedDiffusionError:
            continue  # the file, its card or its name contradicts these words
        yield line, line, Centred(other) if isinstance(expert, Centred) else other


def others(expert: Expert) -> Iterator[tuple[str, str | None, Expert]]:
    """The words, the line to paste where it is one, and the expert."""
    declared = _declared(expert)
    again = partial(changed, expert)
    if isinstance(declared, CallableExpert | PublicExpert) and declared.likely:
        words = {}
        yield from _likely(expert)
    elif isinstance(declared, CallableExpert):
        words = {"predicts": get_args(Predicts), "input": get_args(Input)}
        minus = f"{_call(declared)}(lambda z, *rest: -net(z, *rest), ...)"
        yield "minus what it returns", minus, again(net=_negated(declared.net))
        for clock, line, time in _clocks(declared):
            yield clock, line, again(clock=time)
        velocity = VELOCITIES.get(str(declared.predicts))
        if velocity is not None and (other_way := _turned_time(declared)) is not None:
            argument, time = other_way
            words_of_both = f'predicts = "{velocity}" and the time reversed'
            yield (
                words_of_both,
                written(f'predicts="{velocity}", {argument}'),
                again(predicts=velocity, clock=time),
            )
    elif isinstance(declared, VdmExpert):
        words = {"predicts": get_args(vdm.Predicts), "input": get_args(vdm.Input)}
    else:
        words = {}
    for name, known in words.items():
        for word in known:
            if word != getattr(declared, name):
                yield f'{name} = "{word}"', _line(declared, name, word), again(**{name: word})
    for text, fed in FED.items():
        takes_z = isinstance(declared, CallableExpert) and declared.input == "vp"
        pasted = f"{_call(declared)}(lambda z, *rest: net(2 * z - 1, *rest), ...)"
        yield text, pasted if takes_z and fed is _doubled else None, cast("Expert", _Fed(expert, fed))


def _negated(net: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given, **named: -net(*given, **named)


def _call(declared: Expert) -> str:
    """What the declaration calls: a kind's constructor has its lines begin with it."""
    likely = declared.likely if isinstance(declared, CallableExpert) else {}
    return next(iter(likely), "CallableExpert(").partition("(")[0]


def _line(declared: Expert, name: str, word: str) -> str:
    """What has to be written where a word was declared."""
    if isinstance(declared, CallableExpert):
        return written(f'{name}="{word}"')
    return f'{name} = "{word}" in its card.toml'


def written(argument: str) -> str:
    """A declaration with one argument changed."""
    return f"CallableExpert(net, {argument}, ...)"


class _Fed:
    """An expert that is given another z and another gamma."""

    def __init__(self, expert: Expert, fed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.name, self._expert, self._fed = expert.name, expert, fed

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        return self._expert(*self._fed(z, gamma), cond)


def _doubled(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    return 2 * z - 1, gamma


def _halved(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """What a network of x from 0 to 1 is given: (x + 1)/2 with noise sigma/2 has gamma - 2 log 2."""
    alpha, sigma = (schedules.per_image(f(gamma), z) for f in (schedules.alpha, schedules.sigma))
    return (z + alpha) / (2 * (alpha**2 + sigma**2 / 4).sqrt()), gamma - 2 * math.log(2)


def _clocks(declared: CallableExpert) -> Iterator[tuple[str, str, Clock]]:
    """Words, the line to paste, and the clock."""
    has_schedule = declared.time in ("t01", "timestep")

    def timed(time: str) -> str:
        return written(f"time={time}" + ", schedule=None" * has_schedule)

    for word, clock in CLOCKS.items():
        if word != declared.time:
            yield f'time = "{word}"', timed(f'"{word}"'), clock
    own = declared.clock
    low, high = declared.gamma_range
    if isinstance(own, Timetable):
        for words, entries, change in SLIPS:
            yield words, written(f"schedule={entries}") + ", with gamma_range to match", _after(change, own)
    functions: dict[str, Clock] = {
        "-gamma": lambda gamma: -gamma,
        "gamma / 2": lambda gamma: gamma / 2,
        "2 * gamma": lambda gamma: 2 * gamma,
    }
    for text, function in functions.items():
        remark = " (log SNR)" if text == "-gamma" else ""
        yield f"time = lambda gamma: {text}{remark}", timed(f"lambda gamma: {text}"), function
    if has_schedule:
        ends = f"{low + high:.10g}"
        is_table = isinstance(own, Timetable)
        turned = (
            f"{ends} - torch.as_tensor(schedule)" if is_table else f"lambda gamma: schedule({ends} - gamma)"
        )
        line = written(f"schedule={turned}")
        yield "the schedule reversed", line, lambda gamma: own((low + high - gamma).clamp(low, high))
    if (other_way := _turned_time(declared)) is not None:
        argument, turned_clock = other_way
        yield "the time reversed", written(argument), turned_clock


def _after(change: Callable[[Tensor], Tensor], own: Clock) -> Clock:
    return lambda gamma: own(change(gamma))


def _of_root(gamma: Tensor) -> Tensor:
    """What a table of sqrt(abar) in the place of abar says of gamma: log((1 - alpha) / alpha)."""
    alpha = schedules.alpha(gamma)
    return torch.log(schedules.sigma(gamma) ** 2 / (alpha * (1 + alpha)))


# What a table of gammas was taken from, in the place of it: words, its gammas, and what it says of gamma.
SLIPS: Final = (
    (
        "a table of sqrt(alphas_cumprod) in the place of alphas_cumprod",
        "-torch.logit(torch.sigmoid(-torch.as_tensor(schedule)) ** 2)",
        _of_root,
    ),
    (
        "a table of sigma/alpha in the place of gamma",
        "2 * torch.as_tensor(schedule).log()",
        schedules.edm_sigma,
    ),
    (
        "a table of log(sigma/alpha) in the place of gamma",
        "2 * torch.as_tensor(schedule)",
        lambda gamma: gamma / 2,
    ),
)


def _turned_time(declared: CallableExpert) -> tuple[str, Clock] | None:
    """The argument and the clock of a time that runs the other way: from noise to data, or back."""
    own = declared.clock
    if isinstance(own, Timetable):
        return "schedule=torch.as_tensor(schedule).flip(0)", lambda gamma: own.last - own(gamma)
    if declared.time == "t01":
        return "schedule=lambda gamma: 1 - schedule(gamma)", lambda gamma: 1 - own(gamma)
    return None


def _times_alpha(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    return z * schedules.per_image(schedules.alpha(gamma), z), gamma


FED: Final = {
    "alpha z in place of z": _times_alpha,
    "2 z - 1 in place of z (its pixels are taken for 0 to 1, and are -1 to 1)": _doubled,
    "(z + alpha) / 2c in place of z and gamma - 2 log 2 in place of gamma, c^2 = alpha^2 + sigma^2 / 4 "
    "(pixels from 0 to 1)": _halved,
}
