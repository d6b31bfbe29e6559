"""A gate of N experts: the share of each in the predicted noise, by gamma.

    eps_hat(z, gamma) = sum_i w_i(gamma) eps_i(z, gamma),    w_i >= 0,    sum_i w_i = 1.

Every w_i is a cubic spline on equally spaced knots, given by its coefficients in B-splines (de Boor 1978),
which add up to 1 everywhere: where the coefficients of each B-spline lie on the simplex, so does w. It is
twice continuously differentiable. An expert without a share in any of the four B-splines of an interval is
not asked there.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import UsageError
from merged_diffusion.soft_gate import SUM, AnyGate, Floats

DEGREE: Final = 3
# Of the B-splines m to m + 3 in interval m, in 1, u, u^2, u^3 with u from 0 to 1.
PIECES: Final = (
    np.array([[1.0, -3.0, 3.0, -1.0], [4.0, 0.0, -6.0, 3.0], [1.0, 3.0, 3.0, -3.0], [0.0, 0.0, 0.0, 1.0]]) / 6
)


@dataclass(frozen=True)
class SimplexGate(AnyGate):
    """Shares w_i(gamma) of N experts, in the order of rising noise.

    Parameters
    ----------
    start, end
        The first and the last knot; outside, the shares are those of the nearer one.
    coefficients
        [M, N] with M - 3 intervals between the knots; each row is not negative and adds up to 1. Row m acts
        from knot m - 3 to knot m + 1.
    form, seen, experts, about
        As of `AnyGate`.

    Raises
    ------
    UsageError
        The values are those of no gate.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> one, two = (1.0, 0.0), (0.0, 1.0)
    >>> gate = md.SimplexGate(-8.0, 4.0, (one, one, one, one, two, two, two, two))
    >>> [[round(float(w), 3) for w in gate(gamma)] for gamma in (-8.0, -2.0, 4.0)]
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """

    coefficients: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = tuple(tuple(float(value) for value in row) for row in self.coefficients)
        n = len(rows[0]) if rows else 0
        if len(rows) <= DEGREE or n < 2 or any(len(row) != n for row in rows):
            raise UsageError(
                f"coefficients of {len(rows)} rows: a gate has at least {DEGREE + 1} of them, each with a "
                "number for every expert"
            )
        for number, row in enumerate(rows):
            if not all(math.isfinite(value) and value >= 0 for value in row) or abs(sum(row) - 1) > SUM:
                raise UsageError(
                    f"row {number} of a gate's coefficients is {row}: shares are not negative and add up to 1"
                )
        object.__setattr__(self, "coefficients", rows)

    @property
    def n_experts(self) -> int:
        """How many experts share."""
        return len(self.coefficients[0])

    @property
    def knots(self) -> Floats:
        """The knots, the first ``start`` and the last ``end``."""
        return np.linspace(self.start, self.end, len(self.coefficients) - DEGREE + 1)

    @property
    def spacing(self) -> float:
        """The distance of two knots, in gamma."""
        return (self.end - self.start) / (len(self.coefficients) - DEGREE)

    @property
    def sha256(self) -> str:
        """SHA-256 of what w is, whatever is said about it: part of a run's identity."""
        rows = [[value.hex() for value in row] for row in self.coefficients]
        said = [float(self.start).hex(), float(self.end).hex(), rows]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def asked(self) -> list[tuple[tuple[int, ...], float, float]]:
        """Which experts have a share, from which gamma to which: as few pieces as there are."""
        has = np.array(self.coefficients) > 0
        found: list[tuple[tuple[int, ...], float, float]] = []
        knots = self.knots.tolist()
        for number, (start, end) in enumerate(pairwise(knots)):
            who = tuple(np.flatnonzero(has[number : number + DEGREE + 1].any(axis=0)).tolist())
            if found and found[-1][0] == who:
                start = found.pop()[1]
            found.append((who, start, end))
        return found

    @overload
    def __call__(self, gamma: Tensor) -> Tensor: ...
    @overload
    def __call__(self, gamma: npt.ArrayLike) -> Floats: ...
    def __call__(self, gamma: Tensor | npt.ArrayLike) -> Tensor | Floats:
        """The shares [..., N] at gamma [...], float64; a tensor's lie where gamma does."""
        last = len(self.coefficients) - DEGREE - 1
        if isinstance(gamma, Tensor):
            place = ((gamma.double() - self.start) / self.spacing).clamp(0.0, last + 1.0)
            piece = place.floor().clamp(0, last).long()
            a, b, c, d = _on_device(self.coefficients, gamma.device)[piece].unbind(-2)
            u = (place - piece).unsqueeze(-1)
            return (a + u * (b + u * (c + u * d))).clamp(0.0, 1.0)
        at = np.clip((np.asarray(gamma, dtype=np.float64) - self.start) / self.spacing, 0.0, last + 1.0)
        number = np.clip(np.floor(at), 0, last).astype(np.int64)
        rows = np.moveaxis(_pieces(self.coefficients)[number], -2, 0)
        away = (at - number)[..., None]
        w: Floats = np.clip(rows[0] + away * (rows[1] + away * (rows[2] + away * rows[3])), 0.0, 1.0)
        return w

    def each(self, gamma: Tensor) -> Tensor:
        """The share of each expert [B, N] at gamma [B]."""
        return self(gamma)


def basis(gamma: Floats, start: float, spacing: float, n: int) -> Floats:
    """The n B-splines [G, n] at gamma [G], row m acting from ``start`` + (m - 3) ``spacing`` on."""
    at = (gamma - start) / spacing
    number = np.clip(np.floor(at), 0, n - DEGREE - 1).astype(np.int64)
    powers = (at - number)[:, None] ** np.arange(DEGREE + 1)
    found = np.zeros((len(gamma), n))
    for j in range(DEGREE + 1):
        found[np.arange(len(gamma)), number + j] = powers @ PIECES[j]
    return found


@lru_cache(maxsize=64)
def _pieces(coefficients: tuple[tuple[float, ...], ...]) -> Floats:
    """Coefficients [K, 4, N] of 1, u, u^2, u^3 in each interval between knots."""
    rows = np.array(coefficients)
    found: Floats = np.stack(
        [PIECES.T @ rows[number : number + DEGREE + 1] for number in range(len(rows) - DEGREE)]
    )
    return found


@lru_cache(maxsize=64)
def _on_device(coefficients: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.as_tensor(_pieces(coefficients), device=device)
