"""Solvers by name, and what may be asked of each; torch is not needed to refuse what cannot be meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args

from merged_diffusion.errors import UsageError

Method = Literal["dopri5", "adams"]
StepControl = Literal["per-image", "shared"]
ProbeKind = Literal["fixed", "fresh", "gaussian", "exact"]

METHODS: Final = get_args(Method)
STEP_CONTROLS: Final = get_args(StepControl)
PROBES: Final = get_args(ProbeKind)
WORDS: Final = {"method": METHODS, "step_control": STEP_CONTROLS, "probe": PROBES}
LEAST_TOLERANCE: Final = 100 * 2.0**-52  # 100 ulp of the float64 state, whose rounding hides less
LEAST_TOL: Final = 1e-7  # of adams: its errors come from inner products, where half of the digits cancel
# What a solver takes, and what each is where nobody says.
DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "dopri5": {"step_control": "per-image", "rtol": 1e-5, "atol": 1e-5, "probe": "fixed"},
    "adams": {"step_control": "per-image", "tol": 3e-3, "h_max": 0.7, "probe": "fresh"},
}
DEFAULT: Final[Method] = "adams"
MOST_ROWS: Final = 1 << 16  # of a network call: one solve holds no more problems to fill them with
OPTIONS: Final = ("step_control", "rtol", "atol", "tol", "h_max", "probe")
DEPENDENT: Final = ("rtol", "atol", "tol", "h_max", "probe", "probes", "dequantise", "importance")


def completed(method: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """``method`` and every one of `OPTIONS`: as given, else as suits the method; None where it takes none.

    Without a method it is the one that the options given belong to.

    Raises
    ------
    UsageError
        An option belongs to the other method.
    """
    stated = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    owners = {name: owner for name, value in stated.items() if (owner := _owner(name, value)) is not None}
    chosen = method or next(iter(owners.values()), DEFAULT)
    for name, owner in owners.items():
        if owner != chosen:
            raise UsageError(
                f"{_stated(name, stated[name])} belongs to method {owner}, and the method is {chosen}",
                hint=_reason(name, stated[name]) or f"use method {owner}, or leave it out",
            )
    return {**dict.fromkeys(OPTIONS), "method": chosen, **DEFAULTS[chosen], **stated}


def check_seed(seed: object) -> None:
    """Refuse what names no stream of random numbers.

    Raises
    ------
    UsageError
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**64:
        raise UsageError(f"seed = {seed} is no whole number in 0..2**64 - 1")


def check_rows(rows: object) -> None:
    """Refuse a batch size that no network call can have.

    Raises
    ------
    UsageError
    """
    if rows is not None and not (isinstance(rows, Integral) and 1 <= int(rows) <= MOST_ROWS):
        raise UsageError(
            f"batch_size = {rows}: a network call has 1 to {MOST_ROWS} rows",
            hint="leave it out for what suits the device",
            batch_size=rows,
            most=MOST_ROWS,
        )


def _owner(name: str, value: object) -> str | None:
    """The one method that takes an option's value; None: both do."""
    if name == "step_control":
        return "dopri5" if value == "shared" else None
    if name == "probe":
        return "adams" if value == "fresh" else None
    return next((method for method in METHODS if name in DEFAULTS[method]), None)


def _stated(name: str, value: object) -> str:
    return f"{name.replace('_', '-')} {value}"


def _reason(name: str, value: object) -> str | None:
    if name == "probe" and value == "fresh":
        return (
            "dopri5 carries the log-density in its error norm and would take the noise of a new probe at a "
            "node for error (5,000 evaluations in place of 120): use method adams, or probe fixed"
        )
    return None


def check(
    *,
    rtol: float | None,
    atol: float | None,
    tol: float | None,
    h_max: float | None,
    probe: str | None,
    probes: int,
    dequantise: str,
    importance: int,
) -> None:
    """Refuse numbers outside their range and arguments that contradict each other, those of `DEPENDENT`.

    Raises
    ------
    UsageError
    """
    _check_tolerance("rtol", rtol)
    _check_tolerance("atol", atol)
    _check_positive("tol", tol, LEAST_TOL)
    _check_positive("h-max", h_max, 0.0)
    if probe == "exact" and probes > 1:
        raise UsageError(f"probe exact has no probes to average, but probes = {probes}", hint="use 1 probe")
    if dequantise == "none" and importance > 1:
        raise UsageError(
            f"importance = {importance} weights draws of noise, but dequantise none draws none",
            hint="use importance 1",
        )


def _check_tolerance(name: str, value: object) -> None:
    if value is None:
        return
    number = float(value) if isinstance(value, Real) else math.nan
    if not LEAST_TOLERANCE <= number < math.inf:
        raise UsageError(
            f"{name} = {value} is no finite number from {LEAST_TOLERANCE:.1e} up, 100 units in the last "
            "place of float64",
            hint="use a tolerance between 1e-3 and 1e-12",
        )


def _check_positive(name: str, value: object, least: float) -> None:
    if value is None:
        return
    number = float(value) if isinstance(value, Real) else math.nan
    if not (number >= least and 0 < number < math.inf):
        raise UsageError(
            f"{name} = {value} is no finite positive number" + (f" from {least:g} up" if least else ""),
            hint="tol is an error in units of the noise (0.003), h-max a step in gamma (0.7)",
        )
