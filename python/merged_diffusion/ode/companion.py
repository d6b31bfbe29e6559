"""A probe beside those of the value, fixed along the path: it shows whether the trace is smooth there.

With probes of its own at every node q is noisy, and a trace that bends between the nodes cannot be told from
that noise. A companion v_0 that stays the same sees sigma v_0^T J v_0: the trace, and the same pairs of
values at every node. One product w = J^T v_0 has a part for each colour c of the value's probes,

    sum over the values of colour c of v_0 w,

whose mean is the trace of that colour: where J is diagonal it is what the value's own product of that colour
is, to the last bit. It never enters the value, nor anything that decides a step.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from torch import Tensor

from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Probes
from merged_diffusion.ode.probes import RandomDirections, masks_of

FIRST: Final = 1 << 63  # added to a draw: no probe of a value is named so


def n_beside(probes: Probes) -> int:
    """Values of the companion at a node: of each colour of a fresh probe, else one."""
    return (probes.n if probes.is_lattice and probes.kind == "fresh" else 1) if probes.companion else 0


class Companion:
    """The companion of every problem, and the masks of the colours that its product is summed over."""

    def __init__(self, probes: Probes, items: Items, place: Place, shape: tuple[int, int, int]) -> None:
        self._whole = RandomDirections(Probes(kind="fixed"), items, place, math.prod(shape), first=FIRST)
        self._masks = masks_of(probes.n, shape, place) if probes.is_lattice else None
        self.n_parts = n_beside(probes)

    def direction(self, keys: Keys) -> Tensor:
        """The companions [G, d] of these problems."""
        (whole,) = self._whole.directions(keys, np.zeros_like(keys))
        return whole

    def parts(self, products: Tensor) -> list[Tensor]:
        """What the products v_0 w [G, d] have of every colour [G, d], 0 elsewhere."""
        return [products] if self._masks is None else [products * mask for mask in self._masks]
