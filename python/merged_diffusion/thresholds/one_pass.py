"""The exact likelihood at every threshold from one solve.

The path follows the likelihood expert (1) to gamma_s and the quality expert (2) from there; wherever both
were trained, both are asked at every node. With q_i = sigma v^T (d eps_i/dz) v, the trace of the expert in
charge adds q_i/2 to the log density where the path is its own flow. Where the path is that of the other one,
j, the density of flow i is carried along it by its score, for which -eps_2/sigma is taken:

    G_i = q_i/2 + eps_2 . (eps_j - eps_i)/2.

So for a threshold at gamma_eta <= gamma_s, with d log(alpha_max/alpha_min) and the end density beside them,

    1/2 integral_{gamma_min}^{gamma_eta} q_1 + integral_{gamma_eta}^{gamma_s} G_2
        + 1/2 integral_{gamma_s}^{gamma_max} q_2,

and above it G_1 from gamma_s to gamma_eta. Exact for a threshold at gamma_s, right in first order round it
as far as eps_2 is a score: just below a threshold the density still has the score of the flow above, so it is
eps_2 in G_1 too, and the curve has no kink. gamma_s should be near the best threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion import _core, schedules
from merged_diffusion.data.images import Data
from merged_diffusion.errors import ResourceError, SolveError
from merged_diffusion.experts.base import Expert
from merged_diffusion.likelihood import default_batch_size
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.likelihood.settings import Settings
from merged_diffusion.ode.flow import ProbabilityFlow, frozen
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.probes import make_probes
from merged_diffusion.ode.solve import solve
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

    Columns: q/2 of the flow, and G of the other (0 without one).
    """

    def __init__(
        self, flow: ProbabilityFlow, other: ProbabilityFlow | None, start: float, *, leads_score: bool
    ) -> None:
        self.n_experts = 1 if other is None else 2
        self._flow, self._other, self._start = flow, other, start
        self._leads_score = leads_score  # whether eps_2 is that of the flow
        self._seen: dict[int, dict[float, tuple[float, float]]] = {}

    def __call__(self, z: Tensor, gamma: Floats, node: Keys, keys: Keys) -> tuple[Tensor, Tensor]:
        """What the flow says."""
        eps, q = self._flow(z, gamma, node, keys)
        gained = torch.zeros_like(q)
        if self._other is not None:
            eps_other, q_other = self._other(z, gamma, node, keys)
            score = eps if self._leads_score else eps_other
            away = (schedules.widened(score) * (schedules.widened(eps) - schedules.widened(eps_other))).sum(1)
            gained = (q_other + away) / 2
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
    switch: float,
    data: Data,
    gammas: Floats,
    settings: Settings,
) -> OnePass:
    """The likelihood of ``data`` at thresholds ``gammas`` [E].

    Parameters
    ----------
    experts
        Likelihood and quality expert, in the model's space.
    parts
        Where the likelihood expert begins, the quality expert begins, the likelihood expert ends, the quality
        expert ends; thresholds lie between the middle two.
    switch
        Where the path goes over from the one to the other, between the middle two.
    settings
        Of the method ``adams``: nodes are its accepted steps.

    Raises
    ------
    SolveError
        No image could be solved.
    ResourceError
        The memory does not suffice for one row.
    """
    rows = settings.batch_size or default_batch_size(len(data), settings.device)
    device = torch.device(settings.device)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        frozen(experts, device=device, dtype=settings.torch_dtype),
    ):
        while True:
            try:
                return _Pass(experts, parts, switch, data, gammas, settings, rows).run()
            except (torch.OutOfMemoryError, MemoryError) as error:
                if rows == 1:
                    raise ResourceError(
                        f"the memory of {settings.device} does not suffice for a network call of one row",
                        hint="use a smaller network or another device",
                        device=settings.device,
                    ) from error
                rows //= 2


