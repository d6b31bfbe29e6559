"""Whether the gradient of an expert is the derivative of what it returns.

The trace comes from v^T J v, J = d eps_hat/dz, by a vector-Jacobian product. Part of the gradient may be
missing without a word (a first pass under ``no_grad``, a detached channel), and then that part of the trace
is missing, too. Central differences know nothing of gradients:

    v^T (eps_hat(z + h v) - eps_hat(z - h v)) / 2h = v^T J v + O(h^2).

Both are told here as q = sigma v^T J v / d, which is 1 where eps_hat is the noise itself. An error of q over
a leg of gammas changes a result by  (error of q) x (width of the leg) / (2 log 2)  bits/dim.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules

# Steps of the differences over sigma, in the order in which they are tried. An expert that bends needs finer
# ones than the first; one that rounds needs coarser ones, which may step over what the product sees: they can
# say that a product is right, not that it is wrong.
USUAL_STEP: Final = 0.01
STEPS: Final = tuple(USUAL_STEP * 4.0**k for k in (0, -1, 1, 2, -2, -3, -4, -5, -6))
AGREE: Final = 0.01  # two differences that are further apart, relatively to q or LEAST_Q, say nothing
WRONG: Final = 0.03  # a product that is further off than this is wrong; trained networks in float32: 5e-3
SMOOTH: Final = 0.1  # most that the second difference may be of the first, else h is no small step
LEAST_Q: Final = 0.02  # errors of a smaller q are taken relative to this
VISIBLE_BITS: Final = 0.1  # per dimension, over a whole leg: what must be seen

Call = Callable[[Tensor, Tensor], Tensor]
"""Of states [n, C, H, W] and the rows [n] of z that they belong to."""
Product = Callable[[Tensor, Tensor, Tensor], Tensor | None]
"""Of what was returned, its z and v: v^T d eps_hat/dz; None where it does not depend on z."""


@dataclass(frozen=True)
class Finding:
    """A row whose product and differences are apart: q by each, and its gamma."""

    gamma: float
    product: float
    difference: float

    @property
    def relative(self) -> float:
        """How far the product is off, over the size of q."""
        return abs(self.product - self.difference) / max(abs(self.difference), LEAST_Q)


@dataclass(frozen=True)
class Verdict:
    """The worst row of all that are wrong; the gammas of those that were too rough to tell.

    ``doubt`` is the worst of these whose product is off differences by steps that may be too coarse.
    """

    worst: Finding | None
    rough: tuple[float, ...]
    doubt: Finding | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether more of the gradient is missing than rounding can explain."""
        return self.worst is not None and self.worst.relative > WRONG


def resolution(width: float) -> float:
    """The error of q that changes a result by `VISIBLE_BITS` over ``width`` of gamma."""
    return 2 * math.log(2) * VISIBLE_BITS / width


