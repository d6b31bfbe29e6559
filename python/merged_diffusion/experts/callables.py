"""Any callable as an expert: what it is given, which time it knows, what it predicts, all declared.

With z = alpha x + sigma eps and a prediction at fixed (alpha, sigma):

    ============  =======================  ============================
    predicts      the network's output     eps_hat
    ============  =======================  ============================
    eps           eps                      itself
    x0            x                        (z - alpha x) / sigma
    v             alpha eps - sigma x      sigma z + alpha v
    score         -eps / sigma             -sigma score
    eps-minus-x0  u = eps - x              (z + alpha u) / (alpha + sigma)
    x0-minus-eps  u = x - eps              (z - alpha u) / (alpha + sigma)
    ============  =======================  ============================

(v: Salimans & Ho 2022; score: Song et al. 2021, the gradient of log p at z; u: the velocity of flow matching,
Lipman et al. 2023, of x_t = (1 - t) x + t eps with t = sigma/(alpha + sigma).) There is no word ``velocity``:
half of the code of flow matching means noise minus data by it, half data minus noise, as its t runs. Only x0
must subtract nearly equal numbers; it does so in float64, so that nothing is lost beyond what the network
itself rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar, cast, get_args

import numpy.typing as npt
from torch import Tensor, nn

from merged_diffusion import _core, schedules
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import ImageShape, Pixels, check_declaration, described, like_input
from merged_diffusion.experts.fence import gammas, is_of_expert, raised
from merged_diffusion.experts.kinds import Kinds
from merged_diffusion.experts.likely import Likely, name_of
from merged_diffusion.experts.readings import INPUTS, Reading, of_words
from merged_diffusion.experts.timetables import Timetable

Predicts = Literal["eps", "x0", "v", "score", "eps-minus-x0", "x0-minus-eps"]
TimeName = Literal["gamma", "edm_sigma", "log_edm_sigma_over_4", "t01", "timestep"]
Clock = Callable[[Tensor], Tensor]
Input = Literal["vp", "edm", "flow"]
Schedule = Clock | Tensor | npt.ArrayLike
Word = TypeVar("Word", bound=str)
WORDS: Final = (
    "eps; x0; v = alpha eps - sigma x; score = -eps/sigma; eps-minus-x0 and x0-minus-eps, the velocities of "
    "flow matching"
)
TWO_READINGS: Final = (
    'write "eps-minus-x0" where it is noise minus data, eps_hat = (z + alpha u)/(alpha + sigma) (diffusers; '
    't = 1 is noise), or "x0-minus-eps" where it is data minus noise, eps_hat = (z - alpha u)/(alpha + '
    'sigma) (TorchCFM, flow_matching; t = 1 is data); alpha eps - sigma x is "v"'
)
FLOW_TIME: Final = (
    "of flow matching, schedule=lambda gamma: torch.sigmoid(gamma / 2) where t = 1 is noise, "
    "torch.sigmoid(-gamma / 2) where t = 1 is data"
)


class CallableExpert(Kinds, nn.Module):
    """``net(input, time)``, or ``net(input, time, cond)`` where it is ``conditional``, as a noise predictor.

    Parameters
    ----------
    net
        Called with the input [B, C, H, W], the time [B] of the same dtype and, if conditional, the labels.
    predicts
        ``eps``, ``x0``, ``v``, ``score``, ``eps-minus-x0`` or ``x0-minus-eps``, as in the table above.
    time
        ``gamma``; ``edm_sigma`` = exp(gamma/2); ``log_edm_sigma_over_4`` = gamma/8; ``t01`` or ``timestep``,
        which need a schedule; or a callable from gamma [B] to time [B], both float64.
    input
        ``vp``: z; ``edm``: z/alpha; ``flow``: z/(alpha + sigma).
    pixels, levels
        The value that the network takes a pixel to be: ``centred``, 2(v + 1/2)/L - 1, or ``ends``,
        2v/(L - 1) - 1; v of L grey levels.
    gamma_range
        The gammas that it was trained on, least noise first.
    image_shape
        C, H, W; None in H, W: any.
    schedule
        For ``t01`` and ``timestep``: a callable from gamma [B] to time [B]; or the gammas of the N times,
        rising or falling, which are 0, 1, ..., N - 1 for ``timestep`` and 0, ..., 1 evenly for ``t01``, with
        linear interpolation between them (so timesteps may be fractions). It must cover gamma_range.
        Of flow matching, t of x_t = (1 - t) x + t eps is ``lambda gamma: torch.sigmoid(gamma / 2)``; where t
        runs the other way, t = 1 is data, it is ``lambda gamma: torch.sigmoid(-gamma / 2)``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import torch
    >>> def net(z, sigma):  # the denoiser of N(0, I/4): D(x; sigma) = x / (1 + 4 sigma^2)
    ...     return z / (1 + 4 * sigma.view(-1, 1, 1, 1).to(z.dtype) ** 2)
    >>> md.CallableExpert(
    ...     net, predicts="x0", time="edm_sigma", input="edm", pixels="centred", levels=256,
    ...     gamma_range=(-12.0, 8.0), image_shape=(3, 32, 32), name="mine",
    ... )
    CallableExpert(mine, 3x32x32, 256 levels, gamma -12 to 8)
    """

    def __init__(
        self,
        net: Callable[..., Any],
        *,
        predicts: Predicts | Reading,
        time: TimeName | Clock,
        input: Input | Reading,  # noqa: A002 (the interface's name)
        pixels: Pixels,
        levels: int,
        gamma_range: tuple[float, float],
        image_shape: Sequence[int | None],
        schedule: Schedule | None = None,
        conditional: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.training = False
        self.likely: Likely = {}
        self.net = net
        self.name = name_of(net) if name is None else name
        self.predicts = _predicts(predicts)
        self.input = input if isinstance(input, Reading) else _one_of("input", input, get_args(Input))
        self.pixels: Pixels = pixels
        self.levels = levels
        self.gamma_range = _core.gamma_range(*gamma_range)
        self.image_shape: ImageShape = tuple(image_shape)  # type: ignore[assignment]
        self.conditional = conditional
        self.time = time if callable(time) else _one_of("time", time, get_args(TimeName))
        self.clock: Clock = self._clock(schedule)
        check_declaration(self)

    def _clock(self, schedule: Schedule | None) -> Clock:
        if self.time in ("t01", "timestep"):
            if schedule is None:
                raise UsageError(
                    f'time = "{self.time}" says nothing about gamma without a schedule',
                    hint="give schedule = a callable from gamma to time, or the gammas of the times; "
                    f"{FLOW_TIME}",
                )
            return _schedule(schedule, self.time == "t01", self.gamma_range)
        if schedule is not None:
            raise UsageError(f'schedule belongs to time = "t01" or "timestep", not to {self.time!r}')
        return self.time if callable(self.time) else CLOCKS[self.time]

    def __repr__(self) -> str:
        return described(self)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] of z [B, C, H, W] at gamma [B]."""
        gamma = gamma.double()
        reading = _reading(self.predicts, self.input)
        out = self._call(reading.given(z, gamma), schedules.as_input(self.clock(gamma), z), gamma, cond)
        return reading.eps_hat(like_input(self.name, out, z), z, gamma)

    def _call(self, scaled: Tensor, time: Tensor, gamma: Tensor, cond: Tensor | None) -> Any:
        arguments = (scaled, time, cond) if self.conditional else (scaled, time)
        try:
            return self.net(*arguments)
        except BaseException as error:
            if not is_of_expert(error):
                raise
            raise raised(self.name, error, where=gammas(gamma)) from error

    def extra_repr(self) -> str:
        """The declaration."""
        return f"{self.name}, predicts={self.predicts}, time={self.time}, input={self.input}"


