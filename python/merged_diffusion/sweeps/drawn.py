"""Rows that are samples: as many images of every model from the same noise, measured against the data.

A row keeps what ``sample --out ROW/samples.npz`` writes, and in ``ROW/summary.json`` how far it is from the
data by the set's primary metric; a row that is there is neither drawn nor measured again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final, cast

import numpy as np

from merged_diffusion.data.images import make_data
from merged_diffusion.files.reading import read_bytes
from merged_diffusion.jobs.blocks import ALONE, Blocks, Mask, Work
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.identity import experts_as_dict
from merged_diffusion.jobs.sample_run import SamplePlan, SampleRun
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.quality.frechet import difference
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import SENSELESS
from merged_diffusion.runs.lock import LOOK_SECONDS, Lock
from merged_diffusion.runs.places import make, storing, unmake
from merged_diffusion.runs.settings_file import meaning_digest, write_json
from merged_diffusion.sampling import Samples
from merged_diffusion.sampling.parts import is_taken, recorded_machine
from merged_diffusion.scores.differences import Difference
from merged_diffusion.sweeps.reference import Reference, find_reference, known_set, own_set
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_folder import MEASURE, SAMPLES
from merged_diffusion.sweeps.sweep_plan import (
    Cost,
    Failed,
    PlannedRow,
    SweepPlan,
    empty_table,
    existing,
    make_rows,
    spoiling_one_row,
)
from merged_diffusion.sweeps.sweep_row import RowError, RowValues, SweepRow
from merged_diffusion.sweeps.thresholds import Eta

SUMMARY: Final = "summary.json"
MEASURE_SECONDS: Final = 600.0  # that another worker may take to measure a row
# What samples depend on beside how they are drawn.
OF_MODELS: Final = (
    *("data", "variant", "pair", "likelihood_expert", "quality_expert", "convention", "extrapolate"),
    *("labels", "batch_coupled", "deterministic", "batch_size", "threads", "device", "dtype", "compile"),
    "precision",
)
LEFT_OUT: Final = ("out", "n_drawn", "n_missing")  # of one command, or of its place


@dataclass(frozen=True)
class DrawPlan(SweepPlan[SamplePlan]):
    """Of images that are drawn, and what they are measured against; ``n_done`` rows are complete."""

    reference: Reference
    data_name: str
    """The known set that may imply the pair; empty of own data."""
    n_done: int

    def check_experts(self) -> None:
        """Nothing: each row checks the experts that it is drawn from."""

    def estimate(self) -> Estimate:
        """The cost of the rows that are not complete, from one timed call of the slowest expert."""
        return self.base.estimate(len(self.base.ids) * (len(self.rows) - self.n_done))


def plan_drawn(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[DrawPlan, Path | None]:
    """The plan on the machine that an existing sweep recorded, and where that is."""
    own = own_set(settings)
    data_name = known_set(settings, own)
    base = SamplePlan.make(settings, request.how, (0, request.num), request.image_shape, data_name)
    asked = {name: value for name, value in (("ref", request.ref), ("features", request.features)) if value}
    identity = {"settings": {**_described(base), **asked}, "experts": experts_as_dict(base.models.identity)}
    called = data_name if own is None else Path(own.name).stem
    default_out = Path("runs") / f"sweep-sample-{called}-{meaning_digest(identity)}"
    out = existing(out, default_out)
    found = (
        None if out is None else recorded_machine(out / row.folder / SAMPLES)
        for row in make_rows(base, etas, request.gate)
    )
    base = base.on(next((machine for machine in found if machine is not None), None))
    rows = make_rows(base, etas, request.gate)
    for row in rows:
        row.plan.labels(row.plan.ids)
    reference = find_reference(base, data_name, own, request)
    data = {**reference.data, "n": len(base.ids)}
    table = empty_table(request, data, base.models, {**_described(base), **asked})
    base = replace(base, notes=(*base.notes, *reference.notes))
    n_done = 0 if out is None else sum(is_taken(out / row.folder / SAMPLES) for row in rows)
    return DrawPlan(base, rows, table, default_out, reference, data_name, n_done), out


def _described(base: SamplePlan) -> Mapping[str, object]:
    """Models, sampler and machine."""
    words = base.settings.as_dict()
    named = {name: words[name] for name in OF_MODELS if name in words}
    return named | base.how.as_dict() | {"num": len(base.ids), "image_shape": list(base.image_shape)}


class DrawnRows:
    """The samples of a sweep; without ``out`` they last as long as this object."""

    def __init__(self, plan: DrawPlan, out: Path | None, blocks: Blocks = ALONE) -> None:
        self.notes: list[str] = []
        self._blocks = blocks
        self._rows = plan.rows
        self._reference = plan.reference
        self._spent = dict.fromkeys((row.name for row in plan.rows), 0.0)  # evaluations
        self._counted = dict(self._spent)  # in the cost of the sweep
        self._made: list[Path] = []
        self._open = ExitStack()
        try:
            self._folder = out or self._temporary()
            for row in self._rows:
                self._made += make(self._folder / row.folder)  # which may be no link out of the sweep
            places = [(row, self._folder / row.folder / SAMPLES) for row in self._rows]
            self._runs = [
                self._open.enter_context(SampleRun(row.plan, place, blocks, row.name))
                for row, place in places
            ]
        except BaseException:
            self.close()
            raise

    def _temporary(self) -> Path:
        with storing(Path(gettempdir())):
            return Path(self._open.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))

    def left(self) -> dict[str, int]:
        """Images to draw, by row."""
        return {row.name: len(run.todo) for row, run in zip(self._rows, self._runs, strict=True)}

    def run(self, observe: Callable[[str, Samples], None] | None, cost: Cost, failed: Failed) -> None:
        """Draw and measure what is not there yet; a row whose expert fails is told, and stops no other.

        Where workers share blocks, all rows are drawn before the first is measured.
        """
        spoilt: set[str] = set()

        def told(name: str, error: Exception) -> None:
            spoilt.add(name)
            failed(name, error)

        *_, last = passes = self._blocks.passes
        pairs = list(zip(self._rows, self._runs, strict=True))
        for taken in passes:
            for row, run in pairs:
                if row.name not in spoilt:
                    self._draw(row, run, taken, observe, cost, told)
                if row.name not in spoilt and taken == last:
                    with spoiling_one_row(row.name, told):
                        self._conclude(row, run)

    def _draw(
        self,
        row: PlannedRow[SamplePlan],
        run: SampleRun,
        taken: Callable[[Work], Iterable[Mask]],
        observe: Callable[[str, Samples], None] | None,
        cost: Cost,
        failed: Failed,
    ) -> None:
        """The images of a row that one pass of `Blocks` gives to this worker."""

        def count(samples: Samples) -> None:
            # Of a crew, also while another row is gone through.
            self._spent[row.name] += sum(float(counts.sum()) for counts in samples.evaluations.values())
            if observe is not None:
                observe(row.name, samples)

        try:
            with spoiling_one_row(row.name, failed):
                run.go_through(taken, count)
        finally:
            spent = round(self._spent[row.name]) - round(self._counted[row.name])
            self._counted[row.name] = self._spent[row.name]
            cost.add(spent, spent)

    def _conclude(self, row: PlannedRow[SamplePlan], run: SampleRun, seconds: float = 0.0) -> None:
        """Measure a row of which all is drawn; of several workers one does, and the others go on."""
        drawn = run.conclude()
        if drawn["sha256"] is None:
            return
        if self._blocks.shard[1] == 1:
            seconds = MEASURE_SECONDS
        with Directory(self._folder / row.folder) as place:
            lock = Lock(place, MEASURE)
            try:
                if lock.acquire(max(seconds, LOOK_SECONDS)) or seconds:
                    self._measure(row, drawn)  # which one that hangs may do, too
            finally:
                if lock.is_held:
                    place.remove([MEASURE])
                lock.release()

    def measure_rest(self, failed: Failed, errors: Mapping[str, RowError]) -> None:
        """Measure what is drawn and not measured, when others have ended; rows with ``errors`` are left out.

        Who measures a row now is waited for.
        """
        for row, run in zip(self._rows, self._runs, strict=True):
            if row.name not in errors and len(run.store.held()) == len(run.plan.ids):
                with spoiling_one_row(row.name, failed):
                    self._conclude(row, run, MEASURE_SECONDS)

    def others_at_work(self) -> bool:
        """Whether another worker is drawing."""
        index, count = self._blocks.shard
        others = [rank for rank in range(count) if rank != index]
        return any(run.store.is_at_work((rank, count)) for run in self._runs for rank in others)

    def n_missing(self) -> int:
        """How many images are not drawn."""
        return sum(len(run.plan.ids) - len(run.store.held()) for run in self._runs)

    def table_rows(
        self, errors: Mapping[str, RowError]
    ) -> tuple[list[SweepRow], Callable[[int, int], Difference | None]]:
        """The rows that were measured, and the difference of two of them from the same ids and noise."""
        rows = [row.told(self._summary(row), errors.get(row.name)) for row in self._rows]

        def minus(one: int, two: int) -> Difference | None:
            a, b = rows[one].figure, rows[two].figure
            if a is None or b is None:
                return None
            value, se = difference(a, b)
            return Difference(value, se, None, a.n)

        return rows, minus

    def close(self) -> None:
        """Leave the samples to others; directories in which nothing was drawn go."""
        try:
            self._open.close()
        finally:
            for place in self._made:
                unmake([place])

    def _summary(self, row: PlannedRow[SamplePlan]) -> Mapping[str, object] | None:
        """What was kept of a row; one that is damaged is measured again."""
        place = self._folder / row.folder / SUMMARY
        with storing(place, "read"):
            try:
                content = read_bytes(place)
            except FileNotFoundError:
                return None
        try:
            found: Mapping[str, object] = json.loads(content)
            values = RowValues.from_dict(found)
            return found if values.sha256 and values.quality is not None else None
        except SENSELESS:
            return None

    def _measure(self, row: PlannedRow[SamplePlan], drawn: Mapping[str, object]) -> None:
        """Keep the summary of samples that are complete."""
        held = row.told(self._summary(row), None).values
        is_same = held.sha256 is not None and held.sha256 == drawn["sha256"]
        if is_same and held.quality is not None and self._reference.is_of(held.quality):
            return
        samples = self._folder / row.folder / SAMPLES
        with storing(samples, "read"):
            content = read_bytes(samples)
        with np.load(io.BytesIO(content), allow_pickle=False) as columns:
            images, ids, levels = columns["images"], columns["ids"], int(columns["levels"])
        settings = row.plan.settings
        quality = self._reference.assess(make_data("samples", "test", images, levels, ids=ids), settings)
        summary = {key: item for key, item in drawn.items() if key not in LEFT_OUT}
        asked = {"settings": {**cast("Mapping[str, object]", summary["settings"]), "eta": settings.eta}}
        write_json(self._folder / row.folder / SUMMARY, summary | asked | {"quality": quality})
