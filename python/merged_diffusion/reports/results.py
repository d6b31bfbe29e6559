"""Kept results as rows over the threshold: a sweep has one for each eta, a run one and those of its experts.

Rows stand in the paper's order: the quality expert alone (eta = 0), ascending eta, the likelihood expert
alone (eta = 1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunCorruptError, RunError, RunMismatchError
from merged_diffusion.files.reading import read_text
from merged_diffusion.jobs.identity import Experts, Threshold, experts_from
from merged_diffusion.jobs.kept_runs import summary_of_run
from merged_diffusion.jobs.summary import Summary
from merged_diffusion.reports.sample_record import SampleRecord, sample_record
from merged_diffusion.runs import Run, open_run
from merged_diffusion.scores.means import MeansOfDensities
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.request import METRICS, Metric
from merged_diffusion.sweeps.sweep_row import Paired, SweepRow
from merged_diffusion.sweeps.table import Best, Evaluations, SweepTable
from merged_diffusion.sweeps.thresholds import GATE, reads_as_alone, row_name

ENDS: Final = {"quality": -1.0, GATE: 1.5, "likelihood": 2.0}  # before every eta, behind every eta
KINDS: Final = {"nll": "exact likelihood", "vlb": "variational bound", "sample": "samples"}


@dataclass(frozen=True)
class Result:
    """A sweep or a run; ``data`` of samples may be unknown."""

    path: Path
    metric: Metric
    data: Mapping[str, object]
    experts: Experts
    settings: Mapping[str, object]
    rows: Sequence[SweepRow]
    is_sweep: bool = False
    best: Best | None = None
    evaluations: Evaluations | None = None
    seconds: float | None = None
    rough: str | None = None
    """What a run is warned of whose trace or experts are rougher than its nodes."""

    @property
    def sampler(self) -> str | None:
        """How samples were drawn."""
        found = self.settings.get("sampler")
        return None if found is None else str(found)

    @property
    def kind(self) -> str:
        """Words for what was measured."""
        words = KINDS[self.metric]
        return words if self.sampler is None else f"{words} ({self.sampler})"

    @property
    def merged(self) -> list[SweepRow]:
        """The rows of merged models."""
        return [row for row in self.rows if row.model == "merged"]

    def folder(self, row: SweepRow) -> Path:
        """Where what a row is made of lies; samples may be one file."""
        return self.path / row.folder

    def label(self, row: SweepRow) -> str:
        """How a row is called: its threshold, or the expert that is alone."""
        if row.model == "merged":
            # At exactly 0 or 1 it is an expert alone; beside them its name says which end is meant.
            is_told_apart = row.eta is not None and row.eta not in (0, 1) and reads_as_alone(row.eta)
            return row.name if row.eta is None or is_told_apart else f"eta {row.eta:.4g}"
        if row.model == GATE:
            return GATE
        found = self.experts.get(row.model)
        return f"{row.model} expert alone" + ("" if found is None else f" ({found.name})")


def short_name(row: SweepRow) -> str:
    """How a row that is no threshold is called beside others."""
    return GATE if row.model == GATE else f"{row.model} expert"


def order(row: SweepRow) -> float:
    """Where a row stands."""
    return ENDS.get(row.model, row.eta or 0.0)


def _ordered(path: Path, rows: Sequence[SweepRow]) -> list[SweepRow]:
    """The rows in the paper's order, all of which have to lie inside ``path``."""
    for row in rows:
        if not (path / row.folder).resolve().is_relative_to(path.resolve()):
            raise RunCorruptError(
                f"{path / sweep_folder.NAME}: names the row {row.folder}, outside of {path}", file=str(path)
            )
    return sorted(rows, key=order)


def best_row(rows: Sequence[SweepRow]) -> SweepRow | None:
    """The row with the smallest value."""
    known = [(row.value[0], k) for k, row in enumerate(rows) if row.value is not None]
    return rows[min(known)[1]] if known else None


def read(path: str | Path) -> Result:
    """The result kept in a directory; of ``sample``, also in an npz or zip.

    Raises
    ------
    RunError
        It holds neither a sweep, a run of ``nll`` or ``vlb``, nor images of ``sample``.
    """
    folder = Path(path)
    table = sweep_folder.read(folder)
    if table is not None:
        return _sweep(folder, table)
    drawn = sample_record(folder) if folder.is_file() or (folder / "settings.json").is_file() else None
    return _run(open_run(folder)) if drawn is None else _samples(folder, drawn)


