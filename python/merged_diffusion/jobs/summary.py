"""The summary of an evaluation, from settings and records alone: any process can make it, at any time.

Means and standard errors come from `Likelihood`, `Bound` and the core; here they are put beside what
identifies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2, prod
from typing import ClassVar, Final

import numpy as np

from merged_diffusion.bound import Bound
from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.experts.spikes import GammaScan
from merged_diffusion.files.typed_values import INLINE, TypedValues
from merged_diffusion.frames import Column, Tabular, text_of_error
from merged_diffusion.jobs import published_table as paper
from merged_diffusion.jobs.asked import Asked
from merged_diffusion.jobs.expert_alone import Alone
from merged_diffusion.jobs.identity import Identity
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.path_evidence import PathEvidence
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck, quadrature_check
from merged_diffusion.runs.settings_file import QUADRATURE
from merged_diffusion.scores.differences import Difference, paired
from merged_diffusion.scores.means import (
    MeanAndErrors,
    Means,
    MeansOfDensities,
    floats,
)
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.set_mean import MeanOverSet

LISTED: Final = 20  # failures and missing ids that are named; all are counted
# The keys of ``summary.json``: in the midst of means and marks, what identifies them.
ORDER: Final = (
    *("command", "model", "data", "threshold", "legs", "n", "n_failed", "bits_per_dim", "mean_of"),
    *("terms_nats", "evaluations", "steps", "path_error", "quadrature", "gamma_scan", "log_density_nats"),
    *("repeats", "profile", "compare", "paper", "failures", "extrapolated", "above_uniform", "rough_trace"),
    *("spikes", "rebatched", "settings", "experts", "versions", "seconds", "seconds_outside_network"),
    *("n_missing", "missing", "time_profile"),
)


@dataclass(frozen=True)
class Failure(TypedValues):
    """An image that failed under ``model``: at which gamma, and under which expert."""

    model: str
    id: int
    status: str
    gamma: float | None
    leg: str | None
    expert: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Summary(Tabular, TypedValues):
    """What ``nll`` and ``vlb`` tell of the records of a model.

    As a table it has a row for the model and for each expert that was scored alone beside it: ``name``,
    ``bits_per_dim`` (or ``log_density_nats``) with ``se``, ``difference`` (the model minus it, paired) with
    ``difference_se``, ``n`` and ``evaluations``.
    """

    ERRORS: ClassVar = {"bits_per_dim": "se", "log_density_nats": "se", "difference": "difference_se"}

    identity: Identity = field(metadata=INLINE)
    means: Means = field(metadata=INLINE)
    profile: Mapping[str, list[float]] | None = None
    """Of a bound: mean loss in nats by gamma, one entry for each of the times; None where none were kept."""
    compare: tuple[Alone, ...]
    paper: paper.Published | None
    failures: tuple[Failure, ...]
    """The first ones under any model of the run."""
    above_uniform: bool
    """Whether a mean lies above the log2(levels) bits/dim of guessing every grey level alike."""
    rebatched: bool
    """Whether rows come from another batch size, threads, device or dtype."""
    versions: Mapping[str, object]
    seconds: float | None
    seconds_outside_network: float | None
    n_missing: int
    missing: list[int] | None = None
    """The first ids that have no record, where a run is read back."""
    time_profile: Mapping[str, object] | None = None
    mean_of: MeanOverSet | None = None
    """Over the set of which the images are a random choice, where that is asked for."""

    quadrature: QuadratureCheck | None = None
    """Of the images themselves where it was measured, else of a pilot."""
    rough_trace: bool = False
    """Whether quadrature may miss more than the probes leave."""
    gamma_scan: Mapping[str, GammaScan] | None = None
    """By role, of experts that were scanned in gamma."""
    spikes: bool = False
    """Whether one of them changes within a step, where the model asks it."""

    @property
    def path_evidence(self) -> PathEvidence | None:
        """What ``--path-check pilot`` found of the path's correction; None without it."""
        return Asked.from_dict(self.identity.settings).path_evidence

    def rough_words(self, unit: str) -> list[str]:
        """What warns of a trace or an expert that is rougher than the nodes it was seen at."""
        found = [self.quadrature.words(unit)] if self.rough_trace and self.quadrature is not None else []
        scans = (self.gamma_scan or {}).items()
        told = (scan.words(self.identity.experts[role].name) for role, scan in scans)
        found += [words for words in told if words is not None]
        names = {role: expert.name for role, expert in self.identity.experts.items()}
        return found + [
            words for other in self.compare for words in other.rough_words(unit, names, self.gamma_scan or {})
        ]

    def __repr__(self) -> str:
        about, means = self.identity, self.means
        eta = "" if about.threshold is None else f" at eta {about.threshold['eta']:.3g}"
        found, unit = self._mean(means)
        value = "no mean" if found is None else f"{found.mean:.4f}{text_of_error(found.se)} {unit}"
        lost = f", {means.n_failed} failed" if means.n_failed else ""
        data = f"{about.command} of {set_name(about.data.name, about.data.split)}"
        return f"Summary({data}, {about.model}{eta}, {means.n} images{lost}, {value})"

    def to_dict(self) -> dict[str, Column]:
        """Columns by name: a row for the model, and one for each expert alone."""
        rows: list[tuple[str, Means, Difference | None]] = [(self.identity.model, self.means, None)]
        rows += [(other.name, other.means, other.paired) for other in self.compare]
        found = [self._mean(means) for _, means, _ in rows]
        differences = [difference for _, _, difference in rows]
        return {
            "name": np.array([name for name, _, _ in rows]),
            "log_density_nats" if found[0][1] == "nats" else "bits_per_dim": floats(
                None if one is None else one.mean for one, _ in found
            ),
            "se": floats(None if one is None else one.se for one, _ in found),
            "difference": floats(None if one is None else one.difference for one in differences),
            "difference_se": floats(None if one is None else one.se for one in differences),
            "n": np.array([means.n for _, means, _ in rows]),
            "evaluations": floats((means.evaluations or {}).get("total") for _, means, _ in rows),
        }

    @staticmethod
    def _mean(means: Means) -> tuple[MeanAndErrors | None, str]:
        if isinstance(means, MeansOfDensities):
            return means.log_density_nats, "nats"
        return means.bits_per_dim, "bits/dim"

    def as_dict(self) -> dict[str, object]:
        """As JSON values, in the order of ``summary.json`` (docs/formats.md)."""
        own = super().as_dict() | {"data": self.identity.data.counted(self.means.n)}
        if self.identity.is_bound:
            own["profile"] = self.profile
        return {key: own[key] for key in ORDER if key in own}


