"""Samplers by name, and what may be asked of each; torch is not needed to refuse what cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args

from merged_diffusion import methods
from merged_diffusion.errors import UsageError

Sampler = Literal["ode", "ancestral", "heun", "dpmpp-2m"]
Decode = Literal["argmax", "sample"]

SAMPLERS: Final = get_args(Sampler)
DECODES: Final = get_args(Decode)
STEPS: Final[Mapping[str, int]] = {"ancestral": 256, "heun": 18, "dpmpp-2m": 20}
LEAST_STEPS: Final[Mapping[str, int]] = {"ancestral": 1, "heun": 2, "dpmpp-2m": 1}
USUAL_TOL: Final = 1e-3  # of adams: images as exact as dopri5's at 1e-5, from under half of the evaluations
LOOSEST_TOL: Final = 0.01  # of adams: a third of an 8-bit level, which would be seen beyond
ODE: Final = ("method", "step_control", "rtol", "atol", "tol", "h_max")
CHURN: Final = ("s_churn", "s_min", "s_max", "s_noise")
# Who takes an option that not every sampler takes.
OWNERS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(ODE, ("ode",)),
    **dict.fromkeys(CHURN, ("heun",)),
    "steps": tuple(STEPS),
    "clip": ("ancestral",),
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn. After checking, every option of the sampler has a value, every other none.

    ``steps`` of a sampler on a fixed grid; ``method`` to ``h_max`` of the ODE's solver; ``clip`` of the clean
    image within ancestral steps; ``s_churn`` to ``s_noise`` of Heun's (Karras et al. 2022, algorithm 2).
    """

    seed: int = 0
    sampler: Sampler = "ode"
    steps: int | None = None
    method: str | None = None
    step_control: str | None = None
    rtol: float | None = None
    atol: float | None = None
    tol: float | None = None
    h_max: float | None = None
    clip: bool | None = None
    decode: Decode = "argmax"
    s_churn: float | None = None
    s_min: float | None = None
    s_max: float | None = None
    s_noise: float | None = None

    def __post_init__(self) -> None:
        """Complete the sampler's options.

        Raises
        ------
        UsageError
            A value is not possible, or an option is not the sampler's.
        """
        _one_of("sampler", self.sampler, SAMPLERS)
        _one_of("decode", self.decode, DECODES)
        _whole("seed", self.seed, 0, 2**64 - 1)
        for name, owners in OWNERS.items():
            value = getattr(self, name)
            if self.sampler not in owners and value is not None and value is not False:
                raise UsageError(
                    f"{name.replace('_', '-')} {value} belongs to {' and '.join(owners)}, and the sampler is "
                    f"{self.sampler}",
                    hint=f"leave it out, or use sampler {owners[0]}",
                )
        if self.sampler == "ode":
            self._set(clip=None, **self._solver())
        else:
            self._set(steps=STEPS[self.sampler] if self.steps is None else self.steps)
            _whole("steps", self.steps, LEAST_STEPS[self.sampler], 1_000_000)
            self._set(clip=bool(self.clip) if self.sampler == "ancestral" else None)
        if self.sampler == "heun":
            self._set(**self._churn())

    def _solver(self) -> dict[str, Any]:
        for name, allowed in methods.WORDS.items():
            if name in ODE and getattr(self, name) is not None:
                _one_of(name, getattr(self, name), allowed)
        found = methods.completed(self.method, {name: getattr(self, name) for name in ODE})
        numbers = {name: found[name] for name in ("rtol", "atol", "tol", "h_max")}
        methods.check(**numbers, probe=None, probes=1, dequantise="", importance=1)
        if found["tol"] is not None and found["tol"] > LOOSEST_TOL:
            raise UsageError(
                f"tol {found['tol']:g} lies above {LOOSEST_TOL:g}, where samples begin to differ visibly",
                hint="use a tolerance from 0.01 down, or sampler dpmpp-2m where that is too slow",
            )
        if found["method"] == "adams" and self.tol is None:
            found["tol"] = USUAL_TOL
        return {name: found[name] for name in ODE}

    def _churn(self) -> dict[str, float]:
        usual = {"s_churn": 0.0, "s_min": 0.0, "s_max": math.inf, "s_noise": 1.0}
        found = {k: v if (own := getattr(self, k)) is None else own for k, v in usual.items()}
        for name, value in found.items():
            number = float(value) if isinstance(value, Real) else math.nan
            if not number >= 0 or (number == math.inf and name != "s_max"):
                raise UsageError(
                    f"{name.replace('_', '-')} {value} is no finite number from 0 up",
                    hint="s-churn 40, s-min 0.05, s-max 50, s-noise 1.003 are usual ones",
                )
        if not found["s_min"] <= found["s_max"]:
            raise UsageError(f"s-min {found['s_min']} lies above s-max {found['s_max']}")
        return {name: float(value) for name, value in found.items()}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def check_profiled(self) -> None:
        """`UsageError` where no solver is at work whose time could be told."""
        if self.sampler != "ode":
            raise UsageError(
                f"profile-time belongs to ode, and the sampler is {self.sampler}",
                hint="leave it out, or use sampler ode",
            )

    @property
    def is_shared(self) -> bool:
        """Whether the images of a block share their steps, so that they depend on each other."""
        return self.step_control == "shared"

    def as_dict(self) -> dict[str, Any]:
        """The options that count, as JSON values: those with a value; an unlimited ``s_max`` has none."""
        return {k: v for k, v in asdict(self).items() if v is not None and v != math.inf}


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name.replace('_', '-')} = {value!r}, possible are {', '.join(allowed)}")


def _whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, Integral) or not least <= int(value) <= most:
        raise UsageError(
            f"{name} {value} is no whole number in {least}..{most}",
            hint="leave it out for the usual value",
        )