def joined(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Of all rows; None where there are no verdicts."""
    if not verdicts:
        return None
    worst, doubt = (
        max((found for found in column if found is not None), key=_error, default=None)
        for column in zip(*((v.worst, v.doubt) for v in verdicts), strict=True)
    )
    return Verdict(worst, tuple(gamma for verdict in verdicts for gamma in verdict.rough), doubt)


def _error(finding: Finding) -> float:
    return abs(finding.product - finding.difference)


def compare(
    call: Call, product: Product, z: Tensor, gamma: Tensor, value: Tensor, width: float, *, coupled: bool
) -> Verdict | None:
    """Products against differences at z [B, C, H, W], where ``call`` returned ``value``; None for a constant.

    What seems wrong is looked at a second time, along other directions, before it is said to be.
    ``coupled`` rows depend on each other: they move together, and q is the mean of all.
    """
    first = _look(call, product, z, gamma, value, seed=1, coupled=coupled)
    if first is None:
        return None
    if not _suspects(first, width):
        return Verdict(None, first.rough, first.doubt)
    second = _look(call, product, z, gamma, value, seed=2, coupled=coupled)
    if second is None:
        return None
    again = _suspects(second, width)
    both = [finding for finding in _suspects(first, width) if any(f.gamma == finding.gamma for f in again)]
    worst = max(both, key=_error, default=None)
    return Verdict(worst, first.rough, first.doubt)


@dataclass(frozen=True)
class _Look:
    findings: tuple[Finding, ...]
    spread: tuple[float, ...]  # of the two differences, for each finding
    rough: tuple[float, ...]
    doubt: Finding | None


def _suspects(look: _Look, width: float) -> list[Finding]:
    return [
        finding
        for finding, spread in zip(look.findings, look.spread, strict=True)
        if finding.relative > WRONG
        or abs(finding.product - finding.difference) > max(resolution(width), 5 * spread)
    ]


def _look(
    call: Call, product: Product, z: Tensor, gamma: Tensor, value: Tensor, *, seed: int, coupled: bool
) -> _Look | None:
    """Each row by the first two neighbouring steps whose differences agree."""
    signs = torch.randint(0, 2, z.shape, generator=torch.Generator(device="cpu").manual_seed(seed))
    v = (2 * signs - 1).to(z.dtype).to(z.device)
    state = z.clone().requires_grad_()
    everywhere = torch.arange(len(z))
    out = call(state, everywhere)
    if not out.requires_grad:
        return None
    pulled = product(out, state, v)
    slope = torch.zeros_like(z) if pulled is None else pulled
    # Groups of as many rows, each with a q of its own.
    groups = everywhere.view(1, -1) if coupled else everywhere.view(-1, 1)
    finite = value.isfinite().flatten(1).all(1).cpu()
    left = [at for at, rows in enumerate(groups) if bool(finite[rows].all())]
    gammas = [float(gamma[rows].mean()) for rows in groups]
    sides: dict[int, dict[float, Sides]] = {at: {} for at in left}
    settled: list[tuple[Finding, float]] = []
    for step in STEPS:
        if not left:
            break
        rows = groups[left].flatten()
        up, down = _ends(z[rows], v[rows], schedules.sigma(gamma[rows]), step)
        if coupled:
            above, below = call(up, rows), call(down, rows)
        else:
            above, below = call(torch.cat([up, down]), rows.repeat(2)).chunk(2)
        table = _difference(up, down, above, below, value[rows], v[rows], slope[rows], step)
        for at, (q, by_product, bend, rise) in zip(left, table.view(len(left), -1, 4).mean(1), strict=True):
            sides[at][step] = Sides(float(q), float(by_product), float((bend / rise).sqrt()))
        pairs = {at: _agreeing(sides[at]) for at in left}
        settled += [_finding(pair, gammas[at]) for at, pair in pairs.items() if pair is not None]
        left = [at for at in left if pairs[at] is None]
    coarse = {at: _agreeing(sides[at], acquit=False) for at in left}
    doubts = [_finding(pair, gammas[at])[0] for at, pair in coarse.items() if pair is not None]
    doubts = [doubt for doubt in doubts if doubt.relative > WRONG]
    return _Look(
        tuple(finding for finding, _ in settled),
        tuple(apart for _, apart in settled),
        tuple(gammas[at] for at in left),
        max(doubts, key=_error, default=None),
    )


@dataclass(frozen=True)
class Sides:
    """Q by the difference and by the product, and the second difference over the first (nan where none)."""

    difference: float
    product: float
    roughness: float


def _ends(z: Tensor, v: Tensor, sigma: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Z + h v and z - h v, as they are rounded."""
    wide = schedules.widened(z)
    reach = step * schedules.per_image(sigma, wide) * schedules.widened(v)
    return (wide + reach).to(z.dtype).to(z.device), (wide - reach).to(z.dtype).to(z.device)


def _difference(
    up: Tensor,
    down: Tensor,
    above: Tensor,
    below: Tensor,
    value: Tensor,
    v: Tensor,
    slope: Tensor,
    step: float,
) -> Tensor:
    """Of the rows [n, 4]: q by the difference, by the product, second and first difference squared.

    ``above`` and ``below`` were returned at the ends ``up`` and ``down``. The product is taken with what lies
    between these, so that only what the network itself rounds is left.
    """
    above, below, direction = schedules.widened(above), schedules.widened(below), schedules.widened(v)
    moved = schedules.widened(up) - schedules.widened(down)
    columns = (
        direction * (above - below) / (2 * step),
        schedules.widened(slope) * moved / (2 * step),
        (above - 2 * schedules.widened(value) + below).square(),
        (above - below).square(),
    )
    return torch.stack([column.flatten(1).mean(1) for column in columns], 1).cpu()


def _agreeing(sides: dict[float, Sides], *, acquit: bool = True) -> tuple[Sides, Sides] | None:
    """Two neighbouring steps that agree, in a stretch that is smooth.

    Coarse steps count only where they ``acquit`` the product, or in spite of that.
    """
    for small, large in itertools.pairwise(sorted(sides)):
        pair = sides[large], sides[small]
        size = max(abs(side.difference) for side in pair)
        still = all(side.difference == 0 and side.product == 0 for side in pair)
        if still or (
            all(side.roughness < SMOOTH for side in pair)
            and abs(pair[0].difference - pair[1].difference) <= AGREE * max(size, LEAST_Q)
            and (large <= USUAL_STEP or not acquit or _is_right(pair))
        ):
            return pair
    return None


def _is_right(pair: tuple[Sides, Sides]) -> bool:
    return all(_apart(side) <= AGREE * max(abs(side.difference), LEAST_Q) for side in pair)


def _apart(side: Sides) -> float:
    return abs(side.difference - side.product)


def _finding(pair: tuple[Sides, Sides], gamma: float) -> tuple[Finding, float]:
    """The nearer of the two, for a product is wrong only where it is off both; and how far they are apart."""
    nearer = min(pair, key=_apart)
    return Finding(gamma, nearer.product, nearer.difference), abs(pair[0].difference - pair[1].difference)
