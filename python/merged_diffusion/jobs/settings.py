"""What an evaluation is asked for: one field per option of ``nll``, checked before anything is loaded.

Plain values with the option's name (``-`` becomes ``_``). None means: as the preset, the pair's card, the run
that is there, or the device suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final, Self

from merged_diffusion import methods
from merged_diffusion.errors import UsageError

THRESHOLDS: Final = ("eta", "gamma", "edm_sigma", "logsnr")
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "split": ("test", "train"),
    "dequantise": ("truncated-normal", "uniform", "decoder", "none"),
    **methods.WORDS,
    "convention": ("exact", "paper"),
    "range": ("native", "merged"),
    "dtype": ("float32", "float64"),
    "preset": ("default", "fast", "tight", "paper"),
    "variant": ("old", "new"),
}
# Fields that a preset fills where they are not given.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {"convention": "exact"},
    "fast": {"method": "adams", "tol": 3e-2, "h_max": 1.0, "convention": "exact"},
    "tight": {"method": "adams", "tol": 1e-3, "h_max": 0.5, "convention": "exact"},
    "paper": {
        "method": "dopri5",
        "step_control": "shared",
        "rtol": 1e-5,
        "atol": 1e-5,
        "probe": "fixed",
        "convention": "paper",
    },
}
# What `log_likelihood` takes under the same names.
SOLVER: Final = (
    *("seed", "dequantise", "importance", "repeats", "method", *methods.OPTIONS, "probes"),
    *("batch_size", "device", "dtype", "extrapolate", "batch_coupled", "profile_time", "accept_gradient"),
)
# What no record depends on, and no run keeps.
APART: Final = ("cache", "profile_time")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """An evaluation; `completed` fills in the preset, `checked` refuses what cannot be meant."""

    data: str
    split: str = "test"
    levels: int | None = None
    variant: str | None = None
    limit: int | None = None
    ids: tuple[int, int] | None = None
    pair: str | None = None
    likelihood_expert: str | None = None
    quality_expert: str | None = None
    expert: str | None = None
    eta: float | str | None = None
    gamma: float | None = None
    edm_sigma: float | None = None
    logsnr: float | None = None
    compare: bool = False
    labels: str | int = "none"
    dequantise: str = "truncated-normal"
    importance: int = 1
    repeats: int = 1
    method: str | None = None
    step_control: str | None = None
    rtol: float | None = None
    atol: float | None = None
    tol: float | None = None
    h_max: float | None = None
    bpd_tol: float | None = None
    probe: str | None = None
    probes: int = 1
    preset: str = "default"
    convention: str | None = None
    range: str = "native"
    extrapolate: bool = False
    allow_failed: bool = False
    batch_coupled: bool = False
    accept_gradient: str | None = None
    deterministic: bool = False
    batch_size: int | None = None
    threads: int | None = None
    device: str | None = None
    dtype: str | None = None
    compile: bool | None = None
    seed: int = 0
    cache: str | Path | None = None
    profile_time: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From a mapping that may hold more; absent and None leave the default."""
        names = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in options.items() if k in names and v is not None}).checked().completed()

    def checked(self) -> Self:
        """Itself; `UsageError` for a value or a combination outside what is allowed."""
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise UsageError(f"{name} = {value!r}, possible are {', '.join(allowed)}")
        self._check_selection()
        self._check_experts()
        for name in ("importance", "repeats", "probes", "threads"):
            _at_least_one(name, getattr(self, name))
        _at_least_one("batch_size", self.batch_size)
        methods.check_rows(self.batch_size)
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"seed = {self.seed}, possible are 0 to 2**64 - 1")
        methods.check(**{name: getattr(self, name) for name in methods.DEPENDENT})
        if self.bpd_tol is not None:
            self._check_bpd_tol(self.bpd_tol)
        return self

    def _check_bpd_tol(self, wish: float) -> None:
        if not 0 < wish < 1:
            raise UsageError(f"--bpd-tol {wish} is no error between 0 and 1 bits/dim", hint="use 1e-3, say")
        other = {"tol": self.tol, "rtol": self.rtol, "atol": self.atol}
        given = next((name for name, value in other.items() if value is not None), None)
        if given is not None or self.method == "dopri5" or self.step_control == "shared":
            reason = f"--{given}" if given else "method dopri5"
            raise UsageError(
                f"--bpd-tol chooses the tolerance of method adams, and {reason} was given, too",
                hint="leave one of them out",
            )

    def _check_selection(self) -> None:
        if self.limit is not None and self.ids is not None:
            raise UsageError("--limit and --ids were both given", hint="use one of them")
        _at_least_one("limit", self.limit)
        if self.ids is not None and not 0 <= self.ids[0] < self.ids[1]:
            first, end = self.ids
            raise UsageError(f"ids {first}:{end} choose no image", hint="use 0 <= A < B, half open")

    def _check_experts(self) -> None:
        given = [name for name in THRESHOLDS if getattr(self, name) is not None]
        if len(given) > 1:
            names = " and ".join(_option(name) for name in given)
            raise UsageError(f"{names} were given, but a model has one threshold", hint="use one of them")
        if self.expert is not None:
            others = [
                *given,
                *(n for n in ("likelihood_expert", "quality_expert", "pair") if getattr(self, n)),
            ]
            others += ["compare"] if self.compare else []
            if others:
                raise UsageError(
                    f"--expert is one expert alone and excludes {_option(others[0])}",
                    hint="use --likelihood-expert and --quality-expert for a merged model",
                )
        for name in given:
            _threshold(name, getattr(self, name))

    def completed(self) -> Self:
        """With the preset's values, and those that suit the method, where none were given."""
        preset = PRESETS[self.preset]
        method = self.method or preset.get("method") or (None if self.bpd_tol is None else "adams")
        if method != preset.get("method", method):
            raise UsageError(
                f"--preset {self.preset} is of method {preset['method']}, and --method is {method}",
                hint="leave one of them out",
            )
        stated = {k: v for k, v in preset.items() if getattr(self, k) is None}
        given = {name: stated.get(name, getattr(self, name)) for name in methods.OPTIONS}
        return replace(self, **stated | methods.completed(method, given))

    def solver_options(self) -> dict[str, Any]:
        """Keyword arguments of `log_likelihood`."""
        return {name: value for name in SOLVER if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All fields that say what is computed, as JSON values."""
        stated = {name: value for name, value in asdict(self).items() if name not in APART}
        if self.accept_gradient is None:
            del stated["accept_gradient"]  # runs that were begun before there was the option have it not
        return stated


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UsageError(
            f"{_option(name)} {value} lies below 1", hint="use a number from 1 up", **{name: value}
        )


def _threshold(name: str, value: float | str) -> None:
    if name == "eta" and isinstance(value, str):
        if value not in ("min", "max", "auto"):
            raise UsageError(f"--eta {value!r} is neither a number in [0, 1] nor min, max or auto")
        return
    number = float(value)
    if name == "eta" and not 0 <= number <= 1:
        raise UsageError(
            f"--eta {number} lies outside [0, 1]", hint="0 is the quality expert alone, 1 the likelihood one"
        )
    if not isfinite(number) or (name == "edm_sigma" and number <= 0):
        wanted = "a positive finite number" if name == "edm_sigma" else "a finite number"
        raise UsageError(f"{_option(name)} {number} is not {wanted}")