def _gamma(gamma: Tensor) -> Tensor:
    return gamma


def _log_edm_sigma_over_4(gamma: Tensor) -> Tensor:
    return gamma / 8


CLOCKS: dict[str, Clock] = {
    "gamma": _gamma,
    "edm_sigma": schedules.edm_sigma,
    "log_edm_sigma_over_4": _log_edm_sigma_over_4,
}


def _schedule(schedule: Schedule, unit: bool, gamma_range: tuple[float, float]) -> Clock:
    if callable(schedule):
        return schedule
    return Timetable(schedule, unit=unit, gamma_range=gamma_range)


def _reading(predicts: Predicts | Reading, given: Input | Reading) -> Reading:
    scales = given.input if isinstance(given, Reading) else INPUTS[given]
    if isinstance(predicts, Reading):
        return Reading(predicts.words, scales, predicts.output)
    return of_words(predicts, scales)


def _predicts(word: str | Reading) -> Predicts | Reading:
    if isinstance(word, Reading):
        return word
    if word == "velocity":
        raise UsageError('predicts = "velocity" is read with either sign', hint=TWO_READINGS)
    return cast(Predicts, _one_of("predicts", word, get_args(Predicts), hint=WORDS))


def _one_of(name: str, value: Word, allowed: tuple[str, ...], *, hint: str | None = None) -> Word:
    if value not in allowed:
        raise UsageError(f"{name} = {value!r} is none of {', '.join(allowed)}", hint=hint)
    return value
