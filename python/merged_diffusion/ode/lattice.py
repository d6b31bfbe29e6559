"""Colours of the values of an image: near values, which a Jacobian couples most, have different ones.

A value at column x, row y of channel c has the colour (x + a y + b c) mod k. With v a Rademacher vector and
1_c the mask of colour c,

    q = sum over c of (v 1_c)^T J (v 1_c)

is the trace of J in the mean whatever the colouring, and its variance is the sum of ((J + J^T)_ij)^2 over
the pairs i < j of one colour: never more than that of v itself, which has all pairs (Stathopoulos, Laeuchli
and Orginos 2013 probe inverse matrices so). The colours are summed, not averaged.

On a shape that is narrow beside k the lattice of k may leave colours unused, each a product for nothing: a
column of 40 values has 5 of 20 colours by a = 8. There another (a, b) is taken that uses all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.ode.methods import MOST_COLOURS, Probes

LATTICE: Final = "lattice"
# (a, b) by the number of colours k. Those of 2, 3, 4, 5, 8, 9, 12 and 16 were chosen by exact Jacobians of
# trained networks, the others by `recipes/probe_lattice.py`.
LATTICES: Final[Mapping[int, tuple[int, int]]] = {
    2: (1, 1), 3: (2, 1), 4: (2, 1), 5: (2, 3), 6: (3, 2), 7: (2, 3), 8: (3, 2), 9: (7, 3),
    10: (3, 2), 11: (2, 4), 12: (3, 7), 13: (5, 2), 14: (4, 6), 15: (3, 5), 16: (10, 4), 17: (3, 5),
    18: (4, 6), 19: (4, 6), 20: (8, 3), 21: (8, 3), 22: (5, 7), 23: (5, 8), 24: (5, 8), 25: (10, 3),
    26: (6, 9), 27: (6, 9), 28: (6, 9), 29: (5, 8), 30: (7, 10), 31: (7, 10), 32: (7, 11),
    33: (6, 15), 34: (6, 9), 35: (6, 9), 36: (10, 3), 37: (8, 12), 38: (16, 13), 39: (7, 18),
    40: (7, 11), 41: (6, 16), 42: (18, 14), 43: (8, 12), 44: (7, 17), 45: (19, 15), 46: (6, 15),
    47: (7, 18), 48: (6, 16), 49: (14, 5), 50: (14, 5), 51: (7, 17), 52: (22, 17), 53: (7, 18),
    54: (7, 18), 55: (7, 18), 56: (21, 26), 57: (24, 19), 58: (22, 5), 59: (25, 20), 60: (8, 20),
    61: (8, 20), 62: (8, 21), 63: (8, 21), 64: (14, 5),
}  # fmt: skip


def colours(k: int, shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """The colour, 0 to k - 1, of every value [C H W] of an image of ``shape`` C, H, W; k is 2 to 64."""
    return _cut(k, lattice_of(k, shape), shape)


@lru_cache(maxsize=256)
def lattice_of(k: int, shape: tuple[int, int, int]) -> tuple[int, int]:
    """(a, b) of k colours on images of ``shape`` C, H, W.

    That of `LATTICES` where it uses as many colours as there can be, else the nearest to it that does: by
    the sum of the differences of a and b, then the least a, then the least b. There is one, because
    x + W y + W H c numbers all values.
    """
    usual = LATTICES[k]

    def uses_all(lattice: tuple[int, int]) -> bool:
        return len(np.unique(_cut(k, lattice, shape))) == min(k, prod(shape))

    if uses_all(usual):
        return usual
    others = sorted(
        ((a, b) for a in range(1, k) for b in range(1, k)),
        key=lambda other: (abs(other[0] - usual[0]) + abs(other[1] - usual[1]), other),
    )
    return next(filter(uses_all, others))


def other_lattice(probes: Probes, shape: tuple[int, int, int]) -> dict[str, object]:
    """What a run keeps where the colours of its probes are not those of `LATTICES`: ``lattice``, (a, b)."""
    if not probes.is_lattice or not probes.n < prod(shape) or probes.n > MOST_COLOURS:
        return {}
    found = lattice_of(probes.n, shape)
    return {} if found == LATTICES[probes.n] else {LATTICE: list(found)}


def _cut(k: int, lattice: tuple[int, int], shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    a, b = lattice
    c, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    found: npt.NDArray[np.int64] = ((x + a * y + b * c) % k).ravel()
    return found