class _Pass:
    def __init__(
        self,
        experts: tuple[Expert, Expert],
        parts: tuple[float, float, float, float],
        switch: float,
        data: Data,
        gammas: Floats,
        settings: Settings,
        rows: int,
    ) -> None:
        self._settings, self._rows, self._gammas, self._parts = settings, rows, gammas, parts
        channels, height, width = data.images.shape[1:]
        self._shape, self._dim = (channels, height, width), channels * height * width
        self._items = Items(data.ids.astype(np.uint64), 1, settings.seed, data.labels)
        self._starts = Dequantisation(
            settings.dequantise,
            data.images,
            levels=data.levels,
            gamma_min=parts[0],
            items=self._items,
            importance=1,
        )
        self._nats = np.full((len(data), len(gammas)), np.nan)
        likelihood, quality = experts
        begin, low, high, end = parts
        wanted: Sequence[tuple[float, float, Expert, Expert | None]] = (
            (begin, low, likelihood, None),
            (low, switch, likelihood, quality),
            (switch, high, quality, likelihood),
            (high, end, quality, None),
        )
        self._legs = [leg for leg in wanted if leg[0] < leg[1]]
        self._networks = [
            _Beside(
                self._flow(lead),
                None if other is None else self._flow(other),
                start,
                leads_score=lead is quality,
            )
            for start, _, lead, other in self._legs
        ]
        self._switch = switch
        self._evaluations = 0

    def run(self) -> OnePass:
        """Solve all images."""
        settings = self._settings
        solve(
            [(start, end) for start, end, _, _ in self._legs],
            self._networks,
            np.arange(len(self._items), dtype=np.uint64),
            self._starts.start,
            shape=(self._rows, self._dim),
            device=torch.device(settings.device),
            dtype=settings.torch_dtype,
            finished=self._finished,
            workspace=settings.workspace,
            record_steps=True,
            **settings.solver,
        )
        is_solved = ~np.isnan(self._nats).any(axis=1)
        if not is_solved.any():
            raise SolveError(
                f"none of {len(is_solved)} images could be solved along the likelihood expert's path",
                hint="score one by nll --eta max, which names the gamma",
            )
        bits = _core.bits_per_dim(np.ascontiguousarray(self._nats[is_solved].ravel()), self._dim)
        return OnePass(bits.reshape(-1, len(self._gammas)), is_solved, self._evaluations)

    def _flow(self, expert: Expert) -> ProbabilityFlow:
        probes = make_probes(
            self._settings.probe or "fresh",
            self._settings.probes,
            self._items,
            rows=self._rows,
            dim=self._dim,
            device=torch.device(self._settings.device),
            dtype=self._settings.torch_dtype,
        )
        return ProbabilityFlow(expert, self._shape, probes, self._items)

    def _finished(self, outcome: _core.Outcome) -> None:
        asked = zip(outcome.evaluations, self._networks, strict=True)
        self._evaluations += sum(count * network.n_experts for count, network in asked)
        if outcome.status != "ok" or outcome.steps is None:
            return
        begin, _, _, end = self._parts
        end_density = _core.end_density(np.array([outcome.square]), end, self._dim)[0]
        scale = self._dim * (_core.log_alpha(end) - _core.log_alpha(begin))
        nats = np.full(len(self._gammas), end_density + scale + outcome.path_correction)
        for (start, stop, _, other), network in zip(self._legs, self._networks, strict=True):
            nodes, values = network.nodes(outcome.key, outcome.steps, stop)
            # From the leg's start to the threshold the likelihood expert is in charge, from there the other.
            upto = integral_weights(nodes, np.append(np.clip(self._gammas, start, stop), stop))
            below, above = upto[:-1], upto[-1] - upto[:-1]
            if other is None:
                nats += upto[-1] @ values[:, 0]
                continue
            led, beside = (below, above) if start < self._switch else (above, below)
            nats += led @ values[:, 0] + beside @ values[:, 1]
        if math.isfinite(float(nats.sum())):
            self._nats[self._items.position(outcome.key)] = nats + self._starts.nats(outcome.key)
