"""An expert as the solver sees it: the only place where t, y and stages become gamma, z and eps_hat.

The probability flow is dz/dgamma = -1/2 sigma^2 z + 1/2 sigma eps_hat(z, gamma) (the paper's eq. 11). Its
linear part is known, so the solver wants eps_hat alone, and for the trace of that

    q = sigma v^T (d eps_hat/dz) v    (Hutchinson 1990; Grathwohl et al. 2019).

One forward call and one vector-Jacobian product share one evaluation of the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask, pull
from merged_diffusion.ode.companion import Companion
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.placing import placed
from merged_diffusion.ode.probes import Directions
from merged_diffusion.ode.spread import Noted
from merged_diffusion.ode.stopwatch import Stopwatch
from merged_diffusion.ode.time_profile import During, untimed


class ProbabilityFlow:
    """eps_hat and q of G problems at their own gammas.

    Parameters
    ----------
    expert
        Its parameters should be frozen (`scores.prepared`): products with gradients of parameters cost twice
        as much.
    shape
        C, H, W; the solver's rows are flat.
    probes
        Directions of the trace, by problem.
    items
        What problems there are; gives labels to conditional experts.
    spread
        Told the q of every single probe, where there are several, and of the companion.
    companion
        Where it has a product of its own; else a spread that wants one is told the value's q.
    during
        Keeps the time of the network, of the probes' directions and of the products.
    """

    def __init__(
        self,
        expert: Expert,
        shape: tuple[int, int, int],
        probes: Directions,
        items: Items,
        spread: Noted | None = None,
        during: During = untimed,
        companion: Companion | None = None,
    ) -> None:
        self.expert = expert
        self._shape = shape
        self._probes = probes
        self._items = items
        self.spread = spread
        self._during = during
        self._companion = companion
        self._cond: tuple[Keys, Tensor] | None = None
        self.network = Stopwatch()

    def __call__(
        self,
        z: Tensor,
        gamma: npt.NDArray[np.float64],
        node: npt.NDArray[np.uint64],
        keys: Keys,
    ) -> tuple[Tensor, Tensor]:
        """Eps_hat [G, d] like z [G, d] and q float64 [G], at gamma [G] of the problems ``keys`` [G].

        What the expert raises is an `ExpertError`. A row of eps_hat or q that is not finite says nothing of
        the others.
        """
        clock = placed(gamma, schedules.home(z.device))
        cond = self._labels(keys, z.device)
        with self.network.running(z.device), self._during("network"):
            state = z.detach().view(len(z), *self._shape).requires_grad_()
            eps_hat = ask(self.expert, state, clock, cond, grad=True)
        # Drawn on the host while a device still works at the network's output.
        with self._during("probes"):
            directions = self._probes.directions(keys, node)
        with self.network.running(z.device), self._during("products"):
            squares = self._squares(eps_hat, state, directions)
            beside = self._beside(eps_hat, state, keys)
        out = eps_hat.detach().reshape(z.shape)
        if out.untyped_storage().data_ptr() == z.untyped_storage().data_ptr():
            out = out.clone()  # an identity expert returned its input, which the next stage overwrites
        sigma, squares = schedules.sigma(clock), schedules.widened(squares)
        total = sum(squares.unbind(), start=torch.zeros_like(sigma))
        q = sigma * (total * self._probes.weight)
        if self.spread is not None:
            told = [sigma * squares]
            if self.spread.n_beside:
                told += [q[None] if beside is None else sigma * schedules.widened(beside)]
            self.spread.note(gamma, keys, torch.cat(told))
        return out.contiguous(), q

    def _squares(self, eps_hat: Tensor, state: Tensor, directions: Iterator[Tensor]) -> Tensor:
        """v^T (d eps_hat/dz) v, float64: of every direction [m, G] for a spread, else their sum [1, G]."""
        n_products = self._probes.n_products
        n_kept = n_products if self.spread is not None and self.spread.tells_noise else 1
        squares = torch.zeros(n_kept, len(state), device=state.device, dtype=_sum_dtype(state.device))
        if not eps_hat.requires_grad:
            return squares  # a constant
        for number, v in enumerate(directions):
            left = n_products - 1 - number + (self._companion is not None)
            pulled = pull(self.expert, eps_hat, state, v.view_as(eps_hat), keep=left > 0)
            if pulled is not None:
                # Not a view: the gradient lies in memory as the network left it, channels last perhaps.
                squares[number % n_kept] += (pulled.reshape(v.shape) * v).sum(1, dtype=squares.dtype)
        return squares

    def _beside(self, eps_hat: Tensor, state: Tensor, keys: Keys) -> Tensor | None:
        """The companion's v_0^T (d eps_hat/dz) v_0 by colour [k, G]; None where it has no product."""
        if self._companion is None:
            return None
        dtype = _sum_dtype(state.device)
        found = torch.zeros(self._companion.n_parts, len(state), device=state.device, dtype=dtype)
        v = self._companion.direction(keys)
        pulled = pull(self.expert, eps_hat, state, v.view_as(eps_hat)) if eps_hat.requires_grad else None
        if pulled is not None:
            for part, own in zip(self._companion.parts(pulled.reshape(v.shape) * v), found, strict=True):
                own += part.sum(1, dtype=dtype)
        return found

    def _labels(self, keys: Keys, device: torch.device) -> Tensor | None:
        """Labels [G] of the rows, sent again only when a row has changed."""
        if self._items.labels is None:
            return None
        if self._cond is None or not np.array_equal(self._cond[0], keys):
            labels = self._items.labels_of(keys)
            if labels is None:
                return None
            self._cond = keys.copy(), placed(labels, device)
        return self._cond[1]


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
