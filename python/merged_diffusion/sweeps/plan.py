"""The plan of a sweep: its rows, and what they have in common, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from merged_diffusion.errors import UsageError
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.evaluation.metrics import LIKELIHOOD, VariationalBound
from merged_diffusion.evaluation.models import Models
from merged_diffusion.evaluation.plan import KEPT_SECONDS, Plan, held_ids, make_plan, meaning_digest
from merged_diffusion.evaluation.samples import SamplePlan
from merged_diffusion.evaluation.settings import THRESHOLDS, Settings
from merged_diffusion.runs import recorded_machine
from merged_diffusion.sampling import store
from merged_diffusion.sweeps import folder
from merged_diffusion.sweeps.drawn import SAMPLES, DrawnRows
from merged_diffusion.sweeps.reference import Reference, find_reference, known_set
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.rows import Row, make_rows
from merged_diffusion.sweeps.scored import ScoredRows
from merged_diffusion.sweeps.thresholds import Eta, checked

# What samples depend on beside how they are drawn.
OF_MODELS: Final = (
    *("data", "variant", "pair", "likelihood_expert", "quality_expert", "convention", "extrapolate"),
    *("labels", "batch_coupled", "deterministic", "batch_size", "threads", "device", "dtype", "compile"),
)


class SweepPlan(Protocol):
    """What a sweep will do."""

    @property
    def settings(self) -> Settings:
        """On their machine."""

    @property
    def threads(self) -> int:
        """Of torch and of the core."""

    @property
    def rows(self) -> Sequence[Row[Any]]:
        """Ascending in eta."""

    @property
    def n_images(self) -> int:
        """Of each row."""

    @property
    def notes(self) -> list[str]:
        """What a user should know of files and thresholds."""

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of metric, data, pair and settings."""

    def default_out(self) -> Path:
        """``runs/sweep-photos-1a2b3c4d``: the same command finds it again."""

    def check_experts(self) -> None:
        """`ExpertError` where no row could be computed; a drawing row checks its own."""

    def estimate(self, out: Path | None) -> Estimate:
        """The cost if the rows shared nothing, from one timed call of the slowest expert."""

    def opened(self, out: Path | None, *, allow_rebatch: bool, strict_env: bool) -> ScoredRows | DrawnRows:
        """The rows, about to be computed."""


@dataclass(frozen=True)
class ScorePlan:
    """Rows that are evaluations, and a plan of the pair for what they have in common."""

    base: Plan
    rows: Sequence[Row[Plan]]

    @property
    def settings(self) -> Settings:
        """On their machine."""
        return self.base.settings

    @property
    def threads(self) -> int:
        """Of torch and of the core."""
        return self.base.threads

    @property
    def n_images(self) -> int:
        """Of each row."""
        return len(self.base.data)

    @property
    def notes(self) -> list[str]:
        """What a user should know of files and thresholds."""
        return _notes(self.base, self.rows)

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of metric, data, pair and settings."""
        base = self.base
        data = base.identity(base.main)["data"] | {"n": self.n_images}
        settings = base.metric.described(replace(base.settings, eta=None, compare=False))
        return _identity(base.metric.name, data, base.models, settings)

    def default_out(self) -> Path:
        """As `SweepPlan.default_out`."""
        single = self.base.default_out()
        return single.with_name(single.name.replace(self.base.metric.name, "sweep", 1))

    def check_experts(self) -> None:
        """As `SweepPlan.check_experts`."""
        self.base.check_experts()

    def estimate(self, out: Path | None) -> Estimate:
        """As `SweepPlan.estimate`."""
        base = self.base
        todo = [
            row.plan.share((0, 1), held_ids(None if out is None else out / row.folder)) for row in self.rows
        ]
        return base.metric.estimate(
            list(base.models.experts.values()),
            tuple(base.data.images.shape[1:]),
            sum(len(images) for images in todo if images is not None),
            base.settings,
        )

    def opened(self, out: Path | None, *, allow_rebatch: bool, strict_env: bool) -> ScoredRows:
        """The evaluations, open."""
        return ScoredRows(self.rows, out, allow_rebatch=allow_rebatch, strict_env=strict_env)


@dataclass(frozen=True)
class DrawPlan:
    """Rows that are samples, and what they are measured against."""

    base: SamplePlan
    rows: Sequence[Row[SamplePlan]]
    reference: Reference

    @property
    def settings(self) -> Settings:
        """On their machine."""
        return self.base.settings

    @property
    def threads(self) -> int:
        """Of torch and of the core."""
        return self.base.threads

    @property
    def n_images(self) -> int:
        """Of each row."""
        return len(self.base.ids)

    @property
    def notes(self) -> list[str]:
        """What a user should know of files, thresholds and the number of samples."""
        return [*_notes(self.base, self.rows), *self.reference.notes]

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of metric, data, pair and settings."""
        base = self.base
        named = {name: getattr(base.settings, name) for name in OF_MODELS}
        shape = list(base.image_shape)
        settings = named | base.how.as_dict() | {"num": self.n_images, "image_shape": shape}
        return _identity("sample", self.reference.data | {"n": self.n_images}, base.models, settings)

    def default_out(self) -> Path:
        """As `SweepPlan.default_out`."""
        found = self.identity()
        digest = meaning_digest({"settings": found["settings"], "experts": found["pair"]["experts"]})
        return Path("runs") / f"sweep-sample-{self.reference.data_name}-{digest}"

    def check_experts(self) -> None:
        """Nothing: each row checks the experts that it is drawn from."""

    def estimate(self, out: Path | None) -> Estimate:
        """As `SweepPlan.estimate`."""
        done = [out is not None and store.is_taken(out / row.folder / SAMPLES) for row in self.rows]
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


