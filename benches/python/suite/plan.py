"""What is measured on a problem: curves with one probe, and errors against the exact trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
RUNGE_KUTTA: Final = ("scipy", "torchdiffeq", "torchode", "dopri5-shared", "dopri5")
REFERENCE: Final = Setting("dopri5", 1e-8, dtype="float64")
# Probes that the paper's pipeline averages, and how many seeds of each.
AVERAGED: Final = {1: 8, 2: 8, 4: 4, 8: 4, 16: 2, 32: 2, 64: 1}
SEEDS: Final = 8
Cell = tuple[Setting, Found, Floats]


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
    problem: Problem, store: Store, *, missing: Mapping[str, str], quick: bool = False
) -> Measured:
    """Every cell, from the store where it is there."""
    cost = store.kept(problem.name, "product-cost", lambda: {"ratio": measure.product_cost(problem)})

    def found(setting: Setting) -> Found:
        return store.found(problem.name, setting, lambda: measure.measured(problem, setting))

    def errors(settings: Sequence[Setting], truth: Floats) -> list[Cell]:
        cells = [found(setting) for setting in settings]
        return [
            (setting, cell, problem.bits_per_dim(cell.nats) - problem.bits_per_dim(truth))
            for setting, cell in zip(settings, cells, strict=True)
        ]

    solvers = [name for name in RUNGE_KUTTA if name not in missing]
    reference = found(REFERENCE).nats
    curves = {name: errors(settings, reference) for name, settings in _curves(solvers, quick).items()}
    exact = _exact(problem, found)
    total = {name: errors(settings, exact) for name, settings in _totals(quick).items()}
    return Measured(problem.title, len(problem.points), cost["ratio"], curves, total)


def _curves(solvers: Sequence[str], quick: bool) -> dict[str, list[Setting]]:
    tolerances, presets = ((1e-4, PAPER, 1e-6), ADAMS[1:6:2]) if quick else (TOLERANCES, ADAMS)
    curves = {name: [Setting(name, tol) for tol in tolerances] for name in solvers}
    return curves | {"adams": [Setting("adams", tol, h_max=h_max) for tol, h_max in presets]}


def _exact(problem: Problem, found: Callable[[Setting], Found]) -> Floats:
    if problem.exact is not None:
        return problem.exact
    return found(Setting("adams", probe="exact", **(problem.exact_by or {}))).nats


def _totals(quick: bool) -> dict[str, list[Setting]]:
    averaged = {1: 2, 4: 1} if quick else AVERAGED
    totals = {
        f"paper-{probes}": [Setting("scipy", PAPER, probes=probes, seed=seed) for seed in range(seeds)]
        for probes, seeds in averaged.items()
    }
    for name, (tol, h_max) in PRESETS.items():
        totals[name] = [
            Setting("adams", tol, h_max=h_max, probe="fresh", seed=seed)
            for seed in range(2 if quick else SEEDS)
        ]
    return totals
