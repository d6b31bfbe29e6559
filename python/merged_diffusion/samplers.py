"""Samplers, as values that check themselves: each has the options that are its own.

Words are what the command line and kept samples call them. No torch is needed to refuse what cannot be meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import ClassVar, Final, Literal, get_args

from merged_diffusion.errors import UsageError
from merged_diffusion.ode import methods
from merged_diffusion.ode.methods import Adams, Dopri5, Solver, check_kind, solver_of, words_of
from merged_diffusion.scores.defaults import SEED

Name = Literal["ode", "ancestral", "heun", "dpmpp-2m"]
Decode = Literal["argmax", "sample"]

NAMES: Final = get_args(Name)
DECODES: Final = get_args(Decode)
DECODE: Final = "argmax"
# Of adams: images as exact as dopri5's at 1e-5, from under half of the evaluations.
USUAL_SOLVER: Final = Adams(tol=1e-3)
LOOSEST_TOL: Final = 0.01  # of adams: a third of an 8-bit level, which would be seen beyond
CHURN: Final = ("s_churn", "s_min", "s_max", "s_noise")
MOST_STEPS: Final = 1_000_000


@dataclass(frozen=True)
class Ode:
    """The probability flow, by a solver: images that are the exact solution's, as far as can be seen.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Ode(md.Adams(tol=0.01)))
    Samples(2 images 1x8x8, 17 levels)
    """

    solver: Solver = USUAL_SOLVER
    name: ClassVar[Name] = "ode"

    def __post_init__(self) -> None:
        check_kind("solver", self.solver, Adams, Dopri5)
        if isinstance(self.solver, Adams) and self.solver.tol > LOOSEST_TOL:
            raise UsageError(
                f"tol {self.solver.tol:g} lies above {LOOSEST_TOL:g}, where samples begin to differ visibly",
                hint="use a tolerance from 0.01 down, or sampler dpmpp-2m where that is too slow",
            )


@dataclass(frozen=True)
class Ancestral:
    """Ancestral steps down a fixed grid (Kingma et al. 2021); ``clip`` keeps the clean image in [-1, 1].

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Ancestral(steps=32))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 256
    clip: bool = False
    name: ClassVar[Name] = "ancestral"

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1, MOST_STEPS)


@dataclass(frozen=True)
class Heun:
    """Heun's method, with noise added again between two noise levels (Karras et al. 2022, algorithm 2).

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
    name: ClassVar[Name] = "heun"

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 2, MOST_STEPS)
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
class Dpmpp2m:
    """DPM-Solver++(2M), a multistep method on a fixed grid (Lu et al. 2022).

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.draw(md.load_pair("digits"), range(2), sampler=md.Dpmpp2m(steps=12))
    Samples(2 images 1x8x8, 17 levels)
    """

    steps: int = 20
    name: ClassVar[Name] = "dpmpp-2m"

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1, MOST_STEPS)


Sampler = Ode | Ancestral | Heun | Dpmpp2m
GRIDS: Final = (Heun, Dpmpp2m, Ancestral)  # those of a fixed number of steps
SAMPLERS: Final[Mapping[str, type[Sampler]]] = {kind.name: kind for kind in (Ode, Ancestral, Heun, Dpmpp2m)}
# The words of each sampler beside its name.
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    kind.name: methods.WORDS if kind is Ode else tuple(field.name for field in fields(kind))
    for kind in SAMPLERS.values()
}
# Whose a word usually is, where several samplers have it.
USUAL: Final[Mapping[str, str]] = {"steps": Heun.name}


def sampler_of(words: Mapping[str, object]) -> Sampler:
    """The sampler that words of the command line or of kept samples mean; others and None are passed over.

    Raises
    ------
    UsageError
        A word is of another sampler, or no value of its own.
    """
    asked = words.get("sampler") or Ode.name
    if asked not in SAMPLERS:
        raise UsageError(f"sampler = {asked!r}, possible are {', '.join(NAMES)}")
    own = WORDS[str(asked)]
    for word in dict.fromkeys(word for known in WORDS.values() for word in known):
        value = words.get(word)
        if word not in own and value is not None and value is not False:
            owners = [name for name, known in WORDS.items() if word in known]
            written = f"--{word.replace('_', '-')}{'' if value is True else f' {value}'}"
            raise UsageError(
                f"{word.replace('_', '-')} {value} belongs to {' and '.join(owners)}, and the sampler is "
                f"{asked}",
                hint=f"leave it out, or write --sampler {USUAL.get(word, owners[0])} {written}",
            )
    if asked == Ode.name:
        return Ode(solver_of(words, USUAL_SOLVER))
    said = {word: value for word in own if (value := words.get(word)) is not None}
    return SAMPLERS[str(asked)](**said)  # type: ignore[arg-type]


def as_sampler(given: Sampler | Name) -> Sampler:
    """A sampler as it is, or with its defaults by its name."""
    return sampler_of({"sampler": given}) if isinstance(given, str) else given


@dataclass(frozen=True)
class Sampling:
    """How images are drawn: a sampler, the seed of its noise, and how grey levels are read from z_min."""

    sampler: Sampler = Ode()
    seed: int = SEED
    decode: Decode = DECODE

    def __post_init__(self) -> None:
        check_kind("sampler", self.sampler, *SAMPLERS.values())
        if self.decode not in DECODES:
            raise UsageError(f"decode = {self.decode!r}, possible are {', '.join(DECODES)}")
        _whole("seed", self.seed, 0, 2**64 - 1)

    @classmethod
    def of(cls, words: Mapping[str, object]) -> Sampling:
        """From words; `as_dict` gives them back."""
        said = {name: words[name] for name in ("seed", "decode") if words.get(name) is not None}
        return cls(sampler_of(words), **said)  # type: ignore[arg-type]

    @property
    def solver(self) -> Solver | None:
        """That of the ODE; None on a fixed grid."""
        return self.sampler.solver if isinstance(self.sampler, Ode) else None

    @property
    def is_shared(self) -> bool:
        """Whether the images of a block share their steps, so that they depend on each other."""
        return self.solver is not None and self.solver.shared

    def check_profiled(self) -> None:
        """`UsageError` where no solver is at work whose time could be told."""
        if self.solver is None:
            raise UsageError(
                f"profile-time belongs to ode, and the sampler is {self.sampler.name}",
                hint="leave it out, or use sampler ode",
            )

    def as_dict(self) -> dict[str, object]:
        """The words that count, as JSON values; an unlimited ``s_max`` has none."""
        own: Mapping[str, object] = asdict(self.sampler) if self.solver is None else words_of(self.solver)
        before = ("steps", *methods.WORDS, "clip")
        said: dict[str, object] = {"seed": self.seed, "sampler": self.sampler.name}
        said |= {name: own[name] for name in before if name in own} | {"decode": self.decode}
        said |= {name: value for name, value in own.items() if name not in before}
        return {name: value for name, value in said.items() if value is not None and value != math.inf}


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, Integral) or not least <= int(value) <= most:
        raise UsageError(
            f"{name} {value} is no whole number in {least}..{most}",
            hint="leave it out for the usual value",
        )