def make_sweep_plan(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[SweepPlan, Path | None]:
    """The plan of a sweep on the machine that an existing one recorded, and where that one is.

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow.
    """
    given = [name for name in (*THRESHOLDS, "expert") if getattr(settings, name) is not None]
    if given:
        raise UsageError(
            f"{given[0]} was given, but a sweep is over thresholds of two experts",
            hint="give etas, likelihood_expert and quality_expert",
        )
    wanted = None if etas is None else checked(etas)
    # One expert alone is a threshold that every pair has.
    settings = replace(settings, eta=1.0, compare=True)
    return (_draw_plan if request.metric == "sample" else _score_plan)(settings, wanted, out, request)


def out_for(plan: SweepPlan, cost: Estimate) -> Path | None:
    """Where a sweep goes that nobody gave a place: nowhere if it is short."""
    return plan.default_out() if cost.seconds > KEPT_SECONDS else None


def _score_plan(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[ScorePlan, Path | None]:
    is_bound = request.metric == "vlb"
    metric = VariationalBound(request.times, request.profile) if is_bound else LIKELIHOOD
    base = make_plan(settings, metric)
    rows = make_rows(base, etas)
    out = _existing(ScorePlan(base, rows), out)
    found = (None if out is None else recorded_machine(out / row.folder) for row in rows)
    base = base.on(next((machine for machine in found if machine), {}))
    return ScorePlan(base, make_rows(base, etas)), out


def _draw_plan(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[DrawPlan, Path | None]:
    data_name = known_set(settings)
    base = SamplePlan.make(settings, request.how, (0, request.num), request.image_shape, data_name)
    rows = make_rows(base, etas)
    out = _existing(DrawPlan(base, rows, Reference(data_name, None)), out)
    found = (None if out is None else store.recorded_machine(out / row.folder / SAMPLES) for row in rows)
    base = base.on(next((machine for machine in found if machine), {}))
    rows = make_rows(base, etas)
    for row in rows:
        row.plan.labels(row.plan.ids)
    return DrawPlan(base, rows, find_reference(base, data_name)), out


def _existing(plan: SweepPlan, out: Path | None) -> Path | None:
    """The directory that was given, else that of an earlier command without one."""
    if out is None and folder.read(plan.default_out()) is not None:
        return plan.default_out()
    return out


def _notes(base: Plan | SamplePlan, rows: Sequence[Row[Any]]) -> list[str]:
    return [*base.notes, *(row.model.snapped for row in rows if row.model.snapped is not None)]


def _identity(
    metric: str, data: Mapping[str, Any], models: Models, settings: Mapping[str, Any]
) -> dict[str, Any]:
    pair = models.pair
    return {
        "command": "sweep",
        "format": folder.FORMAT,
        "metric": metric,
        "data": dict(data),
        "pair": {
            "name": None if pair is None else pair.name,
            "eta_range": None if pair is None else list(pair.eta_range),
            "experts": dict(models.identity),
        },
        "settings": dict(settings),
    }
