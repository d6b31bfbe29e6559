"""Which sampler, from words of the command line or of kept samples and back; how images are drawn in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Literal, cast, get_args

from merged_diffusion.errors import UsageError
from merged_diffusion.ode import methods
from merged_diffusion.ode.methods import Adams, Dopri5, Solver, check_kind, solver_of, words_of
from merged_diffusion.samplers import sigmas as grid_words
from merged_diffusion.samplers.on_grids import (
    Ancestral,
    Deis,
    Dpmpp2m,
    Dpmpp3m,
    DpmV3,
    Heun,
    Ipndm,
    OnGrid,
    UniPC,
    steps_of,
    whole,
)
from merged_diffusion.scores.defaults import SEED

Name = Literal["ode", "ancestral", "heun", "dpmpp-2m", "dpmpp-3m", "unipc", "deis", "ipndm", "dpm-v3"]
Decode = Literal["argmax", "sample"]

NAMES: Final = get_args(Name)
DECODES: Final = get_args(Decode)
DECODE: Final = "argmax"
# Of adams: images as exact as dopri5's at 1e-5, from under half of the evaluations.
USUAL_SOLVER: Final = Adams(tol=1e-3)
LOOSEST_TOL: Final = 0.01  # of adams: a third of an 8-bit level, which would be seen beyond


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


Sampler = Ode | OnGrid
GRIDS: Final = (
    Heun,
    Dpmpp2m,
    Dpmpp3m,
    UniPC,
    Deis,
    Ipndm,
    DpmV3,
    Ancestral,
)  # those of a fixed number of steps
SAMPLERS: Final[Mapping[str, type[Sampler]]] = {kind.name: kind for kind in (Ode, *GRIDS)}
OF_ORDERS: Final = (UniPC, Deis, DpmV3)
# The words of each sampler beside its name.
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    kind.name: methods.WORDS if kind is Ode else tuple(field.name for field in fields(kind))
    for kind in SAMPLERS.values()
}
# Whose a word usually is, where several samplers have it.
USUAL: Final[Mapping[str, str]] = {"steps": Heun.name, "sigmas": Dpmpp2m.name}


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
                f"{word.replace('_', '-')} {value} belongs to {_listed(owners)}, and the sampler is {asked}",
                hint=f"leave it out, or write --sampler {USUAL.get(word, owners[0])} {written}",
            )
    if asked == Ode.name:
        return Ode(solver_of(words, USUAL_SOLVER))
    said = {word: value for word in own if (value := words.get(word)) is not None}
    kind = SAMPLERS[str(asked)]
    grid = said.get("sigmas")
    if isinstance(grid, str) and grid not in grid_words.WORDS:
        grid = said["sigmas"] = grid_words.from_word(grid)
    if isinstance(grid, list | tuple) and kind is not Ode:
        said.setdefault("steps", steps_of(cast(type[OnGrid], kind), grid))
    return kind(**said)  # type: ignore[arg-type]


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
        whole("seed", self.seed, 0, 2**64 - 1)

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
        own = _own_words(self.sampler) if self.solver is None else words_of(self.solver)
        before = ("steps", "order", *methods.WORDS, "clip")
        said: dict[str, object] = {"seed": self.seed, "sampler": self.sampler.name}
        said |= {name: own[name] for name in before if name in own} | {"decode": self.decode}
        said |= {name: value for name, value in own.items() if name not in before}
        said = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
        return {name: value for name, value in said.items() if value is not None and value != math.inf}


def _own_words(sampler: Sampler) -> Mapping[str, object]:
    """The fields of a sampler; statistics by their hash."""
    found = {field.name: getattr(sampler, field.name) for field in fields(sampler)}
    if isinstance(sampler, DpmV3):
        found["statistics"] = sampler.known.sha256
    return found


def _listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
