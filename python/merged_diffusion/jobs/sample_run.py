"""Samples of named experts, drawn into a file: what ``merged-diffusion sample`` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from merged_diffusion.errors import IncompleteError, UsageError
from merged_diffusion.experts.base import check_labels
from merged_diffusion.jobs.blocks import ALONE, Blocks, Mask, Work, fixed_part
from merged_diffusion.jobs.cost import NOMINAL_EVALUATIONS, Estimate, time_call
from merged_diffusion.jobs.drawn_shape import drawn_shape
from merged_diffusion.jobs.guidance import WORDS as GUIDANCE
from merged_diffusion.jobs.model_plan import ModelPlan
from merged_diffusion.jobs.models import load_models
from merged_diffusion.jobs.settings import MACHINE, Settings
from merged_diffusion.jobs.tasks import DrawTask
from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.runs import versions
from merged_diffusion.runs.settings_file import PRECISION_COST
from merged_diffusion.samplers import DpmV3, Heun, Ode, Sampling
from merged_diffusion.sampling import Samples, draw, grids, sample_files
from merged_diffusion.sampling.parts import recorded_machine
from merged_diffusion.sampling.store import Store
from merged_diffusion.scores.usual_rows import drawing_rows

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SamplePlan(ModelPlan):
    """Which images of which model on which machine; nothing is written yet."""

    how: Sampling
    ids: Integers
    image_shape: tuple[int, int, int]
    precision_cost: Mapping[str, object] | None = None  # of a pilot: how far the precision moves grey levels

    @classmethod
    def make(
        cls,
        settings: Settings,
        how: Sampling,
        ids: tuple[int, int],
        image_shape: tuple[int, int, int] | None = None,
        data: str = "",
    ) -> Self:
        """Load the experts; ``data`` may imply the pair, as it does for a likelihood."""
        models = load_models(settings, data)
        model = next(iter(models.models.values()))
        notes = [*models.notes, *([] if model.snapped is None else [model.snapped])]
        if not model.conditional and settings.labels not in ("none", "cycle"):
            notes.append("no expert is class-conditional: --labels changes nothing")
            settings = replace(settings, labels="none")  # images that are of no class are kept as such
        shape = drawn_shape(model, image_shape)
        if not isinstance(how.sampler, Ode):
            grids.nodes(how.sampler, *reversed(model.gamma_range))  # numbers of a grid fit, or are refused
        if isinstance(how.sampler, DpmV3):
            known = how.sampler.known
            known.check([(leg.role, leg.start, leg.end) for leg in model.legs()], shape)
            known.check_experts({role: expert.weights_sha256 for role, expert in models.identity.items()})
        return cls(
            settings=settings,
            models=models,
            notes=tuple(notes),
            how=how,
            ids=np.arange(*ids),
            image_shape=shape,
        )

    def usual_rows(self, device: torch.device) -> int:
        """Whatever the number of images."""
        return drawing_rows(device)

    def into(self, out: Path) -> Self:
        """On the machine of the samples that are there, if ``out`` can hold these.

        Raises
        ------
        UsageError
            They do not fit in a file of that kind; labels are missing, or no expert knows them.
        """
        form = sample_files.form_of(out)
        placed = self.on(recorded_machine(out))
        sample_files.check_form(form, placed.model.levels, len(placed.ids))
        placed.labels(placed.ids)
        return placed

    def labels(self, ids: Integers) -> Integers | None:
        """Labels of images: one class for all, or all classes in turn by id."""
        wish, model = self.settings.labels, self.model
        if wish == "none":
            if model.conditional:
                raise UsageError(
                    "the model is class-conditional, and no labels are given",
                    hint="give --labels CLASS, or cycle for all classes in turn",
                )
            return None
        if wish == "cycle":
            ranges = [
                getattr(expert, "label_range", None)
                for leg in model.legs()
                for expert in leg.parts
                if expert.conditional
            ]
            known = next((label_range for label_range in ranges if label_range is not None), None)
            if known is None:
                raise UsageError(
                    "--labels cycle, but no expert says which classes it knows", hint="give a class"
                )
            found: Integers = ids % (known[1] + 1)
            return found
        labels = np.full(len(ids), int(wish), dtype=np.int64)
        for leg in model.legs():
            for expert in leg.parts:
                check_labels(expert, labels)
        return labels

    def identity(self) -> dict[str, object]:
        """All that the images depend on, as JSON values."""
        model, settings = self.model, self.settings
        words = settings.as_dict()
        names: tuple[str, ...] = (*MACHINE, "precision", "compile")
        machine = {name: words[name] for name in names if name in words}
        if self.precision_cost is not None:
            machine[PRECISION_COST] = dict(self.precision_cost)
        usual = ("convention", "range", "extrapolate", "labels")
        model_words = {name: words[name] for name in (*usual, *GUIDANCE) if name in words}
        return {
            "command": "sample",
            "settings": self.how.as_dict() | model_words | machine,
            "threshold": model.threshold,
            "legs": [{"role": leg.role, "start": leg.start, "end": leg.end} for leg in model.legs()],
            **({} if model.gate is None else {"gate": model.gate.sha256}),
            "extrapolated": model.extrapolated,
            "experts": {
                role: self.models.identity[role].as_dict()
                for leg in model.legs()
                for role in leg.roles
                if role in self.models.identity
            },
            "image_shape": list(self.image_shape),
            "levels": model.levels,
        }

    def estimate(self, n_images: int) -> Estimate:
        """The cost of as many images, from one timed forward pass of the slowest expert."""
        call = time_call(self.models.experts.values(), self.image_shape, self.settings)
        sampler = self.how.sampler
        if isinstance(sampler, Ode):
            per_image = NOMINAL_EVALUATIONS[sampler.solver.method]
        else:  # Heun's method asks twice a step, but once in the last one
            per_image = 2.0 * sampler.steps - 1 if isinstance(sampler, Heun) else float(sampler.steps)
        seconds = math.ceil(n_images / call.rows) * per_image * call.seconds
        return Estimate(n_images, call.rows, call.seconds, seconds, per_image)

    def drawn(self, ids: Integers, keep: Callable[[Samples], object]) -> Samples:
        """Images of ids, each batch handed on to ``keep`` as it is made."""
        return draw(
            self.model,
            ids,
            seed=self.how.seed,
            sampler=self.how.sampler,
            decode=self.how.decode,
            labels=self.labels(ids),
            image_shape=self.image_shape,
            machine=self.settings.machine,
            accept=self.settings.accept,
            on_images=keep,
        )

    def share(self, shard: tuple[int, int], held: set[int]) -> Integers:
        """The ids that worker I of N has to draw still: whole blocks where a block shares its steps."""
        todo: Integers = self.ids[fixed_part(len(self.ids), self.unit, shard, self.done(held))]
        return todo

    @property
    def unit(self) -> int:
        """How many images go together."""
        return self.settings.machine.batch_size or 1 if self.how.is_shared else 1

    def done(self, held: set[int]) -> Mask:
        """[n] which of the images are among the ids that are ``held``."""
        return np.isin(self.ids, np.fromiter(held, dtype=np.int64))


class SampleRun:
    """A plan being carried out into ``out``."""

    def __init__(self, plan: SamplePlan, out: Path, blocks: Blocks = ALONE, row: str = "") -> None:
        self.plan, self.row = plan, row  # of a sweep
        self.blocks = blocks
        self.store = Store(out, plan.ids, plan.identity(), blocks.shard)
        self.todo = plan.share(blocks.answers_for, self.store.held())
        self.n_drawn = 0
        self.seconds = 0.0
        self.time_profile = TimeProfile() if plan.settings.machine.profile_time else None

    def run(self, observe: Callable[[Samples], object] = lambda _: None) -> dict[str, object]:
        """Draw what is not there yet and write the output once all is; the summary.

        ``n_missing`` counts the images that other workers have still to draw.
        """
        for taken in self.blocks.passes:
            self.go_through(taken, observe)
        return self.conclude()

    def go_through(
        self, taken: Callable[[Work], Iterable[Mask]], observe: Callable[[Samples], object]
    ) -> None:
        """Draw the images that one pass of `Blocks` gives to this worker."""
        begin = time.perf_counter()
        if len(self.todo):
            for mask in taken(self.work()):
                self._draw(mask, observe)
        self.seconds += time.perf_counter() - begin

    def conclude(self) -> dict[str, object]:
        """Write the output once all images are there; the summary."""
        result = self.store.finish()
        lost = 0 if result is not None else len(self.plan.share(self.blocks.answers_for, self.store.held()))
        if lost:
            raise IncompleteError(
                f"{self.store.out}: {lost} images that were drawn are not there any more",
                hint="the same command draws them again",
                file=str(self.store.out),
            )
        return self._summary(result)

    def work(self) -> Work:
        """All images, as `Blocks` share them out."""
        return Work(
            str(self.store.out),
            len(self.plan.ids),
            self.plan.unit,
            self.plan.settings.machine.batch_size or 1,
            lambda: self.plan.done(self.store.held()),
            lambda rank: self.store.is_at_work((rank, self.blocks.shard[1])),
        )

    def _draw(self, mask: Mask, observe: Callable[[Samples], object]) -> None:
        """Draw the images that a mask names."""
        ids = self.plan.ids[mask]

        def keep(samples: Samples) -> None:
            self.store.append(samples)
            self.n_drawn += len(samples)
            observe(samples)

        def ended(profile: TimeProfile | None) -> None:
            if self.time_profile is not None and profile is not None:
                self.time_profile += profile

        crew = self.blocks.crew
        if crew is None:
            ended(self.plan.drawn(ids, keep).time_profile)
        else:
            task = DrawTask(self.row, ids)
            crew.begin(task, lambda _, samples, __: keep(samples), lambda spent: ended(spent.time_profile))

    def _summary(self, result: dict[str, object] | None) -> dict[str, object]:
        n_missing = 0 if result is not None else len(self.plan.ids) - len(self.store.held())
        found = {"n": len(self.plan.ids) - n_missing, "sha256": None, "evaluations": None} | (result or {})
        identity = self.plan.identity()
        return {
            **identity,
            **found,
            "ids": [int(self.plan.ids[0]), int(self.plan.ids[-1]) + 1],
            "n_drawn": self.n_drawn,
            "n_missing": n_missing,
            "sampler": self.plan.how.sampler.name,
            "out": str(self.store.out),
            "versions": versions(),
            "seconds": self.seconds,
            **({} if self.time_profile is None else {"time_profile": self.time_profile.as_dict()}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.store.__exit__(kind, error, trace)
