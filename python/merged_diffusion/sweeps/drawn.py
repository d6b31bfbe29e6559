"""Rows that are samples: as many images of every model from the same noise, measured against the data.

A row keeps what ``sample --out ROW/samples.npz`` writes, and in ``ROW/summary.json`` how far it is from the
data by the set's primary metric; a row that is there is neither drawn nor measured again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Final

import numpy as np

from merged_diffusion.data.images import make_data
from merged_diffusion.files.reading import read_bytes
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.plan import meaning_digest
from merged_diffusion.jobs.sample_run import SamplePlan, SampleRun
from merged_diffusion.ode.machine import DEVICE
from merged_diffusion.quality.assess import Figure, assess
from merged_diffusion.quality.frechet import difference
from merged_diffusion.runs.kept import SENSELESS
from merged_diffusion.runs.places import make, storing, unmake
from merged_diffusion.runs.settings_file import write_json
from merged_diffusion.sampling import Samples
from merged_diffusion.sampling.parts import is_taken
from merged_diffusion.sweeps import table
from merged_diffusion.sweeps.reference import Reference
from merged_diffusion.sweeps.rows import Row
from merged_diffusion.sweeps.spent import Cost
from merged_diffusion.sweeps.sweep_plan import Failed, SweepPlan, spoiling_one_row

SAMPLES: Final = "samples.npz"
SUMMARY: Final = "summary.json"
# What samples depend on beside how they are drawn.
OF_MODELS: Final = (
    *("data", "variant", "pair", "likelihood_expert", "quality_expert", "convention", "extrapolate"),
    *("labels", "batch_coupled", "deterministic", "batch_size", "threads", "device", "dtype", "compile"),
)
LEFT_OUT: Final = ("out", "n_drawn", "n_missing")  # of one command, or of its place


@dataclass(frozen=True)
class DrawPlan(SweepPlan[SamplePlan]):
    """Of images that are drawn, and what they are measured against."""

    reference: Reference

    @property
    def metric(self) -> str:
        """The command of each row."""
        return "sample"

    @property
    def n_images(self) -> int:
        """Those that are drawn."""
        return len(self.base.ids)

    def data(self) -> dict[str, Any]:
        """The set that they are measured against."""
        return self.reference.data

    def described(self) -> dict[str, Any]:
        """Models, sampler and machine."""
        words = self.settings.as_dict()
        named = {name: words[name] for name in OF_MODELS}
        count = {"num": self.n_images, "image_shape": list(self.base.image_shape)}
        return named | self.base.how.as_dict() | count

    def default_out(self) -> Path:
        """Named after the set."""
        identity = {"settings": self.described(), "experts": self.base.models.identity}
        return Path("runs") / f"sweep-sample-{self.reference.data_name}-{meaning_digest(identity)}"

    def check_experts(self) -> None:
        """Nothing: each row checks the experts that it is drawn from."""

    def estimate(self, out: Path | None) -> Estimate:
        """Of the rows that are not complete."""
        done = [out is not None and is_taken(out / row.folder / SAMPLES) for row in self.rows]
        return self.base.estimate(self.n_images * done.count(False))

    def opened(
        self,
        out: Path | None,
        *,
        allow_rebatch: bool,  # noqa: ARG002  samples are of one machine
        strict_env: bool,  # noqa: ARG002
    ) -> DrawnRows:
        """The samples, about to be drawn."""
        return DrawnRows(self.rows, out, self.reference)


class DrawnRows:
    """The samples of a sweep; without ``out`` they last as long as this object."""

    def __init__(self, rows: Sequence[Row[SamplePlan]], out: Path | None, reference: Reference) -> None:
        self.notes: list[str] = []
        self.rows = rows
        self._made: list[Path] = []
        self._reference = reference
        self._open = ExitStack()
        try:
            self._folder = out or self._temporary()
            for row in rows:
                self._made += make(self._folder / row.folder)  # which may be no link out of the sweep
            self._runs = [
                self._open.enter_context(SampleRun(row.plan, self._folder / row.folder / SAMPLES))
                for row in rows
            ]
        except BaseException:
            self.close()
            raise

    def _temporary(self) -> Path:
        with storing(Path(gettempdir())):
            return Path(self._open.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))

    def left(self) -> dict[str, int]:
        """Images to draw, by row."""
        return {row.name: len(run.todo) for row, run in zip(self.rows, self._runs, strict=True)}

    def run(self, observe: Callable[[str, Samples], None] | None, cost: Cost, failed: Failed) -> None:
        """Draw and measure what is not there yet."""
        for row, run in zip(self.rows, self._runs, strict=True):
            spent = 0.0

            def count(samples: Samples, name: str = row.name) -> None:
                nonlocal spent
                spent += sum(float(counts.sum()) for counts in samples.evaluations.values())
                if observe is not None:
                    observe(name, samples)

            try:
                with spoiling_one_row(row.name, failed):
                    self._measure(row, run.run(count))
            finally:
                cost.add(round(spent), round(spent))

    def lines(self, errors: Mapping[str, Mapping[str, Any]]) -> tuple[list[table.Line], table.Paired]:
        """The rows that were measured, and the difference of two of them from the same ids and noise."""
        lines = [
            table.line(row, row.model.threshold, self._summary(row), errors.get(row.name))
            for row in self.rows
        ]

        def paired(one: int, two: int) -> dict[str, Any]:
            a, b = (Figure(**lines[k]["summary"]["quality"]["primary"]) for k in (one, two))
            value, se = difference(a, b)
            return {"difference": value, "se": se, "n": a.n}

        return lines, paired

    def close(self) -> None:
        """Leave the samples to others; directories in which nothing was drawn go."""
        try:
            self._open.close()
        finally:
            for place in self._made:
                unmake([place])

    def _summary(self, row: Row[SamplePlan]) -> dict[str, Any] | None:
        """What was kept of a row; one that is damaged is measured again."""
        place = self._folder / row.folder / SUMMARY
        with storing(place, "read"):
            try:
                content = read_bytes(place)
            except FileNotFoundError:
                return None
        try:
            found = json.loads(content)
            return found if found["sha256"] and found["quality"]["primary"] else None
        except SENSELESS:
            return None

    def _measure(self, row: Row[SamplePlan], drawn: Mapping[str, Any]) -> None:
        """Keep the summary of samples that are complete."""
        held = self._summary(row)
        if held is not None and held["sha256"] == drawn["sha256"] and self._reference.is_of(held["quality"]):
            return
        samples = self._folder / row.folder / SAMPLES
        with storing(samples, "read"):
            content = read_bytes(samples)
        with np.load(io.BytesIO(content), allow_pickle=False) as columns:
            images, ids, levels = columns["images"], columns["ids"], int(columns["levels"])
        settings = row.plan.settings
        quality = assess(
            make_data("samples", "test", images, levels, ids=ids),
            self._reference.data_name,
            device=settings.machine.device or DEVICE,
            cache=settings.cache,
        )
        summary = {key: item for key, item in drawn.items() if key not in LEFT_OUT}
        asked = {"settings": summary["settings"] | {"eta": settings.eta}}
        write_json(self._folder / row.folder / SUMMARY, summary | asked | {"quality": quality})
