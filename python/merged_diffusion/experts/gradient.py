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
from collections.abc import Callable, Iterator, Sequence
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
AGREE: Final = 0.01  # two differences that are further apart, relatively, say nothing
WRONG: Final = 0.03  # a product that is further off than this is wrong; trained networks in float32: 5e-3
SMOOTH: Final = 0.1  # most that the second difference may be of the first, else h is no small step
LEAST_Q: Final = 0.02  # errors of a smaller q are taken relative to this
VISIBLE_BITS: Final = 0.1  # per dimension, over a whole leg: what must be seen

Call = Callable[[Tensor], Tensor]
"""Of z [B, C, H, W], or of some such stacked [n B, C, H, W] without gradients."""
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
    """The worst row of all that are wrong; the gammas of those that were too rough to tell."""

    worst: Finding | None
    rough: tuple[float, ...]

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
    worst = max((v.worst for v in verdicts if v.worst is not None), key=_error, default=None)
    return Verdict(worst, tuple(gamma for verdict in verdicts for gamma in verdict.rough))


def _error(finding: Finding) -> float:
    return abs(finding.product - finding.difference)


def compare(
    call: Call, product: Product, z: Tensor, gamma: Tensor, value: Tensor, width: float
) -> Verdict | None:
    """Products against differences at z [B, C, H, W], where ``call`` returned ``value``; None for a constant.

    What seems wrong is looked at a second time, along other directions, before it is said to be.
    """
    first = _look(call, product, z, gamma, value, seed=1)
    if first is None:
        return None
    if not _suspects(first, width):
        return Verdict(None, first.rough)
    second = _look(call, product, z, gamma, value, seed=2)
    if second is None:
        return None
    again = _suspects(second, width)
    both = [finding for finding in _suspects(first, width) if any(f.gamma == finding.gamma for f in again)]
    worst = max(both, key=_error, default=None)
    return Verdict(worst, first.rough)


@dataclass(frozen=True)
class _Look:
    findings: tuple[Finding, ...]
    spread: tuple[float, ...]  # of the two differences, for each finding
    rough: tuple[float, ...]


def _suspects(look: _Look, width: float) -> list[Finding]:
    return [
        finding
        for finding, spread in zip(look.findings, look.spread, strict=True)
        if finding.relative > WRONG
        or abs(finding.product - finding.difference) > max(resolution(width), 5 * spread)
    ]


def _look(
    call: Call, product: Product, z: Tensor, gamma: Tensor, value: Tensor, *, seed: int
) -> _Look | None:
    """Each row by the first two neighbouring steps whose differences agree."""
    signs = torch.randint(0, 2, z.shape, generator=torch.Generator(device="cpu").manual_seed(seed))
    v = (2 * signs - 1).to(z.dtype).to(z.device)
    state = z.clone().requires_grad_()
    out = call(state)
    if not out.requires_grad:
        return None
    pulled = product(out, state, v)
    slope = torch.zeros_like(z) if pulled is None else pulled
    scale = schedules.sigma(gamma)
    found: dict[float, tuple[Tensor, Tensor, Tensor]] = {}
    settled: dict[int, tuple[Finding, float]] = {}
    looked_at = [row for row in range(len(z)) if bool(value[row].isfinite().all())]
    for step in _needed(looked_at, settled):
        found[step] = _difference(call, z, value, v, slope, scale, step)
        for row in looked_at:
            if row not in settled and (pair := _agreeing(found, row)) is not None:
                settled[row] = _finding(pair, float(gamma[row]))
    rough = tuple(float(gamma[row]) for row in looked_at if row not in settled)
    findings = [settled[row] for row in sorted(settled)]
    return _Look(tuple(f for f, _ in findings), tuple(s for _, s in findings), rough)


def _needed(rows: list[int], settled: dict[int, tuple[Finding, float]]) -> Iterator[float]:
    """The steps, until every row is settled."""
    for step in STEPS:
        if len(settled) < len(rows):
            yield step


def _difference(
    call: Call, z: Tensor, value: Tensor, v: Tensor, slope: Tensor, sigma: Tensor, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Q by the difference and by the product [B], and the second difference over the first [B].

    The product is taken with z + h v less z - h v as they were rounded, so that only what the network itself
    rounds is left.
    """
    wide, direction = schedules.widened(z), schedules.widened(v)
    reach = step * schedules.per_image(sigma, wide) * direction
    up, down = ((wide + signed).to(z.dtype).to(z.device) for signed in (reach, -reach))
    above, below = schedules.widened(call(torch.cat([up, down]))).chunk(2)
    moved = schedules.widened(up) - schedules.widened(down)
    q = (direction * (above - below)).flatten(1).mean(1) / (2 * step)
    by_product = (schedules.widened(slope) * moved).flatten(1).mean(1) / (2 * step)
    bend = (above - 2 * schedules.widened(value) + below).flatten(1).norm(dim=1)
    roughness = bend / (above - below).flatten(1).norm(dim=1)  # nan where nothing moved at all
    return q, by_product, roughness


def _agreeing(
    found: dict[float, tuple[Tensor, Tensor, Tensor]], row: int
) -> list[tuple[float, float]] | None:
    """(difference, product) of two neighbouring steps that agree in this row, in a stretch that is smooth."""
    steps = sorted(found)
    for small, large in itertools.pairwise(steps):
        pair = [tuple(float(part[row]) for part in found[step]) for step in (large, small)]
        size = max(abs(q) for q, _, _ in pair)
        still = all(q == 0 and p == 0 for q, p, _ in pair)
        if still or (
            all(rough < SMOOTH for _, _, rough in pair)
            and abs(pair[0][0] - pair[1][0]) <= AGREE * size + 1e-9
            and (large <= USUAL_STEP or _is_right(pair))
        ):
            return [(q, product) for q, product, _ in pair]
    return None


def _is_right(pair: list[tuple[float, ...]]) -> bool:
    return all(abs(q - product) <= AGREE * max(abs(q), LEAST_Q) for q, product, _ in pair)


def _finding(pair: list[tuple[float, float]], gamma: float) -> tuple[Finding, float]:
    """The nearer of the two, so that a product is wrong only where it is off both."""
    q, product = min(pair, key=lambda both: abs(both[0] - both[1]))
    return Finding(gamma, product, q), abs(pair[0][0] - pair[1][0])
