"""Kinds of network by name: what papers and repositories call them, as declarations of `CallableExpert`.

Every constructor says what the network is called with and what it returns; the gammas, the scale of its input
and eps_hat follow. What is left to say is what no convention fixes: pixels, grey levels, the shape of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, Self, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merged_diffusion.errors import UsageError
from merged_diffusion.experts import clocks, readings
from merged_diffusion.experts.base import Pixels
from merged_diffusion.experts.likely import AtTimes, Changes, FirstHalf, Likely, Said, likely, name_of
from merged_diffusion.experts.timetables import RESCALED, SCHEDULES, ScheduleName, step_gammas

Table = Tensor | npt.ArrayLike
OF_STEPS: Final = ("eps", "x0", "v")
PATHS: Final = ("linear", "trigonometric")


class Rest(TypedDict, total=False):
    """What every kind of network takes besides."""

    pixels: Pixels
    levels: int
    image_shape: Sequence[int | None]
    gamma_range: tuple[float, float]
    conditional: bool
    name: str


USUAL: Final[Rest] = {"pixels": "ends", "levels": 256, "image_shape": (3, None, None), "conditional": False}


Made = TypeVar("Made")


class Kinds:
    """Constructors of a `CallableExpert`.

    All take ``pixels`` (``ends``: x = v/127.5 - 1, what all these kinds train on), ``levels`` (256),
    ``image_shape`` (three channels, any size), ``gamma_range`` (that of the kind), ``conditional``, ``name``.
    """

    likely: Likely

    @classmethod
    def ddpm(
        cls,
        net: Callable[..., Any],
        *,
        alphas_cumprod: Table | None = None,
        schedule: ScheduleName | None = None,
        steps: int = 1000,
        predicts: Literal["eps", "x0", "v"] = "eps",
        learned_variance: bool = False,
        rescale_timesteps: bool = False,
        whole_steps: bool = False,
        **rest: Unpack[Rest],
    ) -> Self:
        """A network of discrete time (Ho et al. 2020; Nichol and Dhariwal 2021).

        It is called as ``net(z, i)``, z = sqrt(abar_i) x + sqrt(1 - abar_i) eps, i = 0, ..., steps - 1.
        gamma = log((1 - abar)/abar); between the steps i is interpolated linearly in gamma.

        Parameters
        ----------
        alphas_cumprod
            abar [steps], falling; or ``schedule``.
        schedule
            One that has a name, with its gammas at 1000 steps: ``linear`` (Ho et al. 2020; -9.21 to 10.12);
            ``cosine`` (Nichol and Dhariwal 2021; -10.09 to 19.84); ``sigmoid``, abar along a sigmoid, of
            denoising-diffusion-pytorch (Jabri et al. 2023; -8.11 to 15.02); ``diffusers-sigmoid``, beta along
            one, which diffusers calls ``sigmoid`` (-8.81 to 10.13).
        predicts
            ``eps``, ``x0`` or ``v`` = sqrt(abar) eps - sqrt(1 - abar) x.
        learned_variance
            It returns twice as many channels, of which the second half is the variance and passed over.
        rescale_timesteps
            It is given 1000 i/steps.
        whole_steps
            It knows whole i only: gamma then goes to the nearest, and the likelihood is that of a model whose
            noise comes in steps.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> net = lambda z, i: 0.1 * z  # yours
        >>> md.CallableExpert.ddpm(net, schedule="cosine", name="mine")
        CallableExpert(mine, 3xanyxany, 256 levels, gamma -10.1 to 19.84)
        """
        if predicts not in OF_STEPS:
            raise UsageError(f"predicts = {predicts!r}, possible are {', '.join(OF_STEPS)}")
        gammas = step_gammas(alphas_cumprod, schedule, steps)
        called = FirstHalf(net) if learned_variance else net
        scale = RESCALED / len(gammas) if rescale_timesteps else 1.0
        if whole_steps or rescale_timesteps:
            called = AtTimes(called, scale, whole=whole_steps)
        declared = _declared(net, rest, (float(gammas[0]), float(gammas[-1])))
        expert = _made(
            cls, called, predicts=predicts, time="timestep", input="vp", schedule=gammas, **declared
        )
        # Over all of its own steps: another schedule covers other gammas.
        others: Rest = {**rest}
        others.pop("gamma_range", None)
        again = partial(
            cls.ddpm, net, alphas_cumprod=alphas_cumprod, schedule=schedule, steps=steps, predicts=predicts,
            learned_variance=learned_variance, rescale_timesteps=rescale_timesteps,
            whole_steps=whole_steps, **others,
        )  # fmt: skip
        changes: Changes = [{"predicts": word} for word in OF_STEPS if word != predicts]
        changes += [{"schedule": word} for word in SCHEDULES if schedule not in (None, word)]
        changes += [{"rescale_timesteps": not rescale_timesteps}] if len(gammas) != RESCALED else []
        if alphas_cumprod is not None:  # it may have been a root of it, or its square
            abar = 1 / (1 + np.exp(gammas))
            changes += [
                {"alphas_cumprod": Said(abar**power, f"alphas_cumprod**{power:g}")} for power in (2, 0.5)
            ]
        expert.likely = likely(again, changes)
        return expert

    @classmethod
    def edm(cls, net: Callable[..., Any], *, sigma_data: float = 0.5, **rest: Unpack[Rest]) -> Self:
        """F of EDM's preconditioning (Karras et al. 2022, eq. 7 and table 1).

        It is called as ``net(c_in x, ln(s)/4)``, x the image with noise of standard deviation s, and the
        denoiser is D = c_skip x + c_out F. A network that is D itself is declared by ``predicts="x0"``,
        ``time="edm_sigma"``, ``input="edm"``.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> net = lambda x, c_noise: 0.0 * x  # yours
        >>> md.CallableExpert.edm(net, sigma_data=0.5, name="mine")
        CallableExpert(mine, 3xanyxany, 256 levels, gamma -12.43 to 8.764)
        """
        if not sigma_data > 0:
            raise UsageError(f"sigma_data = {sigma_data} is not above 0")
        declared = _declared(net, rest, (2 * math.log(0.002), 2 * math.log(80.0)))
        reading = readings.edm(sigma_data)
        expert = _made(cls, net, predicts=reading, time="log_edm_sigma_over_4", input=reading, **declared)
        denoiser = {"predicts": "x0", "time": "edm_sigma", "input": "edm"}
        expert.likely = likely(partial(_made, cls, net, **declared), [denoiser], "CallableExpert")
        return expert

    @classmethod
    def flow(
        cls,
        net: Callable[..., Any],
        *,
        data_at: Literal[0, 1],
        path: Literal["linear", "trigonometric"] = "linear",
        time_scale: float = 1.0,
        **rest: Unpack[Rest],
    ) -> Self:
        """The velocity of flow matching, dx_t/dt (Lipman et al. 2023; Albergo and Vanden-Eijnden 2023).

        It is called as ``net(x_t, time_scale * t)``. With ``data_at=1`` (TorchCFM, flow_matching) the path is
        x_t = t x + (1 - t) eps and the velocity x - eps; with ``data_at=0`` (diffusers, SD3, rectified flow)
        it is x_t = (1 - t) x + t eps and eps - x. ``trigonometric``: sin(pi t/2) and cos(pi t/2) in the
        place of t and 1 - t.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> net = lambda x, t: -x  # yours
        >>> md.CallableExpert.flow(net, data_at=1, name="mine")
        CallableExpert(mine, 3xanyxany, 256 levels, gamma -10 to 9)
        """
        if not time_scale > 0:
            raise UsageError(f"time_scale = {time_scale} is not above 0")
        if data_at not in (0, 1):
            raise UsageError(f"data_at = {data_at!r}: the data are at t = 0 or at t = 1")
        if path not in PATHS:
            raise UsageError(f"path = {path!r}, possible are {', '.join(PATHS)}")
        declared = _declared(net, rest, readings.FLOW_RANGE)
        clock = clocks.flow_clock(data_at, time_scale, is_linear=path == "linear")
        if path == "linear":
            word = "x0-minus-eps" if data_at == 1 else "eps-minus-x0"
            expert = _made(cls, net, predicts=word, time=clock, input="flow", **declared)
        else:
            reading = readings.trigonometric(data_at)
            expert = _made(cls, net, predicts=reading, time=clock, input=reading, **declared)
        again = partial(cls.flow, net, data_at=data_at, path=path, time_scale=time_scale, **rest)
        changes: Changes = [{"data_at": 1 - data_at}]
        changes += [{"path": way} for way in PATHS if way != path]
        changes += [{"data_at": 1 - data_at, "path": way} for way in PATHS if way != path]
        changes += [{"time_scale": 1000.0 if time_scale == 1 else 1.0}]
        expert.likely = likely(again, changes)
        return expert

    @classmethod
    def vp_sde(
        cls,
        net: Callable[..., Any],
        *,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        sub: bool = False,
        predicts: Literal["eps", "score"] = "eps",
        time_scale: float = 999.0,
        **rest: Unpack[Rest],
    ) -> Self:
        """A network of the VP SDE, or of the sub-VP SDE (Song et al. 2021, appendix C).

        It is called as ``net(x_t, time_scale * t)``, x_t = a x + std eps with a = exp(-B/2),
        B = beta_min t + (beta_max - beta_min) t^2/2 and std = sqrt(1 - a^2), ``sub``: 1 - a^2. It returns eps
        (score_sde's networks: minus std times the score) or the score itself.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> net = lambda x, label: 0.1 * x  # yours
        >>> md.CallableExpert.vp_sde(net, name="mine")
        CallableExpert(mine, 3xanyxany, 256 levels, gamma -13.8 to 10.05)
        """
        if not 0 < beta_min < beta_max:
            raise UsageError(
                f"beta_min = {beta_min}, beta_max = {beta_max}: 0 < beta_min < beta_max is needed"
            )
        if predicts not in ("eps", "score"):
            raise UsageError(f"predicts = {predicts!r}, possible are eps, score")
        if not time_scale > 0:
            raise UsageError(f"time_scale = {time_scale} is not above 0")
        time = clocks.vp_sde_clock(beta_min, beta_max, time_scale, is_sub=sub)
        declared = _declared(net, rest, clocks.vp_sde_range(beta_min, beta_max, is_sub=sub))
        reading = readings.vp_sde(sub, predicts == "score")
        expert = _made(cls, net, predicts=reading, time=time, input=reading, **declared)
        again = partial(
            cls.vp_sde, net, beta_min=beta_min, beta_max=beta_max, sub=sub, predicts=predicts,
            time_scale=time_scale, **rest,
        )  # fmt: skip
        other = "score" if predicts == "eps" else "eps"
        changes: Changes = [{"sub": not sub}, {"predicts": other}, {"sub": not sub, "predicts": other}]
        changes += [{"time_scale": 1.0 if time_scale != 1 else 999.0}]
        expert.likely = likely(again, changes)
        return expert

    @classmethod
    def score(
        cls,
        net: Callable[..., Any],
        *,
        unit: bool,
        sigma_range: tuple[float, float] = (0.01, 50.0),
        **rest: Unpack[Rest],
    ) -> Self:
        """A score, the gradient of log p at x + s eps (Song and Ermon 2019; the VE SDE of Song et al. 2021).

        It is called as ``net(x + s eps, s)`` and trained for s in ``sigma_range``. ``unit=True``: its images
        and its s are on the scale of [0, 1], as of Song et al. 2021; ``unit=False``: of [-1, 1].

        Examples
        --------
        >>> import merged_diffusion as md
        >>> net = lambda x, s: -x / (1 + s.view(-1, 1, 1, 1) ** 2)  # yours
        >>> md.CallableExpert.score(net, unit=True, name="mine")
        CallableExpert(mine, 3xanyxany, 256 levels, gamma -7.82 to 9.21)
        """
        low, high = sigma_range
        if not 0 < low < high:
            raise UsageError(f"sigma_range = {sigma_range}: two rising numbers above 0 are needed")
        factor = 2.0 if unit else 1.0
        declared = _declared(net, rest, (2 * math.log(factor * low), 2 * math.log(factor * high)))
        time = clocks.sigma_clock(factor, is_log=False)
        reading = readings.variance_exploding(unit)
        expert = _made(cls, net, predicts=reading, time=time, input=reading, **declared)
        again = partial(cls.score, net, sigma_range=sigma_range, unit=unit, **rest)
        expert.likely = likely(again, [{"unit": not unit}])
        return expert


def _made(cls: type[Made], *arguments: object, **declared: object) -> Made:
    return cls(*arguments, **declared)


def _declared(net: Callable[..., Any], rest: Rest, gamma_range: tuple[float, float]) -> dict[str, object]:
    unknown = rest.keys() - Rest.__annotations__.keys()
    if unknown:
        raise UsageError(
            f"{', '.join(sorted(unknown))}: no such argument",
            hint=f"besides its own, every kind takes {', '.join(Rest.__annotations__)}",
        )
    return {**USUAL, "gamma_range": gamma_range, "name": name_of(net), **rest}
