"""The summary of an evaluation, from settings and records alone: any process can make it, at any time.

Means and standard errors come from `Likelihood` and the core; here they are put beside what identifies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any, Final

import numpy as np

from merged_diffusion.bound import Bound
from merged_diffusion.data.images import chosen_positions
from merged_diffusion.errors import RunError, RunMismatchError
from merged_diffusion.jobs import paper
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.runs import Run
from merged_diffusion.scores.differences import paired
from merged_diffusion.scores.record import Record

NAMES: Final = ("likelihood", "quality")
KEPT: Final = ("n", "n_failed", "bits_per_dim", "log_density_nats", "evaluations")
LISTED: Final = 20  # failures and missing ids that are named; all are counted


def summarise(
    identity: Mapping[str, Any],
    records: Mapping[str, Sequence[Record]],
    *,
    versions: Mapping[str, Any],
    seconds: float | None = None,
    seconds_outside_network: float | None = None,
) -> dict[str, Any]:
    """The summary over the records of each model; ``identity`` is the content of ``settings.json``.

    The first key of ``records`` is the model itself, the others the experts that were scored alone beside it.
    """
    main, *others = records
    own = _result(identity, records[main])
    compare = [_beside(identity, name, records[main], records[name]) for name in others]
    if identity["command"] == "vlb":
        own |= {"profile": _profile(records[main])}
    return {
        "command": identity["command"],
        "model": main,
        "data": {"modified": False}
        | {k: v for k, v in identity["data"].items() if k != "ids"}
        | {"n": len(records[main])},
        "threshold": identity["threshold"],
        "legs": identity["legs"],
        **own,
        "compare": compare,
        "paper": paper.beside(identity, len(records[main])) if identity["command"] == "nll" else None,
        "failures": [
            {"model": name} | _failure(record)
            for name, series in records.items()
            for record in series
            if not record.is_ok
        ][:LISTED],
        "extrapolated": identity["extrapolated"],
        "above_uniform": any(_above_uniform(one, identity["data"]["levels"]) for one in (own, *compare)),
        "rebatched": any(record.rebatched for series in records.values() for record in series),
        "settings": identity["settings"],
        "experts": identity["experts"],
        "versions": versions,
        "seconds": seconds,
        "seconds_outside_network": seconds_outside_network,
    }


def _result(identity: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    is_bound = identity["command"] == "vlb"
    if not records:
        unknown = ("bits_per_dim", "terms_nats", "evaluations", "repeats" if is_bound else "steps")
        return {"n": 0, "n_failed": 0} | dict.fromkeys(unknown)
    settings, dim = identity["settings"], int(np.prod(identity["data"]["image_shape"]))
    if is_bound:
        return Bound(tuple(records), dim, allow_failed=settings["allow_failed"]).summary()
    likelihood = Likelihood(
        tuple(records),
        dim,
        importance=settings["importance"],
        dequantise=settings["dequantise"],
        allow_failed=settings["allow_failed"],
    )
    return dict(likelihood.summary())


def _above_uniform(result: Mapping[str, Any], levels: int) -> bool:
    """Whether a mean is above the log2(levels) bits/dim of guessing every grey level alike."""
    found = result["bits_per_dim"]
    return found is not None and found["mean"] is not None and bool(found["mean"] > log2(levels))


def _beside(
    identity: Mapping[str, Any], name: str, merged: Sequence[Record], alone: Sequence[Record]
) -> dict[str, Any]:
    own = _result(identity, alone)
    is_bound = identity["command"] == "vlb"
    kept = {key: own[key] for key in (*KEPT, *(["terms_nats"] if is_bound else [])) if key in own}
    is_whole = identity["settings"]["allow_failed"] or all(record.is_ok for record in (*merged, *alone))
    difference = paired(merged, alone) if is_whole else None
    result = {"name": name} | kept | {"paired": None if difference is None else difference.as_dict()}
    return result | {"paper": None if is_bound else paper.of_expert(identity, name)}


def _profile(records: Sequence[Record]) -> dict[str, list[float]] | None:
    """Mean loss in nats by gamma, one entry for each of the times; None where none were kept."""
    kept = [record.profile for record in records if record.is_ok and record.profile is not None]
    if not kept:
        return None
    columns = {name: np.array([one[name] for one in kept], dtype=np.float64) for name in ("gamma", "loss")}
    return {name: values.mean(axis=(0, 1)).tolist() for name, values in columns.items()}


def _failure(record: Record) -> dict[str, Any]:
    return {key: getattr(record, key) for key in ("id", "status", "gamma", "leg", "expert", "hint")}


def summary_of_run(run: Run) -> dict[str, Any]:
    """The summary over all records of a run, with ``n_missing`` and the first missing ids."""
    parts = run.parts()
    if len(parts) < len(NAMES):
        parts = {}
    own = run.settings.get("model", "merged")
    records = {own: run.records()} | {name: part.records() for name, part in parts.items()}
    missing = sorted(missing_ids({own: run} | parts, records))
    result = summarise(run.settings, records, versions=run.settings["versions"])
    return result | {"n_missing": len(missing), "missing": missing[:LISTED]}


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


def compare_runs(one: Run, two: Run) -> dict[str, Any]:
    """Two runs paired by id: means of each over the common images, and their difference, one minus two.

    Raises
    ------
    RunMismatchError
        They scored different data.
    RunError
        They have no image in common.
    """
    hashes = [run.settings["data"]["sha256"] for run in (one, two)]
    commands = [run.settings["command"] for run in (one, two)]
    if commands[0] != commands[1]:
        raise RunMismatchError(
            f"{one.path} is of {commands[0]} and {two.path} of {commands[1]}: a bound is no likelihood",
            hint="compare two runs of one command",
            expected=commands[0],
            found=commands[1],
        )
    if hashes[0] != hashes[1]:
        raise RunMismatchError(
            f"{one.path} and {two.path} scored different images"
            f" (sha256 {hashes[0][:12]} and {hashes[1][:12]})",
            hint="ids name the same images only within one data set",
            expected=hashes[0],
            found=hashes[1],
        )
    first, second = one.records(), two.records()
    common = {record.id for record in first} & {record.id for record in second}
    if not common:
        raise RunError(
            f"{one.path} and {two.path} have no image in common", hint="score the same --limit or --ids"
        )
    rows = []
    for run, records in ((one, first), (two, second)):
        shared = [record for record in records if record.id in common]
        rows.append(
            {
                "path": str(run.path),
                "model": run.settings.get("model"),
                "threshold": run.settings["threshold"],
            }
            | {k: v for k, v in _result(run.settings, shared).items() if k in KEPT}
        )
    found = paired(first, second)
    return {
        "command": "runs compare",
        "runs": rows,
        "n": len(common),
        "paired": None if found is None else found.as_dict(),
    }
