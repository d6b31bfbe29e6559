"""A gate: which share of the predicted noise is the likelihood expert's, by gamma.

    eps_hat(z, gamma) = w(gamma) eps_L(z, gamma) + (1 - w(gamma)) eps_Q(z, gamma)

w depends on gamma alone, so the flow's trace is the mixture of two traces and its density a proper one. It is
1 up to ``start`` and 0 from ``end`` on, and falls between them as a monotone spline (Ramsay 1988):

    w = 1 - sum_j c_j I_j(gamma),    c_j >= 0,    sum_j c_j = 1,

I_j the integral of the quadratic B-spline on the knots j to j + 3 of equally spaced ones, scaled to rise from
0 to 1. So w is twice continuously differentiable, at both ends too, and a solver meets no joint.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import UsageError

ORDER: Final = 3  # intervals that one I_j rises over
SUM: Final = 1e-9  # that the shares may be off 1, which a card's decimal digits never are
# I_j in its three intervals, as coefficients of 1, u, u^2, u^3 with u from 0 to 1 in each.
PIECES: Final = ((0.0, 0.0, 0.0, 1 / 6), (1 / 6, 1 / 2, 1 / 2, -1 / 3), (5 / 6, 1 / 2, -1 / 2, 1 / 6))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AnyGate:
    """What gates have in common.

    Parameters
    ----------
    start, end
        The first and the last knot, in gamma.
    form
        The way in which it was fitted.
    seen
        Digests of the images that it was fitted to or chosen on (`digests`), which it may not be scored on.
    experts
        SHA-256 of the weights that it was fitted for, by role.
    about
        What else a card says of it.
    """

    start: float
    end: float
    _: KW_ONLY
    form: str = "full"
    seen: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    experts: Mapping[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    about: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and self.start < self.end):
            raise UsageError(
                f"a gate from gamma {self.start} to {self.end}: its end must lie above its start"
            )

    def check_unseen(self, images: npt.NDArray[np.uint8]) -> None:
        """Refuse images [N, C, H, W] of which the gate has seen some: their score would flatter it.

        Raises
        ------
        UsageError
        """
        common = self.seen & set(digests(images)) if self.seen else ()
        if common:
            raise UsageError(
                f"the gate was fitted to or chosen on {len(common)} of these {len(images)} images, and their "
                "score would flatter it",
                hint="score other images, or fit a gate to others (--tune-data)",
            )


@dataclass(frozen=True)
class Gate(AnyGate):
    """A share w(gamma) of the likelihood expert.

    Parameters
    ----------
    start, end
        Up to where w is exactly 1, and from where it is exactly 0.
    shares
        c_j, of which there are two fewer than intervals between the knots; they are positive or 0 and add up
        to 1.
    form, seen, experts, about
        As of `AnyGate`.

    Raises
    ------
    UsageError
        The values are those of no gate.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> gate = md.Gate(-8.0, -2.0, (0.25, 0.25, 0.25, 0.25))
    >>> [round(float(gate(gamma)), 3) for gamma in (-9.0, -8.0, -5.0, -2.0, 0.0)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """

    shares: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = tuple(float(share) for share in self.shares)
        if not shares or not all(math.isfinite(share) and share >= 0 for share in shares):
            raise UsageError(
                f"shares {self.shares} of a gate: numbers from 0 up are needed, so that it never rises"
            )
        if abs(sum(shares) - 1) > SUM:
            raise UsageError(f"the shares of a gate add up to {sum(shares)}, and must to 1")
        object.__setattr__(self, "shares", shares)

    @property
    def knots(self) -> Floats:
        """The knots, the first ``start`` and the last ``end``."""
        return np.linspace(self.start, self.end, len(self.shares) + ORDER)

    @property
    def spacing(self) -> float:
        """The distance of two knots, in gamma."""
        return (self.end - self.start) / (len(self.shares) + ORDER - 1)

    @property
    def sha256(self) -> str:
        """SHA-256 of what w is, whatever is said about it: part of a run's identity."""
        said = [float(self.start).hex(), float(self.end).hex(), [share.hex() for share in self.shares]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @overload
    def __call__(self, gamma: Tensor) -> Tensor: ...
    @overload
    def __call__(self, gamma: npt.ArrayLike) -> Floats: ...
    def __call__(self, gamma: Tensor | npt.ArrayLike) -> Tensor | Floats:
        """The share w at gamma, float64, of gamma's shape; a tensor's lies where gamma does."""
        if isinstance(gamma, Tensor):
            return self._of_tensor(gamma)
        at = np.asarray(gamma, dtype=np.float64)
        place = (at - self.start) / self.spacing
        piece = np.clip(np.floor(place), 0, len(self.shares) + ORDER - 2).astype(np.int64)
        a, b, c, d = np.moveaxis(_pieces(self.shares)[piece], -1, 0)
        u = place - piece
        w: Floats = np.clip(a + u * (b + u * (c + u * d)), 0.0, 1.0)
        return np.where(at <= self.start, 1.0, np.where(at >= self.end, 0.0, w))

    def each(self, gamma: Tensor) -> Tensor:
        """The shares of the likelihood and the quality expert [B, 2] at gamma [B]."""
        w = self._of_tensor(gamma)
        return torch.stack([w, 1 - w], dim=1)

    def _of_tensor(self, gamma: Tensor) -> Tensor:
        at = gamma.double()
        place = (at - self.start) / self.spacing
        piece = place.floor().clamp(0, len(self.shares) + ORDER - 2).long()
        a, b, c, d = _on_device(self.shares, at.device)[piece].unbind(-1)
        u = place - piece
        w = (a + u * (b + u * (c + u * d))).clamp(0.0, 1.0)
        return torch.where(at <= self.start, 1.0, torch.where(at >= self.end, 0.0, w))


def digests(images: npt.NDArray[np.uint8]) -> list[str]:
    """16 hex digits of each image's SHA-256, by which a gate knows images [N, C, H, W] that it has seen."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16] for image in images]


def rising(gamma: Floats, start: float, end: float, n: int) -> Floats:
    """I_j(gamma) [G, n] of n shares between ``start`` and ``end``."""
    found = np.empty((len(gamma), n))
    for j in range(n):
        alone = Gate(start, end, tuple(float(i == j) for i in range(n)))
        found[:, j] = 1.0 - alone(gamma)
    return found


def of_shares(start: float, end: float, shares: Sequence[float] | Floats, **about: Any) -> Gate:
    """A gate of shares that nearly add up to 1, as arithmetic leaves them."""
    values = np.asarray(shares, dtype=np.float64)
    return Gate(start, end, tuple((values / values.sum()).tolist()), **about)


@lru_cache(maxsize=64)
def _pieces(shares: tuple[float, ...]) -> Floats:
    """Coefficients [K, 4] of w in each interval between knots."""
    n = len(shares)
    found = np.zeros((n + ORDER - 1, 4))
    for interval in range(len(found)):
        found[interval, 0] = 1.0
        for j, share in enumerate(shares):
            age = interval - j
            if age >= ORDER:
                found[interval, 0] -= share
            elif age >= 0:
                found[interval] -= share * np.array(PIECES[age])
    return found


@lru_cache(maxsize=64)
def _on_device(shares: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.as_tensor(_pieces(shares), device=device)
