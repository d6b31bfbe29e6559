"""Samplers of a fixed number of steps, from noise level to noise level down a grid (`samplers/sigmas.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast, get_args

from merged_diffusion.errors import UsageError
from merged_diffusion.samplers.sigmas import Sigmas, Word, checked

if TYPE_CHECKING:
    from merged_diffusion.flow_statistics import ModelStatistics

CHURN: Final = ("s_churn", "s_min", "s_max", "s_noise")
MOST_STEPS: Final = 1_000_000

Order = Literal[2, 3]
ORDERS: Final = get_args(Order)


class Stepped:
    """Steps down a grid of noise levels, which check themselves when they are made."""

    name: ClassVar[str]
    usual_sigmas: ClassVar[Word] = "logsnr"
    least: ClassVar[int] = 1
    """Steps that there have to be."""
    steps: int
    sigmas: Sigmas | None

    def __post_init__(self) -> None:
        sigmas = None if self.sigmas is None else checked(self.sigmas)
        whole("steps", self.steps, self.least, MOST_STEPS)
        if sigmas is not None:
            if not isinstance(sigmas, str) and steps_of(type(self), sigmas) != self.steps:
                right = steps_of(type(self), sigmas)
                raise UsageError(
                    f"steps {self.steps}, but {len(sigmas)} sigmas are {right} steps of {self.name}",
                    hint=f"write steps {right}, or leave it out on the command line",
                )
            # The usual grid by its name is no grid of its own.
            object.__setattr__(self, "sigmas", None if sigmas == self.usual_sigmas else sigmas)
        order = getattr(self, "order", ORDERS[0])
        if order not in ORDERS or isinstance(order, bool):
            raise UsageError(
                f"order {order}, possible are {' and '.join(map(str, ORDERS))}",
                hint="leave it out for the usual one",
            )


@dataclass(frozen=True)
class Ancestral(Stepped):
    """Ancestral steps down a fixed grid (Kingma et al. 2021); ``clip`` keeps the clean image in [-1, 1].

    ``sigmas`` as of `Dpmpp2m`.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Ancestral(steps=32))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 256
    clip: bool = False
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["ancestral"]] = "ancestral"


@dataclass(frozen=True)
class Heun(Stepped):
    """Heun's method, with noise added again between two noise levels (Karras et al. 2022, algorithm 2).

    ``sigmas`` are as many as there are steps, usually EDM's: a word, or numbers as of `Dpmpp2m`.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Heun(steps=18, s_churn=10.0))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 18
    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["heun"]] = "heun"
    usual_sigmas: ClassVar[Word] = "edm"
    least: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in CHURN:
            value = getattr(self, name)
            number = float(value) if isinstance(value, Real) else math.nan
            if not number >= 0 or (number == math.inf and name != "s_max"):
                raise UsageError(
                    f"{name.replace('_', '-')} {value} is no finite number from 0 up",
                    hint="s-churn 40, s-min 0.05, s-max 50, s-noise 1.003 are usual ones",
                )
            object.__setattr__(self, name, number)
        if not self.s_min <= self.s_max:
            raise UsageError(f"s-min {self.s_min} lies above s-max {self.s_max}")


@dataclass(frozen=True)
class Dpmpp2m(Stepped):
    """DPM-Solver++(2M), a multistep method on a fixed grid (Lu et al. 2022).

    Parameters
    ----------
    steps
        Evaluations of networks; a threshold adds one.
    sigmas
        Where it stops: ``logsnr`` (equal distances in gamma), ``edm`` (Karras et al. 2022), ``quadratic``, or
        EDM's sigmas themselves, falling from the model's upper end to its lower one, ``steps`` + 1 of them.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Dpmpp2m(steps=12))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 20
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["dpmpp-2m"]] = "dpmpp-2m"


@dataclass(frozen=True)
class Dpmpp3m(Stepped):
    """DPM-Solver++(3M) (Lu et al. 2022), with the weights of order 3 that its published code misses.

    ``steps`` and ``sigmas`` as of `Dpmpp2m`.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Dpmpp3m(steps=12))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 15
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["dpmpp-3m"]] = "dpmpp-3m"


@dataclass(frozen=True)
class UniPC(Stepped):
    """UniPC: predicts as DPM-Solver++, and corrects by the evaluation that comes next (Zhao et al. 2023).

    ``steps`` and ``sigmas`` as of `Dpmpp2m`; ``order`` 2 or 3 is how many evaluations a step looks back at.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.UniPC(steps=10))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 15
    order: Order = 3
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["unipc"]] = "unipc"


@dataclass(frozen=True)
class Deis(Stepped):
    """DEIS: the predicted noise as a polynomial of ``order`` nodes in gamma (Zhang and Chen 2023).

    ``steps`` and ``sigmas`` as of `Dpmpp2m`, but usually EDM's grid.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Deis(steps=10))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 15
    order: Order = 3
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["deis"]] = "deis"
    usual_sigmas: ClassVar[Word] = "edm"


@dataclass(frozen=True)
class Ipndm(Stepped):
    """iPNDM: Adams-Bashforth weights of four evaluations (Zhang and Chen 2023; Liu et al. 2022).

    ``steps`` and ``sigmas`` as of `Dpmpp2m`, but usually EDM's grid.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Ipndm(steps=10))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 15
    sigmas: Sigmas | None = None
    name: ClassVar[Literal["ipndm"]] = "ipndm"
    usual_sigmas: ClassVar[Word] = "edm"


@dataclass(frozen=True)
class DpmV3(Stepped):
    """Steps in the variable that statistics of the model make smoothest (Zheng et al. 2023, DPM-Solver-v3).

    Parameters
    ----------
    steps, order, sigmas
        As of `UniPC`.
    statistics
        Of `fit_model_statistics`, or the file that keeps them.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.DpmV3(steps=8, statistics="photos-statistics.npz")  # doctest: +SKIP
    """

    steps: int = 10
    order: Order = 2
    sigmas: Sigmas | None = None
    statistics: ModelStatistics | str | Path | None = None
    name: ClassVar[Literal["dpm-v3"]] = "dpm-v3"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.statistics is None:
            raise UsageError(
                f"{self.name} wants statistics of the model",
                hint="merged-diffusion model-statistics --data DATA --out FILE.npz measures them, once; "
                "--statistics FILE.npz names them",
            )
        if isinstance(self.statistics, str | Path):
            from merged_diffusion.flow_statistics import load_model_statistics

            object.__setattr__(self, "statistics", load_model_statistics(self.statistics))

    @property
    def known(self) -> ModelStatistics:
        """The statistics, as they were read."""
        return cast("ModelStatistics", self.statistics)


OnGrid = Ancestral | Heun | Dpmpp2m | Dpmpp3m | UniPC | Deis | Ipndm | DpmV3


def steps_of(kind: type[Stepped], sigmas: Sequence[float]) -> int:
    """How many steps such a sampler makes of a grid of numbers."""
    return len(sigmas) - (kind is not Heun)  # Heun's last one goes to no noise


def whole(name: str, value: object, least: int, most: int) -> None:
    """`UsageError` unless a value is a whole number within limits."""
    if not isinstance(value, Integral) or not least <= int(value) <= most:
        raise UsageError(
            f"{name} {value} is no whole number in {least}..{most}",
            hint="leave it out for the usual value",
        )
