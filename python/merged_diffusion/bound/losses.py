"""|eps - eps_hat(alpha x + sigma eps, gamma)|^2 of many (image, gamma, draw), in calls of one size."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.bound.random_numbers import Floats, diffusion_noise
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask
from merged_diffusion.experts.memory import Rows
from merged_diffusion.ode.items import Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.placing import placed

Positions = npt.NDArray[np.int64]


@dataclass
class Losses:
    """Squared errors of the images of a set, in network calls of ``rows`` rows."""

    data: Data
    labels: npt.NDArray[np.int64] | None
    seed: int
    rows: Rows
    place: Place
    network_seconds: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, data: Data, labels: npt.NDArray[np.int64] | None, seed: int, place: Place) -> Self:
        """Of the images of a set; ``labels`` [N] for conditional experts."""
        return cls(data, labels, seed, Rows(place.rows, place.device), place)

    @cached_property
    def x(self) -> Floats:
        """The images [N, C, H, W] in the model's space."""
        return pixel_values(self.data.images, self.data.levels)

    @cached_property
    def ids(self) -> Keys:
        """By which their noise is named [N]."""
        return self.data.ids.astype(np.uint64)

    def __getstate__(self) -> dict[str, object]:
        """Without what follows from the set, so that it travels light where the set has a name."""
        return {name: value for name, value in vars(self).items() if name not in ("x", "ids")}

    def __call__(self, expert: Expert, positions: Positions, gamma: Floats, draws: Keys) -> Floats:
        """The squared error [M], summed over an image's values, of the images at ``positions`` [M].

        Raises
        ------
        ResourceError
            The memory does not suffice for one row.
        """
        return self._found((expert,), positions, gamma, draws)[:, 0]

    def products(self, experts: Sequence[Expert], positions: Positions, gamma: Floats, draws: Keys) -> Floats:
        """Inner products [M, P] of the residuals of all pairs of experts, at the same noise, as above.

        The pairs are in the order of `itertools.combinations_with_replacement`.
        """
        return self._found(experts, positions, gamma, draws)

    def _found(self, experts: Sequence[Expert], positions: Positions, gamma: Floats, draws: Keys) -> Floats:
        found = np.empty((len(positions), len(experts) * (len(experts) + 1) // 2))
        first = 0
        while first < len(positions):
            with self.rows.attempt() as rows:
                part = slice(first, first + rows)
                found[part] = self._call(experts, positions[part], gamma[part], draws[part], rows)
                first += rows
        return found

    def _call(
        self, experts: Sequence[Expert], positions: Positions, gamma: Floats, draws: Keys, rows: int
    ) -> Floats:
        # Filled up with its first row: a network may give a row other bits in a call of another size.
        n_asked = len(positions)
        filled = np.concatenate([np.arange(n_asked), np.zeros(rows - n_asked, np.int64)])
        positions, gamma, draws = positions[filled], gamma[filled], draws[filled]
        noise = np.empty((rows, math.prod(self.x.shape[1:])))
        diffusion_noise(noise, self.seed, np.ascontiguousarray(self.ids[positions]), draws)
        home = schedules.home(self.place.device)
        x = placed(np.ascontiguousarray(self.x[positions]), home)
        eps, clock = placed(noise, home).view_as(x), placed(gamma, home)
        z = schedules.per_image(schedules.alpha(clock), x) * x
        z += schedules.per_image(schedules.sigma(clock), x) * eps
        cond = None if self.labels is None else placed(self.labels[positions], self.place.device)
        begin = time.perf_counter()
        away = [schedules.widened(self._predicted(expert, z, clock, cond)) - eps for expert in experts]
        columns = [
            (one.flatten(1).square() if one is two else (one * two).flatten(1)).sum(1)
            for one, two in combinations_with_replacement(away, 2)
        ]
        products: Floats = torch.stack(columns, dim=1).cpu().numpy()
        self.network_seconds += time.perf_counter() - begin
        return products[:n_asked]

    def _predicted(self, expert: Expert, z: Tensor, clock: Tensor, cond: Tensor | None) -> Tensor:
        given = z.to(self.place.dtype).to(self.place.device)
        return ask(expert, given, clock, cond)
