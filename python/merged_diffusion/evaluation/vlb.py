"""The variational bound of a set's images under one model or several, kept in a run where one is given.

Images, models, machine and shards are those of a `Plan`; records hold the three terms of the bound.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from merged_diffusion.bound import variational_bound
from merged_diffusion.data.images import Data
from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.evaluation.cost import Estimate, call_seconds
from merged_diffusion.evaluation.plan import KEPT_SECONDS, Plan, held_ids, make_plan
from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.evaluation.summary import missing_ids, summarise
from merged_diffusion.runs import Record, Run, recorded_machine, versions
from merged_diffusion.runs.settings import is_free, is_machine, leaves, read_settings

Observer = Callable[[str, Record], None]


@dataclass(frozen=True)
class BoundPlan:
    """What is to be bounded, and by how many ``times`` an image and repeat; ``profile`` keeps every loss."""

    base: Plan
    times: int
    profile: bool

    def identity(self, name: str) -> dict[str, Any]:
        """What ``settings.json`` holds for a model: commands with equal ones give equal records."""
        found = self.base.identity(name)
        settings = found["settings"] | {"times": self.times, "profile": self.profile}
        return found | {"command": "vlb", "settings": settings}

    def estimate(self, shard: tuple[int, int], out: Path | None) -> Estimate:
        """The cost of what one worker has left, from one timed forward pass of the slowest expert."""
        base, settings = self.base, self.base.settings
        left = [base.share(shard, held_ids(base.folder(out, name))) for name in base.models.models]
        n = sum(len(data) for data in left if data is not None)
        rows = settings.batch_size or 1
        call = max(
            call_seconds(
                expert,
                shape=(rows, *base.data.images.shape[1:]),
                device=settings.device or "cpu",
                dtype=settings.dtype or "float32",
                probes=0,
                conditional=settings.labels != "none",
            )
            for expert in base.models.experts.values()
        )
        per_image = float(self.times * settings.repeats)
        return Estimate(n, rows, call, math.ceil(n * per_image / rows) * call, per_image)

    def out_for(self, cost: Estimate) -> Path | None:
        """Where a bound goes that nobody gave a place: nowhere if it is short."""
        return self.default_out() if cost.seconds > KEPT_SECONDS else None

    def default_out(self) -> Path:
        """``runs/vlb-photos-1a2b3c4d``: the same command finds it again."""
        identity = leaves(self.identity(self.base.main))
        kept = {k: v for k, v in identity.items() if not is_free(k) and not is_machine(k)}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
        return Path("runs") / f"vlb-{Path(self.base.whole.name).stem}-{digest}"


def place_bound(
    settings: Settings, out: Path | None, *, times: int, profile: bool
) -> tuple[BoundPlan, Path | None]:
    """The plan on the machine that an existing run recorded, and that run (``out``, or the default one)."""
    plan = BoundPlan(make_plan(settings), times, profile)
    if out is None and read_settings(plan.default_out()) is not None:
        out = plan.default_out()
    return BoundPlan(plan.base.on({} if out is None else recorded_machine(out)), times, profile), out


class BoundEvaluation:
    """A plan being carried out. `summary` may be asked for at any time, also after an interrupt."""

    def __init__(
        self,
        plan: BoundPlan,
        *,
        out: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        allow_rebatch: bool = False,
        strict_env: bool = False,
    ) -> None:
        self.plan, self.out, self.shard = plan, out, shard
        self.seconds = self.seconds_outside_network = 0.0
        self._records: dict[str, list[Record]] = {name: [] for name in plan.base.models.models}
        self._runs: dict[str, Run] = {}
        try:
            for name in plan.base.models.models if out is not None else ():
                self._runs[name] = Run.open(
                    plan.base.folder(out, name) or Path(),
                    plan.identity(name),
                    selection=plan.base.selection(),
                    shard=shard,
                    allow_rebatch=allow_rebatch,
                    strict_env=strict_env,
                    n_expected=len(plan.base.data),
                )
        except BaseException:
            self._take_back()
            raise

    @property
    def notes(self) -> list[str]:
        """What opening the run found worth saying: another environment, a torn tail."""
        return [note for run in self._runs.values() for note in run.notes]

    def held(self, name: str) -> list[Record]:
        """The records of a model: those of the whole run, or of this process where none is kept."""
        run = self._runs.get(name)
        return self._records[name] if run is None else run.records()

    def left(self) -> dict[str, int]:
        """Images that this process has still to bound, by model."""
        todo = {name: self._todo(name) for name in self._records}
        return {name: 0 if images is None else len(images) for name, images in todo.items()}

    def run(self, observe: Observer | None = None) -> None:
        """Bound what is not recorded yet; ``observe(model, record)`` is called after each image."""
        try:
            for name in self._records:
                self._score(name, observe)
        except MergedDiffusionError:
            self._take_back()
            raise
        if self.out is not None:
            self._runs[self.plan.base.main].write_summary(self.summary)

    def summary(self) -> dict[str, Any]:
        """The summary over the records there are."""
        records = {name: self.held(name) for name in self._records}
        result = summarise(
            self.plan.identity(self.plan.base.main),
            records,
            versions=versions(),
            seconds=self.seconds,
            seconds_outside_network=self.seconds_outside_network,
        )
        return result | {"n_missing": len(self._missing(records))}

    def _todo(self, name: str) -> Data | None:
        return self.plan.base.share(self.shard, (record["id"] for record in self.held(name)))

    def _score(self, name: str, observe: Observer | None) -> None:
        base, images = self.plan.base, self._todo(name)
        if images is None:
            return

        def keep(record: Record) -> None:
            if name in self._runs:
                self._runs[name].append(record)
            self._records[name].append(record)
            if observe is not None:
                observe(name, record)

        settings = base.settings
        result = variational_bound(
            base.models.models[name],
            images,
            seed=settings.seed,
            times=self.plan.times,
            repeats=settings.repeats,
            profile=self.plan.profile,
            batch_size=settings.batch_size,
            device=settings.device or "cpu",
            dtype=settings.dtype or "float32",
            labels=base.labels(images),
            batch_coupled=settings.batch_coupled,
            allow_failed=True,  # refused in the summary, once every image has had its turn
            on_record=keep,
        )
        self.seconds += result.seconds
        self.seconds_outside_network += result.seconds_outside_network

    def _missing(self, records: Mapping[str, Sequence[Record]]) -> set[int]:
        if self._runs:
            return missing_ids(self._runs, records)
        held = [{record["id"] for record in series} for series in records.values()]
        return {int(i) for i in self.plan.base.data.ids} - set.intersection(*held)

    def _take_back(self) -> None:
        for run in reversed(self._runs.values()):
            run.discard_if_unused()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in self._runs.values():
            run.__exit__(kind, error, trace)
