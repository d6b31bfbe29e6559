"""The exact likelihood at every threshold from one solve.

The path follows the likelihood expert (1) to gamma_1, the end of its range, and the quality expert (2) from
there. On the way both are asked at every node. With q_i = sigma v^T (d eps_i/dz) v,

    log p_eta(z_min) = log N(z_max; 0, sigma_max^2 I) + d log(alpha_max/alpha_min)
        + 1/2 integral_{gamma_min}^{gamma_eta} q_1 + integral_{gamma_eta}^{gamma_1} G
        + 1/2 integral_{gamma_1}^{gamma_max} q_2,      G = q_2/2 + eps_2 . (eps_1 - eps_2)/2:

above the threshold the density is that of the second flow, carried along the first one's path by its score
-eps_2/sigma. Exact for a threshold at gamma_1, and below it as far as expert 2's eps_hat is a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import _core, schedules
from merged_diffusion.data.images import Data
from merged_diffusion.errors import SolveError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.memory import Rows
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.probes import make_directions
from merged_diffusion.ode.solve import solve
from merged_diffusion.scores.by_image import ByImage, Keep, Positions, here
from merged_diffusion.scores.prepared import ready
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.thresholds.splines import integral_weights

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OnePass:
    """Bits/dim [N, E] of the images that were solved, at every threshold, and what it took."""

    bits_per_dim: Floats
    is_solved: npt.NDArray[np.bool_]
    evaluations: int
    """Forward passes with a vector-Jacobian product."""


class _Beside:
    """A flow, and what another one says at the same nodes; kept by problem and gamma.

    Columns: q/2 of the flow, and G with the other (0 without one).
    """

    def __init__(self, flow: ProbabilityFlow, other: ProbabilityFlow | None, start: float) -> None:
        self.n_experts = 1 if other is None else 2
        self._flow, self._other, self._start = flow, other, start
        self._seen: dict[int, dict[float, tuple[float, float]]] = {}

    def __call__(self, z: Tensor, gamma: Floats, node: Keys, keys: Keys) -> tuple[Tensor, Tensor]:
        """What the flow says."""
        eps, q = self._flow(z, gamma, node, keys)
        gained = torch.zeros_like(q)
        if self._other is not None:
            eps_other, q_other = self._other(z, gamma, node, keys)
            score, away = schedules.widened(eps_other), schedules.widened(eps) - schedules.widened(eps_other)
            gained = (q_other + (score * away).sum(1)) / 2
        values = torch.stack([q / 2, gained], dim=1).cpu().numpy()
        for key, at, row in zip(keys.tolist(), gamma.tolist(), values.tolist(), strict=True):
            seen = self._seen.setdefault(key, {})
            # An attempt that is repeated counts last; rows that sit out a call are given the start.
            if at != self._start or at not in seen:
                seen[at] = (row[0], row[1])
        return eps, q

    def nodes(self, key: int, steps: Floats, end: float) -> tuple[Floats, Floats]:
        """The nodes [n] of a problem on this leg and the two columns [n, 2] there; forgotten then."""
        seen = self._seen.pop(key)
        found = np.array([self._start, *steps[(steps > self._start) & (steps <= end)]])
        return found, np.array([seen[at] for at in found])


def one_pass(
    experts: tuple[Expert, Expert],
    parts: tuple[float, float, float, float],
    data: Data,
    gammas: Floats,
    options: Options,
    labels: npt.NDArray[np.int64] | None = None,
    by_image: ByImage = here,
) -> OnePass:
    """The likelihood of ``data`` at thresholds ``gammas`` [E].

    Parameters
    ----------
    experts
        Likelihood and quality expert, in the model's space.
    parts
        Where the likelihood expert begins, the quality expert begins, the likelihood expert ends, the quality
        expert ends; thresholds lie between the middle two.
    options
        Of `Adams`, and fresh probes: nodes are its accepted steps.
    by_image
        Who measures the images: by default this call, all of them.

    Raises
    ------
    SolveError
        No image could be solved.
    ResourceError
        The memory does not suffice for one row.
    """
    place = options.machine.here(partial(scoring_rows, len(data)))
    fewer = Rows(place.rows, place.device)
    measure = PassRows(experts, parts, data, gammas, options, labels, place, fewer)
    with ready(experts, place):
        found = by_image(len(data), len(gammas) + 1, measure, rows=place.rows, is_steady=True)
    nats, evaluations = np.ascontiguousarray(found[:, :-1]), found[:, -1]
    is_solved: npt.NDArray[np.bool_] = np.logical_not(np.isnan(nats).any(axis=1))
    if not is_solved.any():
        raise SolveError(
            f"none of {len(is_solved)} images could be solved along the likelihood expert's path",
            hint="score one by nll --eta max, which names the gamma",
        )
    bits = _core.bits_per_dim(nats[is_solved].ravel(), math.prod(data.images.shape[1:]))
    return OnePass(bits.reshape(-1, len(gammas)), is_solved, int(evaluations.sum()))


@dataclass(frozen=True, eq=False)
class PassRows:
    """Measures rows [E + 1]: nats at every threshold, and evaluations; NaN of an image that failed.

    It is a `Measure`, and travels to whoever measures.
    """

    experts: tuple[Expert, Expert]
    parts: tuple[float, float, float, float]
    data: Data
    gammas: Floats
    options: Options
    labels: npt.NDArray[np.int64] | None
    place: Place
    fewer: Rows

    def __call__(self, positions: Positions, keep: Keep) -> None:
        """Solve the images at positions, and hand on each row as it is there."""
        is_wanted = np.isin(np.arange(len(self.data)), positions)
        own = self.data if is_wanted.all() else self.data.where(is_wanted)
        classes = None if self.labels is None else self.labels[is_wanted]

        def passed(position: int, row: Floats) -> None:
            keep(positions[[position]], row[None])

        with ready(self.experts, self.place):
            while True:
                with self.fewer.attempt() as rows:
                    at = replace(self.place, rows=rows)
                    asked = (self.experts, self.parts, own, classes, self.gammas, self.options, at)
                    return _Pass(*asked, passed).run()


class _Pass:
    def __init__(
        self,
        experts: tuple[Expert, Expert],
        parts: tuple[float, float, float, float],
        data: Data,
        labels: npt.NDArray[np.int64] | None,
        gammas: Floats,
        options: Options,
        place: Place,
        keep: Callable[[int, Floats], object],
    ) -> None:
        """``keep`` takes the position of an image and its row: nats [E], and evaluations."""
        self._keep = keep
        self._options, self._place, self._gammas, self._parts = options, place, gammas, parts
        channels, height, width = data.images.shape[1:]
        self._shape, self._dim = (channels, height, width), channels * height * width
        self._items = Items(data.ids.astype(np.uint64), 1, options.seed, labels)
        self._starts = Dequantisation(
            options.dequantise,
            data.images,
            levels=data.levels,
            gamma_min=parts[0],
            items=self._items,
            importance=1,
        )
        likelihood, quality = experts
        begin, low, high, end = parts
        wanted: Sequence[tuple[float, float, Expert, Expert | None]] = (
            (begin, low, likelihood, None),
            (low, high, likelihood, quality),
            (high, end, quality, None),
        )
        self._legs = [leg for leg in wanted if leg[0] < leg[1]]
        self._networks = [
            _Beside(self._flow(lead), None if other is None else self._flow(other), start)
            for start, _, lead, other in self._legs
        ]

    def run(self) -> None:
        """Solve all images."""
        solve(
            [[(start, end) for start, end, _, _ in self._legs]],
            self._networks,
            np.arange(len(self._items), dtype=np.uint64),
            self._starts.start,
            dim=self._dim,
            place=self._place,
            solver=self._options.solver,
            finished=self._finished,
            record_steps=True,
        )

    def _flow(self, expert: Expert) -> ProbabilityFlow:
        directions = make_directions(
            self._options.probes.of_dim(self._dim), self._items, self._place, self._shape
        )
        return ProbabilityFlow(expert, self._shape, directions, self._items)

    def _finished(self, outcome: _core.Outcome) -> None:
        asked = zip(outcome.evaluations, self._networks, strict=True)
        evaluations = sum(count * network.n_experts for count, network in asked)
        nats = self._nats(outcome)
        self._keep(self._items.position(outcome.key), np.append(nats, evaluations))

    def _nats(self, outcome: _core.Outcome) -> Floats:
        """At every threshold [E]; NaN of an image that failed."""
        if outcome.status != "ok" or outcome.steps is None:
            return np.full(len(self._gammas), np.nan)
        begin, _, _, end = self._parts
        end_density = _core.end_density(np.array([outcome.square]), end, self._dim)[0]
        scale = self._dim * (_core.log_alpha(end) - _core.log_alpha(begin))
        nats = np.full(len(self._gammas), end_density + scale)
        for (_, stop, _, other), network in zip(self._legs, self._networks, strict=True):
            nodes, values = network.nodes(outcome.key, outcome.steps, stop)
            if other is None:
                nats += integral_weights(nodes, np.array([stop]))[0] @ values[:, 0]
                continue
            upto = integral_weights(nodes, np.append(self._gammas, stop))
            nats += upto[:-1] @ values[:, 0] + (upto[-1] - upto[:-1]) @ values[:, 1]
        if not math.isfinite(float(nats.sum())):
            return np.full(len(self._gammas), np.nan)
        return nats + self._starts.nats(outcome.key)
