"""Runs that are read back: the summary of one over all its records, and two paired by id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from merged_diffusion.data.images import chosen_positions
from merged_diffusion.errors import RunError, RunMismatchError
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.typed_values import INLINE, TypedValues
from merged_diffusion.jobs.identity import Identity, Threshold
from merged_diffusion.jobs.summary import Summary, means, summarise
from merged_diffusion.runs import PARTS, SUMMARY, Run
from merged_diffusion.runs.settings_file import SHARED
from merged_diffusion.scores.differences import Difference, paired
from merged_diffusion.scores.means import Means
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.set_mean import MeanOverSet


def check_scored(run: Run) -> None:
    """`RunError` where a directory was kept by a command that scores no images."""
    command = run.settings.get("command")
    if command == "sample":
        raise RunError(
            f"{run.path}: holds samples, which have no scores",
            hint=f"fid {run.path} --ref SET measures them, and runs report {run.path} shows them",
        )
    if command in SHARED:
        raise RunError(
            f"{run.path}: holds what {command} --work measured, and no scores of images",
            hint=f"runs show {run.path} tells how far it is",
        )


def summary_of_run(run: Run) -> Summary:
    """The summary over all records of a run, with the first missing ids.

    Raises
    ------
    RunError
        It holds samples, say, and no scores.
    """
    check_scored(run)
    identity, parts = Identity.from_dict(run.settings), run.parts()
    runs = {identity.model: run} | (parts if len(parts) == len(PARTS) else {})
    records = {name: each.records() for name, each in runs.items()}
    missing = missing_ids(runs, records)
    return summarise(
        identity,
        records,
        checks={name: each.settings.get("settings", {}) for name, each in runs.items()},
        versions=run.settings["versions"],
        missing=missing,
        lists_missing=True,
        mean_of=mean_kept(run, len(records[identity.model])),
    )


def mean_kept(run: Run, n: int) -> MeanOverSet | None:
    """The mean over a set as it was kept: it is of images, too, which are not read here.

    None where records were added since.
    """
    try:
        kept = json.loads(read_text(run.path / SUMMARY))
        found = kept.get("mean_of") if isinstance(kept, dict) and kept.get("n") == n else None
        return None if found is None else MeanOverSet.from_dict(found)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None  # all else is made of the records, whatever became of the summary


def missing_ids(runs: Mapping[str, Run], records: Mapping[str, Sequence[Record]]) -> set[int]:
    """The ids that a command asked for and that have no record under one of the models."""
    return {
        image
        for name, run in runs.items()
        for image in set(wanted_ids(run)) - {record.id for record in records[name]}
    }


def wanted_ids(run: Run) -> list[int]:
    """The ids that any command of the run asked for."""
    data = run.settings["data"]
    n, ids = data["n_set"], data.get("ids")
    positions: set[int] = set()
    for selection in run.settings["selections"]:
        if selection["limit"] is not None:
            positions.update(chosen_positions(n, selection["limit"]).tolist())
        else:
            positions.update(range(*(selection["ids"] or (0, n))))
    return sorted(positions if ids is None else (ids[p] for p in positions))


@dataclass(frozen=True)
class Compared(TypedValues):
    """One of two runs: its means over the images that both scored."""

    path: str
    model: str
    threshold: Threshold
    means: Means = field(metadata=INLINE)

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {"path": self.path, "model": self.model, "threshold": self.threshold} | self.means.kept()


@dataclass(frozen=True)
class Comparison(TypedValues):
    """Two runs over the ``n`` images that both scored, and the first minus the second."""

    command: str
    runs: tuple[Compared, ...]
    n: int
    paired: Difference | None


def compare_runs(one: Run, two: Run) -> Comparison:
    """Two runs paired by id.

    Raises
    ------
    RunMismatchError
        They scored different data, or one holds bounds and the other likelihoods.
    RunError
        They have no image in common, or one holds no scores.
    """
    for run in (one, two):
        check_scored(run)
    first, second = (Identity.from_dict(run.settings) for run in (one, two))
    if first.command != second.command:
        raise RunMismatchError(
            f"{one.path} is of {first.command} and {two.path} of {second.command}: a bound is no likelihood",
            hint="compare two runs of one command",
            expected=first.command,
            found=second.command,
        )
    hashes = first.data.sha256, second.data.sha256
    if hashes[0] != hashes[1]:
        raise RunMismatchError(
            f"{one.path} and {two.path} scored different images"
            f" (sha256 {hashes[0][:12]} and {hashes[1][:12]})",
            hint="ids name the same images only within one data set",
            expected=hashes[0],
            found=hashes[1],
        )
    held = {run.path: {record.id: record for record in run.records()} for run in (one, two)}
    common = sorted(held[one.path].keys() & held[two.path].keys())
    if not common:
        raise RunError(
            f"{one.path} and {two.path} have no image in common", hint="score the same --limit or --ids"
        )

    def over_common(run: Run, identity: Identity) -> tuple[list[Record], Compared]:
        shared = [held[run.path][image] for image in common]
        return shared, Compared(str(run.path), identity.model, identity.threshold, means(identity, shared))

    (a, of_one), (b, of_two) = over_common(one, first), over_common(two, second)
    return Comparison("runs compare", (of_one, of_two), len(common), paired(a, b))