def summarise(
    identity: Identity,
    records: Mapping[str, Sequence[Record]],
    *,
    checks: Mapping[str, Mapping[str, object]] | None = None,
    versions: Mapping[str, object],
    missing: Iterable[int] = (),
    mean_of: MeanOverSet | None = None,
    lists_missing: bool = False,
    seconds: float | None = None,
    seconds_outside_network: float | None = None,
    time_profile: Mapping[str, object] | None = None,
) -> Summary:
    """The summary over the records of each model, of which ids are ``missing``.

    The first key of ``records`` is the model itself, the others the experts that were scored alone beside it;
    ``checks`` are what the settings of each say.
    """
    main, *others = records
    own, lost = means(identity, records[main]), sorted(missing)
    compare = [
        _alone(identity, name, records[main], records[name], (checks or {}).get(name, {})) for name in others
    ]
    failed = [
        Failure(name, *(getattr(record, key) for key in ("id", "status", "gamma", "leg", "expert", "hint")))
        for name, series in records.items()
        for record in series
        if not record.is_ok
    ]
    scans = Asked.from_dict(identity.settings).gamma_scan
    checked = None if identity.is_bound else _quadrature(identity, records[main])
    return Summary(
        identity=identity,
        means=own,
        profile=_profile(records[main]) if identity.is_bound else None,
        compare=tuple(compare),
        paper=None if identity.is_bound else paper.beside(identity, len(records[main])),
        failures=tuple(failed[:LISTED]),
        above_uniform=any(
            _is_above(found, identity.data.levels) for found in (own, *(other.means for other in compare))
        ),
        rebatched=any(record.rebatched for series in records.values() for record in series),
        versions=versions,
        seconds=seconds,
        seconds_outside_network=seconds_outside_network,
        n_missing=len(lost),
        missing=lost[:LISTED] if lists_missing else None,
        time_profile=time_profile,
        mean_of=mean_of,
        quadrature=checked,
        rough_trace=checked is not None and checked.is_rough,
        gamma_scan=scans or None,
        spikes=any(scan.spikes for scan in scans.values()),
    )


def means(identity: Identity, records: Sequence[Record]) -> Means:
    """Means over some records of a run."""
    return scores(identity, records).summary()


def scores(
    identity: Identity, records: Sequence[Record], beside: Mapping[str, Column] | None = None
) -> Likelihood | Bound:
    """Some records of a run as scores; ``beside`` is what the data set knows of each image."""
    asked, dim = Asked.from_dict(identity.settings), prod(identity.data.image_shape)
    if identity.is_bound:
        return Bound(tuple(records), dim, beside=beside or {}, allow_failed=asked.allow_failed)
    pilot = asked.quadrature
    return Likelihood(
        tuple(records),
        dim,
        beside=beside or {},
        importance=asked.importance,
        dequantise=asked.dequantise,
        guided=identity.is_guided,
        quadrature_of_pilot=None if pilot is None else pilot.quadrature_error,
        allow_failed=asked.allow_failed,
    )


def _quadrature(identity: Identity, records: Sequence[Record]) -> QuadratureCheck | None:
    """What the images' own companions tell, else a pilot's."""
    found = scores(identity, records)
    own = quadrature_check(found.allowing_failed()) if isinstance(found, Likelihood) else None
    return own or Asked.from_dict(identity.settings).quadrature


def _is_above(found: Means, levels: int) -> bool:
    mean = None if found.bits_per_dim is None else found.bits_per_dim.mean
    return mean is not None and mean > log2(levels)


def _alone(
    identity: Identity,
    name: str,
    merged: Sequence[Record],
    alone: Sequence[Record],
    checks: Mapping[str, object],
) -> Alone:
    is_whole = identity.settings["allow_failed"] or all(record.is_ok for record in (*merged, *alone))
    checks = {"allow_failed": False, **checks}
    own = replace(identity, settings={**identity.settings, QUADRATURE: checks.get(QUADRATURE)})
    checked, scans = (
        (None if identity.is_bound else _quadrature(own, alone)),
        Asked.from_dict(checks).gamma_scan,
    )
    return Alone(
        name=name,
        means=means(own, alone),
        paired=paired(merged, alone) if is_whole else None,
        paper=None if identity.is_bound else paper.of_expert(identity, name),
        quadrature=checked,
        rough_trace=checked is not None and checked.is_rough,
        gamma_scan=scans or None,
        spikes=any(scan.spikes for scan in scans.values()),
    )


def _profile(records: Sequence[Record]) -> dict[str, list[float]] | None:
    kept = [record.profile for record in records if record.is_ok and record.profile is not None]
    if not kept:
        return None
    columns = {name: np.array([one[name] for one in kept], dtype=np.float64) for name in ("gamma", "loss")}
    return {name: values.mean(axis=(0, 1)).tolist() for name, values in columns.items()}
