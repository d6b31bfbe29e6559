"""What an evaluation will take: one timed network call, times a nominal number of evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

import torch

from merged_diffusion import schedules
from merged_diffusion.experts.arithmetic import in_precision
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask, fenced, pull
from merged_diffusion.experts.memory import Rows
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Adams

# Per image; 184 to 322 and 44 to 55 were measured on small trained networks.
NOMINAL_EVALUATIONS: Final = {"dopri5": 200.0, "adams": 60.0}
TIMED_PROBES: Final = 4  # an exact trace is d products, which cost more than the forward call beside them
SETTLED_SECONDS: Final = 1.0  # a first call longer than this was not spent on starting threads and libraries


@dataclass(frozen=True)
class Estimate:
    """Seconds of one network call of ``rows`` rows with its VJP, and of the whole evaluation.

    ``check_seconds`` of them are the start check's, which is over when an estimate is made.
    """

    n_solves: int
    rows: int
    call_seconds: float
    seconds: float
    evaluations_per_image: float
    check_seconds: float = 0.0

    def after(self, check_seconds: float) -> Estimate:
        """The same with the start check."""
        return replace(self, check_seconds=check_seconds, seconds=self.seconds + check_seconds)

    def and_more(self, seconds: float) -> Estimate:
        """The same with what else is done before images are scored."""
        return replace(self, seconds=self.seconds + seconds) if seconds else self


def estimate(
    experts: Collection[Expert],
    shape: tuple[int, ...],
    settings: Settings,
    n_solves: int,
) -> Estimate:
    """Time the slowest of the experts; ``n_solves`` counts images times draws times models."""
    options = settings.options()
    probes, solver = options.probes.of_dim(math.prod(shape)), options.solver
    products = math.prod(shape) if probes.kind == "exact" else probes.n
    timed = min(products, TIMED_PROBES)
    call = time_call(experts, shape, settings, probes=timed)
    seconds, evaluations = call.seconds * products / timed, NOMINAL_EVALUATIONS[solver.method]
    if isinstance(solver, Adams):  # at least as many as steps of h_max fit into the experts' range
        lows, highs = zip(*(expert.gamma_range for expert in experts), strict=True)
        evaluations = max(evaluations, math.ceil((max(highs) - min(lows)) / solver.h_max))
    whole = math.ceil(n_solves / call.rows) * evaluations * seconds
    return Estimate(n_solves, call.rows, seconds, whole, evaluations)


@dataclass(frozen=True)
class Call:
    """Seconds of a network call, and its rows: half as many where memory did not suffice for those asked."""

    seconds: float
    rows: int


def time_call(
    experts: Iterable[Expert], shape: tuple[int, ...], settings: Settings, *, probes: int = 0
) -> Call:
    """The slowest one's forward call at z [B, C, H, W] and ``probes`` vector-Jacobian products."""
    place, conditional = settings.machine.here(lambda _: 1), settings.labels != "none"
    fewer = Rows(place.rows, place.device)

    def timed(expert: Expert) -> Call:
        while True:
            with fewer.attempt() as rows:
                at = (rows, *shape)
                return Call(call_seconds(expert, at, place, probes=probes, conditional=conditional), rows)

    with fenced(), in_precision(place.precision):
        calls = [timed(expert) for expert in experts]
    # Of a call with more rows than the last one could have: as much as is theirs.
    return Call(max(call.seconds * fewer.number / call.rows for call in calls), fewer.number)


def call_seconds(
    expert: Expert, shape: tuple[int, ...], place: Place, *, probes: int, conditional: bool
) -> float:
    """Seconds of one call at z of a ``shape`` [B, C, H, W] with so many products, after a first one."""
    move(expert, place)
    device = place.device
    low, high = expert.gamma_range
    clock = schedules.home(device)
    gamma = torch.full(shape[:1], (low + high) / 2, dtype=torch.float64, device=clock)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=place.dtype).to(device)
    cond = torch.zeros(shape[0], dtype=torch.int64, device=device) if conditional else None
    first = _timed(expert, z, gamma, cond, probes)
    return first if first > SETTLED_SECONDS else _timed(expert, z, gamma, cond, probes)


def move(expert: Expert, place: Place) -> None:
    """Bring an expert's network to where it will run; any other callable looks after itself."""
    if isinstance(expert, torch.nn.Module):
        expert.to(device=place.device, dtype=place.dtype).requires_grad_(False)


def _timed(
    expert: Expert, z: torch.Tensor, gamma: torch.Tensor, cond: torch.Tensor | None, probes: int
) -> float:
    start = time.monotonic()
    state = z.clone().requires_grad_()
    eps_hat = ask(expert, state, gamma, cond, grad=True)
    for probe in range(probes):
        if eps_hat.requires_grad:
            pull(expert, eps_hat, state, z, keep=probe + 1 < probes)
    if z.is_cuda:
        torch.cuda.synchronize()  # the time is of the work, not of queueing it
    return time.monotonic() - start
