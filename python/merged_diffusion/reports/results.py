"""Kept results as rows over the threshold: a sweep has one for each eta, a run one and those of its experts.

Rows stand in the paper's order: the quality expert alone (eta = 0), ascending eta, the likelihood expert
alone (eta = 1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import RunCorruptError, RunError, RunMismatchError
from merged_diffusion.files.reading import read_text
from merged_diffusion.jobs.kept_runs import summary_of_run
from merged_diffusion.reports.sample_record import sample_record
from merged_diffusion.runs import Run, open_run

METRICS: Final = ("nll", "vlb", "sample")
ENDS: Final = {"quality": -1.0, "likelihood": 2.0}  # before every eta, behind every eta
FORMAT: Final = 1


@dataclass(frozen=True)
class Row:
    """A model of a result: merged at a threshold, or one expert alone (``model`` names its role)."""

    name: str
    model: str
    threshold: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    paired: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    folder: Path | None = None

    @property
    def eta(self) -> float | None:
        """The threshold of a merged model."""
        return None if self.model != "merged" or self.threshold is None else self.threshold["eta"]

    @property
    def order(self) -> float:
        """Where the row stands."""
        return ENDS[self.model] if self.eta is None and self.model in ENDS else (self.eta or 0.0)

    def mean(self) -> tuple[float, float | None] | None:
        """Bits/dim, or the primary distance of samples, with its standard error; None where there is none."""
        if self.summary is None:
            return None
        quality = self.summary.get("quality")
        if quality is not None:
            return quality["primary"]["value"], quality["primary"].get("se")
        found = self.summary.get("bits_per_dim")
        return None if found is None or found["mean"] is None else (found["mean"], found.get("se"))


@dataclass(frozen=True)
class Result:
    """A sweep or a run: ``metric`` is ``nll``, ``vlb`` or ``sample``; ``data`` of samples may be unknown."""

    path: Path
    metric: str
    data: Mapping[str, Any]
    experts: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    is_sweep: bool = False
    best: Mapping[str, Any] | None = None
    evaluations: Mapping[str, Any] | None = None
    seconds: float | None = None
    eta_range: tuple[float, float] | None = None

    @property
    def sampler(self) -> str | None:
        """How samples were drawn."""
        return self.settings.get("sampler")

    @property
    def kind(self) -> str:
        """Words for what was measured."""
        words = {"nll": "exact likelihood", "vlb": "variational bound", "sample": "samples"}[self.metric]
        return words if self.sampler is None else f"{words} ({self.sampler})"


def read(path: str | Path) -> Result:
    """The result kept in a directory; of ``sample``, also in an npz or zip.

    Raises
    ------
    RunError
        It holds neither a sweep, a run of ``nll`` or ``vlb``, nor images of ``sample``.
    """
    folder = Path(path)
    table = folder / "sweep.json"
    if table.is_file():
        return _sweep(folder, _loaded(table))
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
            if a.get("weights_sha256") != b.get("weights_sha256"):
                yield f"{pair} have other {role} experts: {a['source']} and {b['source']}"
        if first.metric == other.metric != "sample" and first.data.get("n") != other.data.get("n"):
            yield f"{pair} scored {first.data.get('n')} and {other.data.get('n')} images"
    for result in results:
        for row in result.rows:
            if row.error is not None:
                yield f"{result.path}: {row.name} failed: {row.error.get('message', 'no reason kept')}"
        if result.best is not None and result.best.get("at_edge"):
            yield f"{result.path}: the best row is at the edge of the grid"
        if result.data.get("modified"):
            yield f"{result.path}: not the set that is published as {result.data['name']}"


def _loaded(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(read_text(path))
        version = found["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunCorruptError(f"{path}: cannot be read as a sweep ({error})", file=str(path)) from error
    if not isinstance(version, int) or version > FORMAT or found.get("metric") not in METRICS:
        raise RunError(
            f"{path}: format {version}, metric {found.get('metric')}; this version reads format {FORMAT}"
            f" with {', '.join(METRICS)}",
            hint="use the version that wrote it, or a newer one",
        )
    return found


def _sweep(folder: Path, table: Mapping[str, Any]) -> Result:
    rows = [
        Row(
            name=row["name"],
            model=row["name"] if row["name"] in ENDS else "merged",
            threshold=row["threshold"],
            summary=row["summary"],
            paired=row.get("paired"),
            error=row.get("error"),
            folder=_within(folder, row["folder"]) if row.get("folder") else None,
        )
        for row in table["rows"]
    ]
    pair = table.get("pair") or {}
    ends = pair.get("eta_range")
    return Result(
        path=folder,
        metric=table["metric"],
        data=table["data"],
        experts=pair.get("experts", {}),
        settings=table["settings"],
        rows=sorted(rows, key=lambda row: row.order),
        is_sweep=True,
        best=table.get("best"),
        evaluations=table.get("evaluations"),
        seconds=table.get("seconds"),
        eta_range=None if ends is None else (ends[0], ends[1]),
    )


def _within(folder: Path, name: str) -> Path:
    """The folder of a row, which lies inside the sweep's."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunCorruptError(
            f"{folder / 'sweep.json'}: names the row {name}, outside of {folder}", file=str(folder)
        )
    return path


def _run(run: Run) -> Result:
    command = str(run.settings.get("command"))
    if command not in METRICS:
        raise RunError(f"{run.path}: a run of {command}, which has no table", hint="name a run or a sweep")
    summary = _summary(run, command)
    model = run.settings.get("model", "merged")
    rows = [
        Row(
            _name(model, summary.get("threshold")),
            model,
            summary.get("threshold"),
            summary,
            None,
            None,
            run.path,
        )
    ]
    for part in summary.get("compare") or ():
        paired = part["paired"]
        if paired is not None:
            paired = {"to": rows[0].name, **paired, "difference": -paired["difference"]}
        folder = _within(run.path, part["name"])
        rows.append(Row(part["name"], part["name"], None, part, paired, folder=folder))
    return Result(
        path=run.path,
        metric=command,
        data=summary["data"],
        experts=run.settings.get("experts", {}),
        settings=run.settings["settings"],
        rows=sorted(rows, key=lambda row: row.order),
        seconds=summary.get("seconds"),
    )


def _samples(path: Path, record: Mapping[str, Any]) -> Result:
    """Images that were drawn and not judged: a row without a distance."""
    legs = record["legs"]
    model = "merged" if len(legs) > 1 else legs[0]["role"]
    threshold = record.get("threshold")
    summary = record["result"] | {"legs": legs}
    return Result(
        path=path,
        metric="sample",
        data={},
        experts=record["experts"],
        settings=record["settings"],
        rows=[Row(_name(model, threshold), model, threshold, summary, folder=path)],
    )


def _summary(run: Run, command: str) -> Mapping[str, Any]:
    """The summary that was written; of an evaluation, what its records give now."""
    if command == "nll":
        return summary_of_run(run).as_dict()
    path = run.path / "summary.json"
    try:
        found: dict[str, Any] = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: cannot be read ({error})", hint="finish the run: the same command goes on"
        ) from error
    return found


def _name(model: str, threshold: Mapping[str, Any] | None) -> str:
    return model if model != "merged" or threshold is None else f"eta {threshold['eta']:.4f}"