def read_all(paths: Sequence[str | Path]) -> tuple[list[Result], list[str]]:
    """Results that may stand in one report, and warnings of what differs between them.

    Raises
    ------
    RunMismatchError
        They are of different data.
    """
    results = [read(path) for path in paths]
    first = reference(results)
    for other in results:
        # Samples are measured against the train split, whatever else was scored on.
        for key in ("name",) if "sample" in (first.metric, other.metric) else ("name", "split", "sha256"):
            a, b = first.data.get(key), other.data.get(key)
            if a != b and None not in (a, b):
                raise RunMismatchError(
                    f"{first.path} and {other.path} are of different data: {key} {a} and {b}",
                    hint="report each data set by itself",
                    expected=a,
                    found=b,
                )
    return results, list(_warnings(results))


def reference(results: Sequence[Result]) -> Result:
    """The result whose data the others have to have: one that was scored, if there is any."""
    of_data = [result for result in results if result.data]
    return next((result for result in of_data if result.metric != "sample"), (*of_data, *results)[0])


def _warnings(results: Sequence[Result]) -> Iterator[str]:
    first = results[0]
    for other in results[1:]:
        pair = f"{first.path} and {other.path}"
        if first.settings.get("seed") != other.settings.get("seed"):
            yield (
                f"{pair} have other seeds ({first.settings.get('seed')} and {other.settings.get('seed')}):"
                " their noise is not shared"
            )
        for role in first.experts.keys() & other.experts.keys():
            a, b = first.experts[role], other.experts[role]
            if a.weights_sha256 != b.weights_sha256:
                yield f"{pair} have other {role} experts: {a.source} and {b.source}"
        if first.metric == other.metric != "sample" and first.data.get("n") != other.data.get("n"):
            yield f"{pair} scored {first.data.get('n')} and {other.data.get('n')} images"
    for result in results:
        for row in result.rows:
            if row.error is not None:
                yield f"{result.path}: {row.name} failed: {row.error.message}"
        if result.best is not None and result.best.at_edge:
            yield f"{result.path}: the best row is at the edge of the grid"
        if result.rough is not None:
            yield f"{result.path}: {result.rough}"
        if result.data.get("modified"):
            yield f"{result.path}: not the set that is published as {result.data['name']}"


def _sweep(folder: Path, table: SweepTable) -> Result:
    return Result(
        path=folder,
        metric=table.metric,
        data=table.data,
        experts=experts_from(table.experts),
        settings=table.settings,
        rows=_ordered(folder, table.rows),
        is_sweep=True,
        best=table.best,
        evaluations=table.evaluations,
        seconds=table.seconds,
        rough="; ".join(table.rough_words()) or None,
    )


def _run(run: Run) -> Result:
    metric = next((word for word in METRICS if word == str(run.settings.get("command"))), None)
    if metric is None:
        command = run.settings.get("command")
        raise RunError(f"{run.path}: a run of {command}, which has no table", hint="name a run or a sweep")
    summary = _summary(run, metric)
    identity, means = summary.identity, summary.means
    own = _own_row(identity.model, identity.threshold, summary.as_dict(), identity.settings.get("eta"))
    rows = [own]
    for part in summary.compare:
        # Of a run it is the model minus the expert.
        found = None if part.paired is None else replace(part.paired, difference=-part.paired.difference)
        paired = None if found is None else Paired.of(own.name, found)
        rows.append(SweepRow(part.name, None, part.name, part.as_dict(), paired))
    unit = "nats" if isinstance(means, MeansOfDensities) else "bits/dim"
    return Result(
        path=run.path,
        metric=metric,
        data=identity.data.counted(means.n),
        experts=identity.experts,
        settings=identity.settings,
        rows=_ordered(run.path, rows),
        seconds=summary.seconds,
        rough="; ".join(summary.rough_words(unit)) or None,
    )


def _samples(path: Path, record: SampleRecord) -> Result:
    """Images that were drawn and not judged: a row without a distance."""
    legs = record.legs
    model = "merged" if len(legs) > 1 else legs[0].role
    drawn = {**record.result, "legs": [leg.as_dict() for leg in legs]}
    return Result(
        path=path,
        metric="sample",
        data={},
        experts=record.experts,
        settings=record.settings,
        rows=[_own_row(model, record.threshold, drawn)],
    )


def _own_row(
    model: str, threshold: Threshold, summary: Mapping[str, object], word: object = None
) -> SweepRow:
    name = model
    if model == "merged" and threshold is not None and threshold["eta"] is not None:
        name = row_name(threshold["eta"], threshold["gamma"], word)
    return SweepRow(name, threshold, ".", summary)


def _summary(run: Run, metric: Metric) -> Summary:
    """The summary that was written; of an evaluation, what its records give now."""
    if metric == "nll":
        return summary_of_run(run)
    path = run.path / "summary.json"
    try:
        return Summary.from_dict(json.loads(read_text(path)))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: cannot be read ({error})", hint="finish the run: the same command goes on"
        ) from error
