"""DPM-Solver-v3: multistep steps in the variable that a model's statistics make smoothest.

With lambda = log(alpha/sigma), z = alpha e^(-L) u and f = (sigma eps_hat - l z)/alpha the probability flow is

    d u/d lambda = -e^L f,    f = e^S (g + B),    L' = l,  S' = s,  B' = e^(-S) b

(Zheng et al. 2023, DPM-Solver-v3, section 3.2; L = S = B = 0 at the step's start). g is a polynomial in
lambda through the last nodes, and the integrals of e^(L + S) lambda^k are numbers for every value of an
image. As of UniPC, a state is corrected by the prediction at its own node, which the next step needs anyway.
Differs from Zheng et al. 2023: no pseudo order, no half of a correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.flow_statistics import Floats, ModelStatistics, Table
from merged_diffusion.merge import Leg
from merged_diffusion.sampling.grids import Gammas
from merged_diffusion.sampling.network import Noises

POINTS: Final = 65  # of Simpson's rule in a step: where e^(L + S) changes by e^4 its error is 1e-7

Node = tuple[float, Tensor]
"""lambda, and eps_hat there."""


class Course:
    """L, S and b of one expert along lambda."""

    def __init__(self, table: Table) -> None:
        from scipy.interpolate import CubicSpline  # a likelihood draws no samples, and loads no scipy

        lam = -table.gamma[::-1] / 2
        self._l, self._s, self._b = (
            CubicSpline(lam, values[::-1], axis=0) for values in (table.linear, table.slope, table.shift)
        )
        self._L, self._S = self._l.antiderivative(), self._s.antiderivative()

    def linear(self, lam: float) -> Floats:
        """L at lambda."""
        found: Floats = self._l(lam)
        return found

    def step(self, start: float, end: float, nodes: Sequence[float]) -> tuple[Floats, Floats, list[Floats]]:
        """e^(-L) at the end, what is added to -u whatever f is, and the weight of f at every node.

        All are [C, H, W] or [C, 1, 1]; L is 0 at the step's start.
        """
        from scipy.integrate import simpson

        lam = np.linspace(start, end, POINTS)
        rise, bend, shift = self._along(start, lam)
        kernel = np.exp(rise + bend)
        t = (lam - start).reshape(-1, 1, 1, 1)
        moments = np.stack([simpson(kernel * t**k, x=lam, axis=0) for k in range(len(nodes))])
        # The weights of values at the nodes whose polynomial has these integrals.
        inverse = np.linalg.inv(np.vander(np.array(nodes) - start, increasing=True).T)
        weights = np.tensordot(inverse, moments, axes=1)
        constant = simpson(kernel * shift, x=lam, axis=0)
        of_f = []
        for node, weight in zip(nodes, weights, strict=True):
            _, S, B = (0.0, 0.0, 0.0) if node == start else self._at(start, node)
            of_f.append(weight * np.exp(-S))
            constant = constant - weight * B
        return np.exp(-rise[-1]), constant, of_f

    def _at(self, start: float, node: float) -> tuple[Floats, Floats, Floats]:
        L, S, B = self._along(start, np.linspace(start, node, POINTS))
        return L[-1], S[-1], B[-1]

    def _along(self, start: float, lam: Floats) -> tuple[Floats, Floats, Floats]:
        """L, S and B from the start on, [P, C, H, W]."""
        from scipy.integrate import cumulative_simpson

        L, S = self._L(lam) - self._L(start), self._S(lam) - self._S(start)
        inside = np.exp(-S) * self._b(lam)
        # The distance of points is negative towards earlier nodes.
        sums = cumulative_simpson(inside, dx=1.0, axis=0, initial=np.zeros_like(inside[:1]))
        return L, S, (lam[1] - lam[0]) * sums


def dpm_v3(
    z: Tensor,
    legs: Sequence[Leg],
    network: Noises,
    grid: Sequence[Gammas],
    statistics: ModelStatistics,
    order: int,
    *,
    corrects: bool = True,
) -> Tensor:
    """z_min [B, C, H, W] of z [B, C, H, W] at the first leg's start, along ``legs`` and their gammas.

    The history begins anew with every leg; its last state is not corrected.
    """
    for leg, gammas in zip(legs, grid, strict=True):
        course = Course(statistics.tables[leg.role])
        history: list[Node] = []
        before = z
        lams = [-gamma / 2 for gamma in gammas.tolist()]
        for (gamma, _), (here, there) in zip(pairwise(gammas.tolist()), pairwise(lams), strict=True):
            eps_hat = network(leg, z, gamma)
            if corrects and history:
                known = [(here, _remaining(course, here, eps_hat, z)), *history]
                z = _stepped(course, before, history[0][0], here, known)
            history = [(here, _remaining(course, here, eps_hat, z)), *history][:order]
            before, z = z, _stepped(course, z, here, there, history)
    return z


def _remaining(course: Course, lam: float, eps_hat: Tensor, z: Tensor) -> Tensor:
    """F."""
    gamma = -2 * lam
    return (_core.sigma(gamma) * eps_hat - _like(course.linear(lam), z) * z) / _core.alpha(gamma)


def _stepped(course: Course, z: Tensor, start: float, end: float, nodes: Sequence[Node]) -> Tensor:
    """Z at the end, of z at the start and f at the nodes."""
    shrunk, constant, weights = course.step(start, end, [lam for lam, _ in nodes])
    gone = _like(constant, z)
    for weight, (_, f) in zip(weights, nodes, strict=True):
        gone = gone + _like(weight, z) * f
    alphas = _core.alpha(-2 * start), _core.alpha(-2 * end)
    return alphas[1] * _like(shrunk, z) * (z / alphas[0] - gone)


def _like(values: Floats, z: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(z)
