"""What one would integrate the flow with instead, each as it is usually called.

``scipy`` is the paper's pipeline: `solve_ivp`, RK45, the whole batch flattened into one state. A solver takes
the network, the starts z [N, d] and a tolerance, and returns z [N, d] and the integral of the divergence [N]
at the last leg's end, and evaluations an image.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from suite.network import Network
from suite.setting import Floats

Solved = tuple[Floats, Floats, Floats]


def scipy(network: Network, starts: Floats, tol: float) -> Solved:
    """One step size and one error norm for all images."""
    n, dim = starts.shape
    state = np.concatenate([starts.ravel(), np.zeros(n)])
    for number, leg in enumerate(network.legs):

        def slope(gamma: float, y: Floats, number: int = number) -> Floats:
            z = torch.from_numpy(y[: n * dim].reshape(n, dim))
            dz, change = network.drift(number, torch.tensor(gamma), z)
            return np.concatenate([dz.numpy().ravel(), change.numpy()])

        solved = solve_ivp(slope, (leg.start, leg.end), state, method="RK45", rtol=tol, atol=tol)
        state = solved.y[:, -1]
    return state[: n * dim].reshape(n, dim), state[n * dim :], np.full(n, float(network.calls))


def torchdiffeq(network: Network, starts: Floats, tol: float) -> Solved:
    """One step size for all; the error norm is the larger one of state and log-density."""
    state = (torch.from_numpy(starts), torch.zeros(len(starts), dtype=torch.float64))
    for number, leg in enumerate(network.legs):

        def slope(gamma: Tensor, y: tuple[Tensor, Tensor], number: int = number) -> tuple[Tensor, Tensor]:
            return network.drift(number, gamma, y[0])

        times = torch.tensor([leg.start, leg.end], dtype=torch.float64)
        z, entry = odeint(slope, state, times, rtol=tol, atol=tol, method="dopri5")
        state = z[-1], entry[-1]
    return state[0].numpy(), state[1].numpy(), np.full(len(starts), float(network.calls))


def torchode(network: Network, starts: Floats, tol: float) -> Solved:
    """A step size for every image, a network call for all until the last is done."""
    to = _torchode()
    n = len(starts)
    evaluations = np.zeros(n)
    state = torch.cat([torch.from_numpy(starts), torch.zeros(n, 1, dtype=torch.float64)], dim=1)
    for number, leg in enumerate(network.legs):

        def slope(gamma: Tensor, y: Tensor, number: int = number) -> Tensor:
            dz, change = network.drift(number, gamma, y[:, :-1])
            return torch.cat([dz, change[:, None]], dim=1)

        term = to.ODETerm(slope)
        controller = to.IntegralController(atol=tol, rtol=tol, term=term)
        solver = to.AutoDiffAdjoint(to.Dopri5(term=term), controller)
        times = torch.tensor([leg.start, leg.end], dtype=torch.float64).expand(n, 2)
        solved = solver.solve(to.InitialValueProblem(y0=state, t_eval=times))
        state = solved.ys[:, -1]
        evaluations += 2 + 6 * solved.stats["n_steps"].numpy()
    return state[:, :-1].numpy(), state[:, -1].numpy(), evaluations


PEERS: Final[Mapping[str, Callable[[Network, Floats, float], Solved]]] = {
    "scipy": scipy,
    "torchdiffeq": torchdiffeq,
    "torchode": torchode,
}


def missing() -> dict[str, str]:
    """Peers that cannot be imported, and why."""
    try:
        _torchode()
    except Exception as error:  # noqa: BLE001  (an old release may fail in any way under a new torch)
        return {"torchode": f"{type(error).__name__}: {error}"}
    return {}


def _torchode() -> Any:
    return importlib.import_module("torchode")
