"""All draws of all images in one solve, on as many rows as the device's memory allows.

Models that begin with the same expert at the same gamma are solved together: they are the courses of the same
problems, and share the steps that they have in common. A record is to the last bit that of its model alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from merged_diffusion import _core
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.memory import Rows
from merged_diffusion.legs import Leg, asked_over
from merged_diffusion.likelihood.dequantisation import Starts
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.likelihood.path_evidence import PathEvidence, unmeasured
from merged_diffusion.likelihood.probe_error import Parts
from merged_diffusion.likelihood.recorder import Recorder
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.companion import Companion, n_beside
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items, Keys
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.probes import Directions, make_directions
from merged_diffusion.ode.solve import solve
from merged_diffusion.ode.spread import Spread
from merged_diffusion.ode.time_profile import Timekeeper, TimeProfile, kept_by
from merged_diffusion.scores.record import Record

PROBLEMS: Final = 1 << 16  # of one solve: memory does not grow with the draws, and few rows idle at its end

Positions = npt.NDArray[np.int64]


class Scoring:
    """Models, problems, and how they are solved; `run` gives the records."""

    def __init__(
        self,
        models: Sequence[MergedModel],
        options: Options,
        place: Place,
        items: Items,
        starts: Starts,
        image_shape: tuple[int, ...],
    ) -> None:
        channels, height, width = image_shape
        self.dim = math.prod(image_shape)
        self.network_seconds = 0.0
        self.tally: dict[str, object] = {}
        self._courses = [model.legs(toward="noise") for model in models]
        # Courses that lead through a lane do so under the same expert: `can_share` sees to it.
        self._lanes = max(self._courses, key=len)
        self._options = options
        self._probes_here = options.probes.of_dim(self.dim)
        self._place = place
        self._items = items
        self._starts = starts
        self._shape = (channels, height, width)
        self._spreads: dict[int, Spread] = {}
        self._keeper = Timekeeper(place.device) if options.machine.profile_time else None

    def run(
        self,
        *,
        clusters: npt.NDArray[np.int64] | None = None,
        on_record: Callable[[int, Record], object] | None = None,
        progress: bool = False,
        wanted: Sequence[Positions] | None = None,
    ) -> list[tuple[Record, ...]]:
        """Records of each model in the order of the items; ``on_record`` gets each, and its model's number.

        ``wanted`` names the positions that each model scores (default: all).
        """
        everything = np.arange(len(self._items))
        pending = [everything] * len(self._courses) if wanted is None else list(wanted)
        with tqdm(total=sum(map(len, pending)), unit="image", disable=not progress) as bar:

            def recorder(course: int) -> Recorder:
                def pass_on(record: Record) -> None:
                    if on_record is not None:
                        on_record(course, record)
                    bar.update()

                return Recorder(
                    self._courses[course],
                    self._items,
                    self._starts,
                    dim=self.dim,
                    importance=self._options.importance,
                    is_density=self._options.is_density,
                    path=self._path_evidence(self._courses[course]),
                    clusters=clusters,
                    pass_on=pass_on,
                )

            recorders = [recorder(course) for course in range(len(self._courses))]
            fewer = self._rows()
            while True:
                with fewer.attempt() as rows:
                    self._solve_left(recorders, pending, rows)
                    break
        for each in recorders:
            each.tails.warn()
        return [tuple(each.records[position] for position in sorted(each.records)) for each in recorders]

    def asked(self) -> list[tuple[Expert, tuple[float, float]]]:
        """The experts, and all gammas that they are asked over.

        Of the lanes: a model that begins alike may have the same expert in a frame of its own.
        """
        return asked_over(
            replace(lane, start=leg.start, end=leg.end)
            for course in self._courses
            for lane, leg in zip(self._lanes, course, strict=False)
        )

    def time_profile(self, seconds: float) -> TimeProfile | None:
        """Where that many seconds went, this scoring's among them; None unless that was asked for."""
        return None if self._keeper is None else self._keeper.profile(seconds)

    def _path_evidence(self, course: Sequence[Leg]) -> PathEvidence | None:
        return self._options.path or unmeasured(self._options.solver, (leg.expert for leg in course))

    def _rows(self) -> Rows:
        """Halved while the device's memory does not suffice, unless images share their steps."""
        number, device = self._place.rows, self._place.device
        if not self._options.solver.shared:
            return Rows(number, device)
        hint = "images that share their steps cannot be cut: leave them steps of their own"
        return Rows(number, device, least=number, hint=hint)

    def _solve_left(self, recorders: list[Recorder], pending: list[Positions], rows: int) -> None:
        """Solve what has no record yet; nothing of it is held where memory runs out."""
        for recorder in recorders:
            recorder.rows = rows
            recorder.forget_unfinished()
        left = [
            np.array([p for p in positions if int(p) not in recorder.records], dtype=np.int64)
            for positions, recorder in zip(pending, recorders, strict=True)
        ]
        if not any(map(len, left)):
            return
        flows: list[ProbabilityFlow] = []
        try:
            flows += self._flows(rows)
            for keys in self._groups(left, rows):
                self._solve(flows, keys, rows, recorders)
        finally:
            self.network_seconds += sum(flow.network.seconds for flow in flows)

    def _solve(self, flows: list[ProbabilityFlow], keys: Keys, rows: int, recorders: list[Recorder]) -> None:
        left = Counter((keys % np.uint64(self._items.stride)).tolist())

        def record(outcome: _core.Outcome) -> None:
            course, problem = self._items.course(outcome.key), self._items.problem(outcome.key)
            recorders[course].add(outcome, self._uncertainty(outcome), self._misfit(outcome))
            left[problem] -= 1
            if not left[problem]:
                for spread in self._spreads.values():
                    spread.forget(problem)

        tally = solve(
            [[(leg.start, leg.end) for leg in course] for course in self._courses],
            flows,
            keys,
            self._starts.start,
            dim=self.dim,
            place=replace(self._place, rows=rows),
            solver=self._options.solver,
            finished=record,
            record_steps=self._probes_here.tell_their_error or self._probes_here.companion,
            soft=[lane for lane, leg in enumerate(self._lanes) if leg.soft],
            stride=self._items.stride,
            keeper=self._keeper,
        )
        for spread in self._spreads.values():
            spread.clear()
        self.tally = {name: _sum(self.tally.get(name), count) for name, count in tally.items()}

    def _uncertainty(self, outcome: _core.Outcome) -> Parts | None:
        """What the probes of a draw leave uncertain in its bound."""
        if outcome.status != "ok":
            return None
        if self._probes_here.kind == "exact":
            return Parts.nothing()
        spreads = self._spreads_of(outcome)
        if not self._probes_here.tell_their_error or outcome.steps is None:
            return None
        if self._probes_here.kind != "fresh":
            found = [spread.deviations(outcome.key, outcome.steps, outcome.origin) for spread in spreads]
            return Parts.of_deviations(sum(found[1:], start=found[0]))
        parts = [spread.variances(outcome.key, outcome.steps, outcome.origin) for spread in spreads]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        by_node, doubts = zip(*known, strict=True)
        each = 1 if self._probes_here.is_lattice else max(self._probes_here.n - 1, 1)
        return Parts(np.concatenate(by_node), each * sum(map(len, by_node)), sum(doubts))

    def _misfit(self, outcome: _core.Outcome) -> float | None:
        """Standard deviation, in nats, of what quadrature may miss in a draw's bound."""
        if outcome.status != "ok" or outcome.steps is None or not self._probes_here.companion:
            return None
        spreads = self._spreads_of(outcome)
        squares = [spread.misfit(outcome.key, outcome.steps, outcome.origin) for spread in spreads]
        known = [square for square in squares if square is not None]
        return math.sqrt(sum(known)) if len(known) == len(squares) else None

    def _spreads_of(self, outcome: _core.Outcome) -> list[Spread]:
        """Those of the legs that a draw went through."""
        n_legs = len(outcome.evaluations)
        return [spread for first, spread in self._spreads.items() if first < n_legs]

    def _groups(self, pending: list[Positions], rows: int) -> Iterator[Keys]:
        """The problems of one solve after another: as many as can be, or who shares a step size."""
        n_draws = self._options.n_draws
        positions = np.unique(np.concatenate(pending))
        if not self._options.solver.shared:
            images = max(1, PROBLEMS // (n_draws * len(pending)))
            for first in range(0, len(positions), images):
                chunk = positions[first : first + images]
                yield np.concatenate(
                    [
                        self._items.keys(chunk[np.isin(chunk, own)], np.arange(n_draws), course)
                        for course, own in enumerate(pending)
                    ]
                )
            return
        # Whole blocks of the selection: an out-of-memory error ends a shared solve, so none was cut.
        for first in range(0, len(positions), rows):
            for draw in range(n_draws):
                yield self._items.keys(positions[first : first + rows], np.array([draw]))

    def _flows(self, rows: int) -> list[ProbabilityFlow]:
        """One for each leg; a problem meets the same probes on all of them."""
        tell = self._probes_here.tell_their_error or self._probes_here.companion
        firsts = [lane for lane in range(len(self._lanes)) if lane == 0 or not self._lanes[lane - 1].soft]
        self._spreads = {first: self._spread(first) for first in firsts} if tell else {}
        of_lane = [self._spreads.get(max(f for f in firsts if f <= lane)) for lane in range(len(self._lanes))]
        return [
            ProbabilityFlow(
                leg.expert,
                self._shape,
                self._probes(rows),
                self._items,
                None if spread is None else spread.of_leg(leg.start),
                kept_by(self._keeper),
                self._companion(rows),
            )
            for spread, leg in zip(of_lane, self._lanes, strict=True)
        ]

    def _spread(self, lane: int) -> Spread:
        """Of the legs from a lane to the next end that is no soft joint."""
        probes = self._probes_here
        last = next(number for number in range(lane, len(self._lanes)) if not self._lanes[number].soft)
        through = [course[lane : last + 1] for course in self._courses]
        legs = [(leg[0].start, leg[-1].end) if leg else (math.inf, math.inf) for leg in through]
        return Spread(
            legs,
            self._items.stride,
            is_first=lane == 0,
            are_colours=probes.is_lattice,
            n_beside=n_beside(probes),
            tells_noise=probes.tell_their_error,
        )

    def _companion(self, rows: int) -> Companion | None:
        """What is exact or fixed along the path itself is its own."""
        if not self._probes_here.companion or self._probes_here.kind != "fresh":
            return None
        return Companion(self._probes_here, self._items, replace(self._place, rows=rows), self._shape)

    def _probes(self, rows: int) -> Directions:
        return make_directions(self._probes_here, self._items, replace(self._place, rows=rows), self._shape)


def _sum(one: Any, two: Any) -> Any:
    """Counts of two solves, by leg where they are lists."""
    if one is None:
        return two
    return [a + b for a, b in zip(one, two, strict=True)] if isinstance(two, list) else one + two
