"""The probability flow from noise to data (the paper's algorithm 1).

    dz/dgamma = -1/2 sigma^2 z + 1/2 sigma eps_hat(z, gamma)

Each image is a problem of its own with its own step size, taken through the legs by the core's drivers; no
trace is carried, so an evaluation is a forward call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import _core, schedules
from merged_diffusion.experts.fence import ask
from merged_diffusion.merge import Leg
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Solver
from merged_diffusion.ode.placing import placed
from merged_diffusion.ode.solve import solve
from merged_diffusion.ode.time_profile import During, Timekeeper, kept_by, untimed

Floats = npt.NDArray[np.float64]


class ForwardFlow:
    """eps_hat of G problems at their own gammas; the trace that a likelihood needs is left out."""

    def __init__(self, leg: Leg, shape: tuple[int, int, int], items: Items, during: During = untimed) -> None:
        self._during = during
        self._expert = leg.expert
        self._shape = shape
        self._items = items

    def __call__(self, z: Tensor, gamma: Floats, node: Keys, keys: Keys) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Eps_hat [G, d] like z [G, d], and zeros float64 [G] in the place of q."""
        home = schedules.home(z.device)
        labels = self._items.labels_of(keys)
        cond = None if labels is None else placed(labels, z.device)
        state = z.view(len(z), *self._shape)
        clock = placed(gamma, home)
        with self._during("network"):
            eps_hat = ask(self._expert, state, clock, cond).reshape(z.shape)
        if eps_hat.untyped_storage().data_ptr() == z.untyped_storage().data_ptr():
            eps_hat = eps_hat.clone()  # an identity expert returned its input, which is written again
        return eps_hat.contiguous(), torch.zeros(len(z), dtype=torch.float64, device=home)


def integrate(
    legs: Sequence[Leg],
    items: Items,
    keys: Keys,
    start: Callable[[int], Floats],
    *,
    shape: tuple[int, int, int],
    place: Place,
    solver: Solver,
    arrived: Callable[[int, Floats], object],
    finished: Callable[[_core.Outcome], object],
    steps: int | None = None,
    keeper: Timekeeper | None = None,
) -> None:
    """Take the problems ``keys`` through legs toward data.

    ``arrived`` gets each key and its z_min [d] as it is there, then ``finished`` its outcome; a ``keeper``
    keeps the time; ``steps`` are equal ones in the place of the solver's (dopri5).
    """
    during = kept_by(keeper)
    solve(
        [[(leg.start, leg.end) for leg in legs]],
        [ForwardFlow(leg, shape, items, during) for leg in legs],
        keys,
        start,
        dim=int(np.prod(shape)),
        place=place,
        solver=solver,
        keep=arrived,
        finished=finished,
        keeper=keeper,
        drift="flow",
        soft=[number for number, leg in enumerate(legs) if leg.soft],
        steps=steps,
    )
