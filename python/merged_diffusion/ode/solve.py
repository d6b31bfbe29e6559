"""Problems taken through all legs by the core, on the workspace that suits the device.

A CPU tensor is stepped in place by the core's host workspace, any other by torch; the network sees the same
number of rows at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.ode.items import Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Adams, Method, Solver
from merged_diffusion.ode.time_profile import Timekeeper
from merged_diffusion.ode.workspace import Floats, Network, Start, TorchWorkspace

Legs = Sequence[tuple[float, float]]
Drift = Literal["probability-flow", "flow", "plain"]

NOISE_FLOOR: Final = 0.1  # of adams' errors, in units of the data: finer noise is below half an 8-bit level
# Network outputs that a driver keeps: the stages of a step, or the nodes of two.
STORED: Final[Mapping[Method, int]] = {"dopri5": 7, "adams": 5}


def solve(
    routes: Sequence[Legs],
    networks: Sequence[Network],
    keys: Keys,
    start: Start,
    *,
    dim: int,
    place: Place,
    solver: Solver,
    finished: Callable[[_core.Outcome], object],
    drift: Drift = "probability-flow",
    steps: int | None = None,
    soft: Sequence[int] = (),
    keep: Callable[[int, Floats], object] | None = None,
    record_steps: bool = False,
    stride: int = 0,
    keeper: Timekeeper | None = None,
) -> dict[str, object]:
    """Integrate every problem from the start of its route to its end.

    Parameters
    ----------
    routes, networks
        Legs (from, to), and what is evaluated on the i-th leg of each. All routes have one start.
    keys, start
        The problems, and the state float64 [d] in which each begins.
    dim
        Values d of a state, which is float64.
    place
        Device and type of the network's input, its rows G, and the workspace, if not what suits the device.
    finished
        Called with each problem's outcome, in order of finishing.
    drift
        ``probability-flow`` with its log density, ``flow`` without, or ``plain``: what was evaluated.
    steps
        Equal steps a leg in the place of those that the solver chooses (dopri5).
    soft
        Legs whose end is passed as if there were none: what is evaluated is smooth there.
    stride
        Where there are several routes, problem ``key + r stride`` goes the r-th. Keys of one problem share
        what steps they have in common.
    keep
        Called with key and last state of every problem that reached the end, before ``finished`` is.
    keeper
        Keeps the time of verbs, starts and records; the networks' they tell it themselves.

    Returns
    -------
    dict
        Tallies of `_core.solve`. Exceptions of networks, ``start`` and ``finished`` come out unchanged.
    """
    rows, device, dtype = place.rows, place.device, place.dtype
    on_host = device.type == "cpu" if place.workspace is None else place.workspace == "host"
    if on_host and device.type != "cpu":
        raise UsageError(f'workspace = "host" steps tensors of the CPU, not of {device}')
    idle = int(keys[0]) if len(keys) else 0
    host_store, torch_store = _core.HostStore(), dict[int, Tensor]()
    kept: dict[int, dict[int, Tensor]] = {}

    def build(network: Network) -> object:
        if on_host:
            return _on_host(rows, dim, host_store, start, network, dtype)
        return TorchWorkspace(
            rows,
            dim,
            start=start,
            network=network,
            store=torch_store,
            kept=kept,
            device=device,
            dtype=dtype,
            idle=idle,
            slots=STORED[solver.method],
        )

    def note(outcome: _core.Outcome) -> None:
        if keep is not None and outcome.status in ("ok", "tolerance_missed"):
            key = outcome.key
            keep(key, host_store.take(key) if on_host else torch_store.pop(key).cpu().numpy())
        finished(outcome)

    if keeper is not None:
        start, note = keeper.during("starts")(start), keeper.during("records")(note)
    is_adams = isinstance(solver, Adams)
    legs, *branches = routes
    run = partial(
        _core.solve,
        legs,
        [build(network) for network in networks],
        keys,
        rows=rows,
        dim=dim,
        finished=note,
        # Adams solves the flow as it does with its density, less what would be too fine to be seen.
        drift="probability-flow" if is_adams and drift == "flow" else drift,
        noise_floor=NOISE_FLOOR if is_adams and drift == "flow" else 0.0,
        method=solver.method,
        step_control="constant" if steps else "shared" if solver.shared else "per-image",
        steps=steps,
        precision=solver.precision,
        keep=keep is not None,
        record_steps=record_steps,
        branches=branches,
        stride=stride,
        soft=list(soft),
        time_verbs=keeper is not None,
    )
    return run() if keeper is None else keeper.solve(run, rows=rows)


def _on_host(
    rows: int, dim: int, store: _core.HostStore, start: Start, network: Network, dtype: torch.dtype
) -> _core.HostWorkspace:
    """A host workspace whose network input is one memory for numpy, torch and the core."""
    given = torch.zeros(rows, dim, dtype=dtype)

    def evaluate(t: Floats, node: Keys, keys: Keys) -> tuple[np.ndarray[Any, Any], Floats]:
        output, q = network(given, t, node, keys)
        return output.numpy(), q.numpy()

    return _core.HostWorkspace(given.numpy(), store, start, evaluate)
