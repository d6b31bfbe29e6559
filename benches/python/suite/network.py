"""The merged model as a drift dz/dgamma, d log p/dgamma of all images at once: what every peer integrates.

The very network call of the package, timed there, on the package's own probes; so that solvers are compared,
and nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Probes
from merged_diffusion.ode.probes import make_directions
from suite.problems import Problem
from suite.setting import Setting

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Network:
    """Both legs with fixed probes; ``calls`` counts what was asked of either."""

    def __init__(self, problem: Problem, setting: Setting) -> None:
        n, self._dim = len(problem.points), problem.dim
        self._keys = np.arange(n, dtype=np.uint64)
        self._dtype = DTYPES[setting.dtype]
        self.legs = problem.model.legs()
        self.calls = 0
        items = Items(self._keys, 1, setting.seed)
        place = Place(torch.device("cpu"), self._dtype, n)
        self._flows = [
            ProbabilityFlow(
                leg.expert,
                problem.shape,
                make_directions(Probes(setting.probes, "fixed", "independent"), items, place, problem.shape),
                items,
            )
            for leg in self.legs
        ]

    @property
    def seconds(self) -> float:
        """Spent in the experts."""
        return sum(flow.network.seconds for flow in self._flows)

    def drift(self, leg: int, gamma: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """-1/2 sigma^2 z + 1/2 sigma eps_hat [N, d] and (q - sigma^2 d)/2 [N], float64; gamma [N] or one."""
        self.calls += 1
        clock = gamma.double().expand(len(z))
        nodes = np.zeros(len(z), dtype=np.uint64)
        eps_hat, q = self._flows[leg](z.to(self._dtype), clock.numpy().copy(), nodes, self._keys)
        sigma = schedules.sigma(clock)
        square = sigma.square()
        dz = -0.5 * square[:, None] * z + 0.5 * sigma[:, None] * eps_hat
        return dz, 0.5 * (q - square * self._dim)
