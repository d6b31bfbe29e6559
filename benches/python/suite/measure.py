"""One setting measured on one problem: values, evaluations, seconds, memory."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from merged_diffusion import _core
from merged_diffusion.merge import Leg
from merged_diffusion.scores.prepared import frozen
from suite import points
from suite.network import DTYPES, Network
from suite.peers import PEERS, Solved
from suite.problems import Problem
from suite.setting import Floats, Found, Setting

T = TypeVar("T")
ROUNDS = 9
STATUS, REFERENCED = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(problem: Problem, setting: Setting) -> Found:
    """The log densities of the problem's points, by a peer or by the package."""
    solve = _by_peer if setting.solver in PEERS else _by_package
    return solve(problem, setting)


def _by_peer(problem: Problem, setting: Setting) -> Found:
    experts = [leg.expert for leg in problem.model.legs()]
    device = torch.device("cpu")
    with torch.no_grad(), frozen(experts, device=device, dtype=DTYPES[setting.dtype]):
        network = Network(problem, setting)
        solved, seconds, peak = watched(lambda: PEERS[setting.solver](network, problem.starts, setting.tol))
        nats, evaluations = _log_density(problem, solved)
    return Found(nats, evaluations, seconds, network.seconds, peak)


def _log_density(problem: Problem, solved: Solved) -> tuple[Floats, Floats]:
    z, entry, evaluations = solved
    end = problem.model.legs()[-1].end
    return _core.end_density((z**2).sum(1), end, problem.dim) + entry, evaluations


def _by_package(problem: Problem, setting: Setting) -> Found:
    """As `log_density` does, which does not return what it took."""
    found, seconds, peak = watched(
        lambda: points.scored(
            problem.model,
            problem.points,
            seed=setting.seed,
            probe=setting.probe,
            probes=setting.probes,
            dtype=setting.dtype,
            batch_size=len(problem.points),
            **_options(setting),
        )
    )
    evaluations = np.sum(list(found.evaluations.values()), axis=0).astype(float)
    return Found(
        found.log_density_nats, evaluations, seconds, found.seconds - found.seconds_outside_network, peak
    )


def _options(setting: Setting) -> dict[str, object]:
    if setting.solver == "adams":
        return {"method": "adams", "tol": setting.tol, "h_max": setting.h_max}
    control = {"dopri5": "per-image", "dopri5-shared": "shared"}[setting.solver]
    return {"method": "dopri5", "step_control": control, "rtol": setting.tol, "atol": setting.tol}


def product_cost(problem: Problem) -> float:
    """Seconds of a vector-Jacobian product over those of a forward call: medians, both experts together."""
    n = len(problem.points)
    z = torch.from_numpy(problem.starts).float().view(n, *problem.shape)
    forward = both = 0.0
    with frozen([leg.expert for leg in problem.model.legs()], device=z.device, dtype=z.dtype):
        for leg in problem.model.legs():
            clock = torch.full((n,), (leg.start + leg.end) / 2, dtype=torch.float64)

            def call(leg: Leg = leg, clock: torch.Tensor = clock) -> None:
                with torch.no_grad():
                    leg.expert(z, clock)

            def call_and_product(leg: Leg = leg, clock: torch.Tensor = clock) -> None:
                state = z.clone().requires_grad_()
                torch.autograd.grad(leg.expert(state, clock), state, z)

            forward += _median(call)
            both += _median(call_and_product)
    return (both - forward) / forward


def _median(call: Callable[[], object]) -> float:
    """Processor time: other load does not count."""
    call()
    taken = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return statistics.median(taken)


def watched(work: Callable[[], T]) -> tuple[T, float, float | None]:
    """Its result, seconds, and the peak of resident memory above what was there."""
    gc.collect()
    before = _restart_peak()
    begin = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begin
    return result, seconds, None if before is None else _resident("VmHWM") - before


def _restart_peak() -> int | None:
    """Resident memory now, from which the peak is counted; None where there is no Linux to ask."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        REFERENCED.write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
