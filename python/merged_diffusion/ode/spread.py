"""How far the probes of a problem disagree, which says what m of them leave uncertain.

The solver integrates the mean q of m probes. Probe p alone would, on the same steps, have given an entry that
differs by

    D_p = 1/2 integral of (q_p - mean over probes of q) dgamma,

so the variance of their mean is about sum_p D_p^2 / (m (m - 1)). The integral is over the ends of accepted
steps, by the trapezoid rule with slopes from differences: h (f_0 + f_1)/2 - h^2 (f'_1 - f'_0)/12.

Where every node has probes of its own, their errors add up by nodes instead (`_core.probe_variances`), and
one probe a node tells its noise, too. The colours of one probe add up to its q, and given the path they are
independent: each tells its own noise.

A companion that is fixed along the path (`companion`) sees how the trace bends. What it saw of each colour is
taken off before neighbours tell the noise: a diagonal Jacobian has none then, however rough it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.ode.items import Keys

Floats = npt.NDArray[np.float64]
Origin = tuple[int, int] | None
"""The problem in whose row the first steps of another were taken, and how many (`_core.Outcome`)."""

ONE_COURSE: Final = 1 << 63


class Noted:
    """Notes q of one leg of a `Spread`.

    Behind a soft joint nothing is evaluated at the ``joint``: who seems to be has no problem there.
    """

    def __init__(self, spread: Spread, joint: float | None) -> None:
        self._spread = spread
        self._joint = joint
        self.n_beside, self.tells_noise = spread.n_beside, spread.tells_noise

    def note(self, gamma: Floats, keys: Keys, q: Tensor) -> None:
        """`Spread.note`, less the rows that sit out."""
        if self._joint is None:
            self._spread.note(gamma, keys, q)
            return
        at = np.flatnonzero(gamma != self._joint)
        self._spread.note(gamma[at], keys[at], q[:, torch.as_tensor(at, device=q.device)])


class Spread:
    """q of every probe, at the gammas where the problems of one lane were evaluated.

    ``legs`` are the (start, end) of each course there, ``stride`` what lies between the keys of a problem on
    two courses. In the first lane a problem may have taken its first steps in the row of another.
    ``are_colours``: the probes are those of one (`lattice`). ``n_beside``: so many values of a companion are
    behind those of the probes. ``tells_noise``: the probes are told one by one, else as their sum.
    """

    def __init__(
        self,
        legs: Sequence[tuple[float, float]],
        stride: int = ONE_COURSE,
        *,
        is_first: bool = True,
        are_colours: bool = False,
        n_beside: int = 0,
        tells_noise: bool = True,
    ) -> None:
        self._legs = legs
        self._are_colours = are_colours
        self._stride = stride
        self.n_beside = n_beside
        self.tells_noise = tells_noise
        self._is_first = is_first
        self._seen: dict[int, dict[float, Floats]] = {}
        self._queued: list[tuple[Floats, Keys, Tensor]] = []

    def note(self, gamma: Floats, keys: Keys, q: Tensor) -> None:
        """Take q [m, G] of the problems ``keys`` [G] at ``gamma`` [G]; nothing waits for the device.

        What is asked of a problem is asked once it has ended, after the workspace's ``collect``: the device
        has copied everything by then.
        """
        self._queued.append((gamma, keys.copy(), q.to("cpu", non_blocking=True)))

    def of_leg(self, start: float) -> Noted:
        """Who notes the evaluations of the leg that begins at ``start``, perhaps behind a soft joint."""
        return Noted(self, None if any(start == legs[0] for legs in self._legs) else start)

    def deviations(self, key: int, steps: Floats, origin: Origin = None) -> Floats:
        """D_p [m] of a problem over its leg here, from the ends of its accepted steps."""
        nodes, q = self._of_probes(key, steps, origin)
        away = q - q.mean(axis=1, keepdims=True)
        slope = np.gradient(away, nodes, axis=0, edge_order=2 if len(nodes) > 2 else 1)
        h = np.diff(nodes)[:, None]
        areas = h * (away[1:] + away[:-1]) / 2 - h**2 * np.diff(slope, axis=0) / 12
        found: Floats = 0.5 * areas.sum(axis=0)
        return found

    def variances(self, key: int, steps: Floats, origin: Origin = None) -> tuple[Floats, float] | None:
        """What fresh probes leave over a leg here: variances by node, and by colour if there are any.

        With half the variance of their sum (`_core.probe_variances`).
        """
        nodes, q = self._of_probes(key, steps, origin)
        columns = [np.ascontiguousarray(column) for column in q.T]
        if not self._are_colours:
            return _core.probe_variances(nodes, columns)
        parts = [_core.probe_variances(nodes, [column]) for column in columns]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        by_node, doubts = zip(*known, strict=True)
        return np.concatenate(by_node), sum(doubts)

    def misfit(self, key: int, steps: Floats, origin: Origin = None) -> float | None:
        """Variance, in nats^2, of what the spline over a leg here may miss (`_core.quadrature_variance`)."""
        nodes, q = self._values(key, steps, origin)
        return _core.quadrature_variance(nodes, q[:, q.shape[1] - self.n_beside :].sum(axis=1))

    def _of_probes(self, key: int, steps: Floats, origin: Origin) -> tuple[Floats, Floats]:
        """The nodes [n], and q [n, m] of the probes there, less what a companion saw of each."""
        nodes, q = self._values(key, steps, origin)
        own, beside = np.split(q, [q.shape[1] - self.n_beside], axis=1)
        # Of independent probes the companion is one more, and their own mean is what they have in common.
        return nodes, own - beside if own.shape == beside.shape else own

    def _values(self, key: int, steps: Floats, origin: Origin) -> tuple[Floats, Floats]:
        """The nodes [n] of a problem's solution on its leg, and q [n, m] there."""
        self._read()
        start, end = self._legs[key // self._stride]
        nodes = np.array([start, *steps[(steps > start) & (steps <= end)]])
        bearer, shared = origin if origin is not None and self._is_first else (key, 0)
        owners = [bearer] * (shared + 1) + [key] * (len(nodes) - shared - 1)
        return nodes, np.stack([self._seen[owner][node] for owner, node in zip(owners, nodes, strict=True)])

    def forget(self, problem: int) -> None:
        """Forget a problem on all its courses."""
        self._read()
        for course in range(len(self._legs)):
            self._seen.pop(problem + course * self._stride, None)

    def clear(self) -> None:
        """Forget all problems."""
        self._seen.clear()
        self._queued.clear()

    def _read(self) -> None:
        """Sort what was noted by problem and gamma.

        The last value counts, that of the attempt that was accepted; but at the start the first, because rows
        that sit out a call are given that gamma.
        """
        for gamma, keys, q in self._queued:
            values = q.numpy()
            for row, (key, node) in enumerate(zip(keys.tolist(), gamma.tolist(), strict=True)):
                seen = self._seen.setdefault(key, {})
                if node != self._legs[key // self._stride][0] or node not in seen:
                    seen[node] = values[:, row]
        self._queued.clear()
