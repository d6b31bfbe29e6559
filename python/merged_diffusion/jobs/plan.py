"""The plan of an evaluation: which images under which models on which machine, before anything is written.

Images are taken in ascending order of id. Worker I of N scores the positions p with p mod N = I, less the ids
that any worker has recorded. With `Dopri5(shared=True)` images of one block of the batch share their
steps, so the unit is the block: whole blocks go to a worker, and an unfinished one is done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from merged_diffusion.data import load_data
from merged_diffusion.data.images import CHOICE_SEED, Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import check_labels
from merged_diffusion.jobs.blocks import fixed_part
from merged_diffusion.jobs.cost import Estimate, move
from merged_diffusion.jobs.identity import Identity, LegSpan, SetIdentity
from merged_diffusion.jobs.metrics import LIKELIHOOD, Metric
from merged_diffusion.jobs.model_plan import ModelPlan
from merged_diffusion.jobs.models import build_models
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import GIVEN
from merged_diffusion.legs import asked_over
from merged_diffusion.likelihood.path_evidence import PathEvidence
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.lattice import LATTICE, other_lattice
from merged_diffusion.runs import KnownRecords, settings_file, versions
from merged_diffusion.runs.settings_file import RecordedMachine, meaning_digest, read_settings
from merged_diffusion.scores.inputs import examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import SHARED_ROWS, scoring_rows

PILOT_RUNS: Final = 30  # exact runs from which a plan is made
KEPT_SECONDS: Final = 600.0  # an evaluation that takes longer is kept in any case


@dataclass(frozen=True, kw_only=True)
class Plan(ModelPlan):
    """`make_plan` gives one; nothing is written."""

    data: Data  # the selection, ascending ids
    whole: Data
    metric: Metric = LIKELIHOOD
    data_seconds: float = 0.0  # what loading took
    checks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # what was found, by model
    paths: Mapping[str, PathEvidence] = field(default_factory=dict)  # of a pilot under each model
    precision_costs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # likewise

    def usual_rows(self, device: torch.device) -> int:
        """As many as suit the images and the device."""
        return scoring_rows(len(self.data), device, shared=self.settings.options().solver.shared)

    def identity(self, name: str) -> Identity:
        """What ``settings.json`` holds for a model: commands with equal ones give equal records."""
        model, settings, whole = self.models.models[name], self.metric.described(self.settings), self.whole
        settings |= self.checks.get(name, {})
        settings |= other_lattice(self.settings.options().probes, whole.images.shape[1:])
        if name in self.paths:
            settings |= {settings_file.PATH: self.paths[name].as_dict()}
        if name in self.precision_costs:
            settings |= {settings_file.PRECISION_COST: dict(self.precision_costs[name])}
        legs = model.legs(toward="noise")
        roles = {role for leg in legs for role in leg.roles}
        is_usual = np.array_equal(whole.ids, np.arange(len(whole)))
        is_shared = self.settings.options().solver.shared
        return Identity(
            command=self.metric.name,
            model=name,
            settings=settings | {"tf32": self.settings.machine.precision == "tf32"},
            data=SetIdentity(
                name=whole.name,
                split=whole.split,
                sha256=whole.sha256,
                n_set=len(whole),
                image_shape=list(whole.images.shape[1:]),
                levels=whole.levels,
                modified=whole.modified,
                ids=None if is_usual else whole.ids.tolist(),
            ),
            threshold=model.threshold,
            legs=tuple(LegSpan(leg.role, leg.start, leg.end) for leg in legs),
            extrapolated=model.extrapolated,
            experts={k: v for k, v in self.models.identity.items() if k in roles},
            gate=None if model.gate is None else model.gate.sha256,
            blocks={key: settings[key] for key in ("batch_size", "limit", "ids")} if is_shared else None,
        )

    def folder(self, out: Path | None, name: str) -> Path | None:
        """Where a run keeps the records of a model: at its top, or in a run of its own inside."""
        return out if out is None or name == self.main else out / name

    def selection(self) -> dict[str, object]:
        """Which images of the whole set this command asks for."""
        ids, n_set = self.settings.ids, self.settings.mean_of
        found: dict[str, object] = {"limit": self.settings.limit, "ids": None if ids is None else list(ids)}
        return found if n_set is None else found | {"mean_of": n_set, "choice_seed": CHOICE_SEED}

    def left(self, shard: tuple[int, int], held: Iterable[int]) -> npt.NDArray[np.bool_]:
        """Which of the images worker I of N has to score still, as a mask."""
        return fixed_part(len(self.data), self.unit, shard, self.done(held))

    @property
    def unit(self) -> int:
        """How many images go together."""
        shares = self.settings.options().solver.shared
        return self.settings.machine.batch_size or SHARED_ROWS if shares else 1

    def done(self, held: Iterable[int]) -> npt.NDArray[np.bool_]:
        """[n] which of the images are among the ids that are ``held``."""
        return np.isin(self.data.ids, np.fromiter(held, dtype=np.int64))

    def share(self, shard: tuple[int, int], held: Iterable[int]) -> Data | None:
        """Those images; None where none are left."""
        return self.chosen(self.left(shard, held))

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Data | None:
        """The images that a mask names; None where it names none."""
        if mask.all():
            return self.data
        return self.data.where(mask) if mask.any() else None

    def check_experts(self) -> None:
        """Move the experts to this machine and probe each; `ExpertError` says what is unsound."""
        place = self.settings.machine.here(lambda _: 1)
        for role, expert in self.models.experts.items():
            if self.models.identity[role].source != GIVEN:  # of a caller's nothing is moved for good
                move(expert, place)
        with prepared(
            asked_over(leg for model in self.models.models.values() for leg in model.legs()),
            place,
            self.data.images.shape[1:],
            labels=self.labels(self.data),
            examples=examples(self.data),
            takes_products=self.metric.name == LIKELIHOOD.name,
            accept=self.settings.accept,
        ):
            return

    def averaging(self) -> Plan | None:
        """The plan that the same words meant before there were lattices of probes, if that was another."""
        settings = self.settings.averaging()
        return None if settings is None else replace(self, settings=settings)

    def gone_on_with(self, kept: Mapping[str, object] | None) -> Plan:
        """As the run to go on with was begun, whose settings file this is."""
        recorded = None if kept is None else kept.get("settings")
        if not isinstance(recorded, Mapping):
            return self
        return replace(self, settings=self.settings.gone_on_with(recorded))

    def labels(self, data: Data) -> npt.NDArray[np.int64] | None:
        """Labels [N] for class-conditional experts, or None."""
        return labels_of(data, self.settings)

    def known(self, out: Path | None) -> dict[str, KnownRecords]:
        """What the runs of the models hold already, as far as they are there; nothing is read yet."""
        folders = {name: self.folder(out, name) for name in self.models.models}
        return {
            name: KnownRecords(folder)
            for name, folder in folders.items()
            if folder is not None and read_settings(folder) is not None
        }

    def estimate(self, shard: tuple[int, int], known: Mapping[str, KnownRecords]) -> Estimate:
        """The cost of what one worker has left to score, from one timed call of the slowest expert."""
        return self.cost_of(self.n_left(shard, known))

    def n_left(self, shard: tuple[int, int], known: Mapping[str, KnownRecords]) -> int:
        """How many images one worker has left to score, under all models together."""
        held = [known[name].records() if name in known else [] for name in self.models.models]
        return sum(int(self.left(shard, (record.id for record in records)).sum()) for records in held)

    def cost_of(self, n_images: int) -> Estimate:
        """The cost of as many images, from one timed call of the slowest expert."""
        experts, shape = list(self.models.experts.values()), tuple(self.data.images.shape[1:])
        return self.metric.estimate(experts, shape, n_images, self.settings)

    def out_for(self, cost: Estimate) -> Path | None:
        """Where an evaluation goes that nobody gave a place: nowhere if it is short."""
        return self.default_out() if cost.seconds > KEPT_SECONDS else None

    def default_out(self) -> Path:
        """``runs/nll-photos-1a2b3c4d``: the same command finds it again."""
        # What a pilot chooses follows from all else.
        chosen = [] if self.settings.bpd_tol is None else ["settings.tol", "settings.h_max"]
        if self.settings.probe_error is not None:
            chosen += [f"settings.{name}" for name in ("probes", "scheme", LATTICE)]
        digest = meaning_digest(self.identity(self.main).as_dict(), chosen)
        return Path("runs") / f"{self.metric.name}-{Path(self.whole.name).stem}-{digest}"

    def describe(self) -> dict[str, object]:
        """The plan as JSON values."""
        own = {"n": len(self.data), "models": list(self.models.models), "versions": versions()}
        return self.identity(self.main).as_dict() | own


Given = tuple[Data | None, MergedModel | None]
"""Images and a model that are there already, in the place of those that the settings name."""


def make_plan(settings: Settings, metric: Metric = LIKELIHOOD, given: Given = (None, None)) -> Plan:
    """Load data and experts and refuse what does not fit; nothing is computed or written."""
    begin = time.perf_counter()
    whole = given[0] or load_data(
        settings.data, settings.split, settings.levels, cache=settings.cache, variant=settings.variant
    )
    data_seconds = time.perf_counter() - begin
    if not (np.diff(whole.ids) > 0).all():
        raise UsageError(
            f"{settings.data}: its ids are not ascending, or one names two images",
            hint="sort the images by ids, and give each its own",
        )
    if settings.mean_of is not None:
        settings = _with_a_choice(settings, len(whole), metric)
    models = build_models(settings, whole, given[1])
    conditional = [name for name, expert in models.experts.items() if expert.conditional]
    notes = [*models.notes, *(m.snapped for m in models.models.values() if m.snapped is not None)]
    if conditional and settings.labels == "none":
        sources = " and ".join(f"{name} expert {models.identity[name].source}" for name in conditional)
        raise UsageError(
            f"the {sources} is class-conditional, and no labels are given",
            hint="give --labels from-data or a class",
        )
    if not conditional and settings.labels != "none":
        notes.append("no expert is class-conditional: --labels changes nothing")
    selected = whole.select(settings.limit, settings.ids)
    for model in models.models.values():
        if model.gate is not None:
            model.gate.check_unseen(selected.images)
    plan = Plan(
        settings=settings,
        models=models,
        notes=tuple(notes),
        data=selected,
        whole=whole,
        metric=metric,
        data_seconds=data_seconds,
    )
    found = plan.labels(whole)
    if found is not None:
        for expert in models.experts.values():
            check_labels(expert, found)
    return plan


def _with_a_choice(settings: Settings, n: int, metric: Metric) -> Settings:
    """How many of ``n`` images the mean is over, and how many of these are measured, as numbers."""
    if metric != LIKELIHOOD:
        raise UsageError(
            f"--mean-of {settings.mean_of} is of exact likelihoods, and the bound was asked for",
            hint="leave it out: the bound of all images takes no longer than their likelihood of some",
        )
    n_set = n if isinstance(settings.mean_of, str) or settings.mean_of is None else settings.mean_of
    if n_set > n or (settings.limit or 0) > n:
        raise UsageError(
            f"--mean-of {settings.mean_of} with --limit {settings.limit} asks for more than the {n} images "
            f"of {settings.data}",
            hint=f"--mean-of all is the mean over the {n}",
        )
    return replace(settings, mean_of=n_set, limit=settings.limit or min(PILOT_RUNS, n_set))


def place(
    settings: Settings,
    out: Path | None,
    metric: Metric = LIKELIHOOD,
    given: Given = (None, None),
    threads: int | None = None,
) -> tuple[Plan, Path | None]:
    """The plan on the machine that an existing run recorded, and that run (``out``, or the default one)."""
    plan = make_plan(settings, metric, given)
    if out is None and given == (None, None):
        begun = (each.default_out() for each in (plan, plan.averaging()) if each is not None)
        out = next((folder for folder in begun if read_settings(folder) is not None), None)
    kept = None if out is None else read_settings(out)
    plan = plan.gone_on_with(kept)
    recorded = None if out is None else RecordedMachine.of(out, kept)
    return plan.on(recorded, threads), out


def labels_of(data: Data, settings: Settings) -> npt.NDArray[np.int64] | None:
    """Labels [N] for class-conditional experts, or None."""
    if settings.labels == "none":
        return None
    if settings.labels != "from-data":
        return np.full(len(data), int(settings.labels), dtype=np.int64)
    if data.labels is None:
        raise UsageError(f"--labels from-data, but {data.name} has no labels", hint="give a class number")
    return data.labels
