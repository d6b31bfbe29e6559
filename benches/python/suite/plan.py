"""What is measured on a problem: curves with one probe, and errors against the exact trace.

Of the paper's pipeline with K independent probes averaged, an error is E^2(K) = D^2 + V/K, D the
discretisation error and V the variance of one probe. So a few K tell all of them (`analysis.saved_passes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from merged_diffusion.jobs.settings import PRESETS as PACKAGE
from merged_diffusion.ode.methods import Adams
from suite import measure
from suite.problems import Problem
from suite.setting import Floats, Found, Setting
from suite.store import Store

PAPER: Final = 1e-5
PRESETS: Final = {name: (used.tol, used.h_max) for name, used in PACKAGE.items() if isinstance(used, Adams)}
DEFAULT: Final = PRESETS["default"]
ADAMS: Final = (
    *((1e-1, 1.4), PRESETS["fast"], (1e-2, 0.85), DEFAULT, PRESETS["tight"]),
    *((3e-4, 0.35), (1e-4, 0.25), (3e-5, 0.18)),
)
TOLERANCES: Final = (1e-3, 3e-4, 1e-4, 3e-5, PAPER, 1e-6, 1e-7)
PIPELINE: Final = "scipy"
RUNGE_KUTTA: Final = (PIPELINE, "torchdiffeq", "torchode", "dopri5-shared", "dopri5")
REFERENCE: Final = Setting("dopri5", 1e-8, dtype="float64")
# Probes that the paper's pipeline averages, and how many seeds of each.
AVERAGED: Final = {1: 8, 4: 4, 16: 2}
COLOURS: Final = {"colours-4": 4, "colours-9": 9}
"""Rows of the default with colours of one probe."""
SEEDS: Final = 8
Cell = tuple[Setting, Found, Floats]


@dataclass(frozen=True)
class Scope:
    """How much is measured."""

    solvers: Sequence[str] = RUNGE_KUTTA
    tolerances: Sequence[float] = TOLERANCES
    adams: Sequence[tuple[float, float]] = ADAMS
    averaged: Mapping[int, int] = field(default_factory=lambda: AVERAGED)
    presets: Sequence[str] = tuple(PRESETS)
    seeds: int = SEEDS
    reference: Setting = REFERENCE


WHOLE: Final = Scope()
QUICK: Final = Scope(tolerances=(1e-4, PAPER, 1e-6), adams=ADAMS[1:6:2], averaged={1: 2, 4: 1}, seeds=2)
COSTLY: Final = Scope(
    solvers=(PIPELINE,),
    tolerances=(1e-4, PAPER, 1e-6),
    adams=ADAMS[1:7],
    averaged={1: 4, 4: 2},
    presets=("default",),
    seeds=4,
    reference=Setting("dopri5", 1e-7),
)


@dataclass(frozen=True)
class Measured:
    """A problem's cells: errors of one probe's curves, and of what a user gets."""

    title: str
    n: int
    product_cost: float
    curves: Mapping[str, Sequence[Cell]]
    """By solver, loosest first: with errors [N] in bits/dim against a tight solution with the same probe."""
    total: Mapping[str, Sequence[Cell]]
    """By name, a seed each: with errors [N] in bits/dim against the exact trace."""


def measure_problem(
    problem: Problem,
    store: Store,
    *,
    missing: Mapping[str, str],
    peers: Sequence[str] = RUNGE_KUTTA,
    quick: bool = False,
) -> Measured:
    """Every cell, from the store where it is there; ``peers`` are the Runge-Kutta solvers."""
    cost = store.kept(problem.name, "product-cost", lambda: {"ratio": measure.product_cost(problem)})

    def found(setting: Setting) -> Found:
        return store.found(problem.name, setting, lambda: measure.measured(problem, setting))

    def errors(settings: Sequence[Setting], truth: Floats) -> list[Cell]:
        cells = [found(setting) for setting in settings]
        return [
            (setting, cell, problem.bits_per_dim(cell.nats) - problem.bits_per_dim(truth))
            for setting, cell in zip(settings, cells, strict=True)
        ]

    scope = QUICK if quick else COSTLY if problem.costly else WHOLE
    solvers = [name for name in scope.solvers if name in peers and name not in missing]
    reference = found(scope.reference).nats
    curves = {name: errors(settings, reference) for name, settings in _curves(solvers, scope).items()}
    exact = _exact(problem, found)
    total = {name: errors(settings, exact) for name, settings in _totals(scope).items()}
    return Measured(problem.title, len(problem.points), cost["ratio"], curves, total)


def _curves(solvers: Sequence[str], scope: Scope) -> dict[str, list[Setting]]:
    curves = {name: [Setting(name, tol) for tol in scope.tolerances] for name in solvers}
    return curves | {"adams": [Setting("adams", tol, h_max=h_max) for tol, h_max in scope.adams]}


def _exact(problem: Problem, found: Callable[[Setting], Found]) -> Floats:
    if problem.exact is not None:
        return problem.exact
    return found(Setting("adams", **(problem.exact_by or {}))).nats


def _totals(scope: Scope) -> dict[str, list[Setting]]:
    totals = {
        f"paper-{probes}": [Setting("scipy", PAPER, probes=probes, seed=seed) for seed in range(seeds)]
        for probes, seeds in scope.averaged.items()
    }
    asked = [(name, PRESETS[name], 1) for name in scope.presets]
    asked += [(name, DEFAULT, colours) for name, colours in COLOURS.items()]
    for name, (tol, h_max), colours in asked:
        totals[name] = [
            Setting("adams", tol, h_max=h_max, probe="fresh", probes=colours, seed=seed)
            for seed in range(scope.seeds)
        ]
    return totals
