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
from merged_diffusion.methods import Method
from merged_diffusion.ode.items import Keys
from merged_diffusion.ode.time_profile import Timekeeper
from merged_diffusion.ode.workspace import Floats, Network, Start, TorchWorkspace

Drift = Literal["probability-flow", "flow", "plain"]
StepControl = Literal["per-image", "shared", "constant"]
WorkspaceKind = Literal["host", "torch"]

# Network outputs that a driver keeps: the stages of a step, or the nodes of two.
STORED: Final[Mapping[Method, int]] = {"dopri5": 7, "adams": 5}


def solve(
    legs: Sequence[tuple[float, float]],
    networks: Sequence[Network],
    keys: Keys,
    start: Start,
    *,
    shape: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    finished: Callable[[_core.Outcome], object],
    workspace: WorkspaceKind | None = None,
    method: Method = "dopri5",
    drift: Drift = "probability-flow",
    step_control: StepControl = "per-image",
    steps: int | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    tol: float = 3e-3,
    h_max: float = 0.7,
    order: int = 3,
    noise_floor: float = 0.0,
    keep: Callable[[int, Floats], object] | None = None,
    record_steps: bool = False,
    branches: Sequence[Sequence[tuple[float, float]]] = (),
    stride: int = 0,
    keeper: Timekeeper | None = None,
) -> dict[str, Any]:
    """Integrate every problem from the first leg's start to the last leg's end.

    Parameters
    ----------
    legs, networks
        (from, to) and what is evaluated between them, leg by leg.
    keys, start
        The problems, and the state float64 [d] in which each begins.
    shape
        Rows G of a network call, and values d of a state.
    device, dtype
        Of the network's input. States are float64.
    finished
        Called with each problem's outcome, in order of finishing.
    workspace
        ``host`` or ``torch``; by default what suits the device.
    method
        ``dopri5`` with ``rtol``, ``atol``; ``adams`` with ``tol``, ``h_max``, ``order``, ``noise_floor``
        (`_core.solve`).
    branches, stride
        Further courses from the same start, the i-th leg on the i-th network: problem ``key + c stride``
        goes course c, 0 being ``legs``. Keys of one problem share what steps they have in common.
    keep
        Called with key and last state of every problem that reached the end, before ``finished`` is.
    keeper
        Keeps the time of verbs, starts and records; the networks' they tell it themselves.

    Returns
    -------
    dict
        Tallies of `_core.solve`. Exceptions of networks, ``start`` and ``finished`` come out unchanged.
    """
    rows, dim = shape
    on_host = device.type == "cpu" if workspace is None else workspace == "host"
    if on_host and device.type != "cpu":
        raise UsageError(f'workspace = "host" steps tensors of the CPU, not of {device}')
    idle = int(keys[0]) if len(keys) else 0
    host_store, torch_store = _core.HostStore(), dict[int, Tensor]()

    def build(network: Network) -> object:
        if on_host:
            return _on_host(rows, dim, host_store, start, network, dtype)
        return TorchWorkspace(
            rows,
            dim,
            start=start,
            network=network,
            store=torch_store,
            device=device,
            dtype=dtype,
            idle=idle,
            slots=STORED[method],
        )

    def note(outcome: _core.Outcome) -> None:
        if keep is not None and outcome.status in ("ok", "tolerance_missed"):
            key = outcome.key
            keep(key, host_store.take(key) if on_host else torch_store.pop(key).cpu().numpy())
        finished(outcome)

    if keeper is not None:
        start, note = keeper.during("starts")(start), keeper.during("records")(note)
    run = partial(
        _core.solve,
        legs,
        [build(network) for network in networks],
        keys,
        rows=rows,
        dim=dim,
        finished=note,
        method=method,
        drift=drift,
        step_control=step_control,
        steps=steps,
        rtol=rtol,
        atol=atol,
        tol=tol,
        h_max=h_max,
        order=order,
        noise_floor=noise_floor,
        keep=keep is not None,
        record_steps=record_steps,
        branches=branches,
        stride=stride,
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
