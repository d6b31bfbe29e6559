"""Gates from shares: the monotone spline nearest to what was measured, and its relatives.

The spline is found by non-negative least squares (Lawson & Hanson 1974; Ramsay 1988), weighted by the
curvature of the loss, so what is minimised is the loss itself. Nothing is clipped before: a share above 1
here and below 1 there has a mean, which clipping would move.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from scipy.optimize import nnls

from merged_diffusion.errors import UsageError
from merged_diffusion.gating.residuals import Shares
from merged_diffusion.soft_gate import ORDER, Floats, Gate, of_shares, rising

SPACING: Final = 1.0  # of knots, at least: finer structure would cost the solver steps
JUMP: Final = 0.1  # more than that may be missing to 1 where the quality expert begins
NEAR: Final = 1.0  # in gamma: over so much of its range
FIRM: Final = 1e4  # of the sum of the shares against the data, in the least squares
GRID: Final = 12  # points between two knots at which a curve is matched
FAR: Final = 1e-9  # from 0 and 1, where a logit is cut


def fitted(shares: Shares, start: float, end: float, **about: Any) -> Gate:
    """The gate between ``start`` and ``end`` with the least loss.

    Raises
    ------
    UsageError
        There is no room for a smooth gate, or w* jumps at the start by more than 0.1.
    """
    inside = shares.gamma < end
    near = inside & (shares.gamma < start + NEAR)
    if near.any():
        weight = shares.curvature[near]
        low = float(np.average(shares.w[near], weights=weight))
        error = (
            float(np.average(shares.se[near], weights=weight)) if np.isfinite(shares.se[near]).all() else 0
        )
        if 1 - low > JUMP + 2 * error:
            raise UsageError(
                f"at gamma {start:g}, where the quality expert begins, the likelihood expert's best share is "
                f"{low:.2f} and would have to jump from 1",
                hint="a quality expert whose range begins at less noise can take part from there on; "
                "or use a threshold",
                found=low,
            )
    return nearest(shares.gamma[inside], shares.shrunk[inside], shares.curvature[inside], start, end, **about)


def nearest(gamma: Floats, w: Floats, weight: Floats, start: float, end: float, **about: Any) -> Gate:
    """The gate between two gammas that is nearest to w [G] at gamma [G], by weighted least squares."""
    n = int((end - start) / SPACING + 1e-9) - ORDER + 1
    if n < 1:
        raise UsageError(
            f"a gate from gamma {start:g} to {end:g} has no room to fall smoothly, which takes "
            f"{ORDER * SPACING:g}",
            hint="experts whose ranges overlap by more, or a threshold",
        )
    root = np.sqrt(weight / weight.max())
    matrix, wanted = root[:, None] * rising(gamma, start, end, n), root * (1 - w)
    matrix = np.vstack([matrix, np.full(n, FIRM)])
    found, _ = nnls(matrix, np.append(wanted, FIRM))
    return of_shares(start, end, found, **about)


def bent(gate: Gate, a: float, b: float, **about: Any) -> Gate:
    """The gate nearest to logit w -> a logit w + b; a = b = 0 is one half all along, but for its ends."""
    n = (len(gate.shares) + ORDER - 1) * GRID
    gamma = gate.start + (gate.end - gate.start) * (np.arange(n) + 0.5) / n
    w = np.clip(gate(gamma), FAR, 1 - FAR)
    moved = 1 / (1 + np.exp(-(a * np.log(w / (1 - w)) + b)))
    return nearest(gamma, moved, np.ones(n), gate.start, gate.end, **about)
