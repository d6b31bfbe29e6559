"""Directions along which the trace of a Jacobian J is measured.

E[v^T J v] = tr J for any v with E[v v^T] = I (Hutchinson 1990): one Rademacher probe, whole or cut into
colours whose v^T J v add up (`lattice`); m Rademacher or Gaussian probes, averaged; or all d unit vectors,
whose v^T J v add up to the trace itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.lattice import colours
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import SOLVERS, Probes
from merged_diffusion.ode.placing import placed

EXACT_DIM: Final = 4096  # products a network call beyond which an exact trace is refused
NEXT_PROBE: Final = np.uint64(1 << 32)  # between the draws that name the probes of one problem


class Directions(Protocol):
    """Directions [G, d] of G problems."""

    n_products: int
    """Vector-Jacobian products of an evaluation."""
    weight: float
    """What the sum of v^T J v over the directions is multiplied by."""

    def directions(self, keys: Keys, node: Keys) -> Iterator[Tensor]:
        """The directions [G, d] of these problems at these nodes, one after another; valid until the next."""


def make_directions(probes: Probes, items: Items, place: Place, shape: tuple[int, int, int]) -> Directions:
    """Directions of images of ``shape`` C, H, W for each problem; ``probes`` say which."""
    dim = math.prod(shape)
    if probes.kind == "exact":
        return UnitVectors(place, dim)
    if probes.is_lattice:
        return Colours(probes, items, place, shape)
    return RandomDirections(probes, items, place, dim)


class RandomDirections:
    """m probes of every problem. Rademacher signs cross to the device as packed bits.

    ``fixed`` and ``gaussian`` ones are drawn when a problem comes into a row and kept for its whole solve: a
    solver that carries the log-density in its error norm would meet a random right-hand side otherwise (5,000
    evaluations were measured where 120 suffice). ``fresh`` ones are drawn at every accepted node, and a retry
    meets the same: their noise averages out along the path.
    """

    def __init__(self, probes: Probes, items: Items, place: Place, dim: int, first: int = 0) -> None:
        self.n_products = probes.n
        self.weight = 1.0 / probes.n
        self._first = np.uint64(first)  # what names the first of a draw
        self._kind = probes.kind
        self._items = items
        self._named: tuple[Keys, Keys] | None = None
        self._vectors = torch.zeros(probes.n, place.rows, dim, device=place.device, dtype=place.dtype)

    def directions(self, keys: Keys, node: Keys) -> Iterator[Tensor]:
        """The probes of these problems; drawn anew only for rows whose problem, or node, has changed."""
        node = node.copy() if self._kind == "fresh" else np.zeros_like(node)
        changed = np.arange(len(keys))
        if self._named is not None:
            changed = np.flatnonzero((keys != self._named[0]) | (node != self._named[1]))
        if changed.size:
            images, draws = self._items.probe_names(keys[changed])
            rows = placed(changed, self._vectors.device)
            for probe, vectors in enumerate(self._vectors):
                named = draws + self._first + np.uint64(probe) * NEXT_PROBE
                vectors.index_copy_(0, rows, self._draw(images, named, node[changed]))
            self._named = keys.copy(), node
        return iter(self._vectors)

    def _draw(self, images: Keys, draws: Keys, node: Keys) -> Tensor:
        """Probes [n, d] of n problems."""
        dim = self._vectors.shape[2]
        if self._kind == "gaussian":
            normal = np.empty((len(images), dim), dtype=np.float64)
            _core.fill_normal(normal, self._items.seed, "probe", images, draws)
            return placed(normal, self._vectors.device, self._vectors.dtype)
        packed = np.empty((len(images), -(-dim // 8)), dtype=np.uint8)
        _core.fill_signs(packed, self._items.seed, images, draws, node)
        return unpacked(placed(packed, self._vectors.device), dim, self._vectors.dtype)


class Colours:
    """The colours of one probe of every problem: the probe where a value has the colour, else 0."""

    weight = 1.0

    def __init__(self, probes: Probes, items: Items, place: Place, shape: tuple[int, int, int]) -> None:
        self.n_products = probes.n
        dim = math.prod(shape)
        self._whole = RandomDirections(replace(probes, n=1), items, place, dim)
        self._masks = masks_of(probes.n, shape, place)
        self._part = torch.zeros(place.rows, dim, device=place.device, dtype=place.dtype)

    def directions(self, keys: Keys, node: Keys) -> Iterator[Tensor]:
        """One colour after another in the same memory."""
        (whole,) = self._whole.directions(keys, node)
        for mask in self._masks:
            yield torch.mul(whole, mask, out=self._part)


def masks_of(k: int, shape: tuple[int, int, int], place: Place) -> Tensor:
    """1 where a value has the colour, else 0 [k, d]."""
    masks = np.arange(k)[:, None] == colours(k, shape)
    return torch.from_numpy(masks).to(place.device, place.dtype)


class UnitVectors:
    """All d unit vectors: the trace itself, at d products an evaluation."""

    weight = 1.0

    def __init__(self, place: Place, dim: int) -> None:
        if dim > EXACT_DIM:
            raise UsageError(
                f'probe = "exact" takes {dim} vector-Jacobian products an evaluation, '
                f"at most {EXACT_DIM} are allowed",
                hint=f"leave probe out ({_own_kinds()}); probes = 16 leave a sixtieth of one's variance",
            )
        self.n_products = dim
        self._vector = torch.zeros(place.rows, dim, device=place.device, dtype=place.dtype)

    def directions(self, keys: Keys, node: Keys) -> Iterator[Tensor]:  # noqa: ARG002  (always the same)
        """One after another in the same memory."""
        for column in self._vector.unbind(1):
            column.fill_(1.0)
            yield self._vector
            column.zero_()


def _own_kinds() -> str:
    """What each method takes where no kind is asked for."""
    return ", ".join(f"{method} takes {solver.usual_probe} ones" for method, solver in SOLVERS.items())


def unpacked(packed: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Signs [n, dim] of -1 and +1 from bits, uint8 [n, ceil(dim/8)], lowest bit first."""
    shifts = torch.arange(8, device=packed.device, dtype=torch.uint8)
    bits = (packed.unsqueeze(2) >> shifts) & 1
    return bits.flatten(1)[:, :dim].to(dtype).mul_(2).sub_(1)
