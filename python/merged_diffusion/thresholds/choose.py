"""A threshold chosen on train, confirmed there and reported on test: what ``threshold`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.data.images import Data
from merged_diffusion.jobs.identity import experts_as_dict
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.model_checks import ModelChecks
from merged_diffusion.jobs.plan import Plan, labels_of
from merged_diffusion.runs import versions
from merged_diffusion.thresholds.answers import Answer
from merged_diffusion.thresholds.auto import check_apart, find_on, tuning_data
from merged_diffusion.thresholds.confirm import Confirmed, ConfirmedRow, confirm_threshold
from merged_diffusion.thresholds.find import Found

CONFIRMED: Final = 5  # rows of exact runs: three thresholds and both experts
REPORTED: Final = 3  # one and both


@dataclass(frozen=True, eq=False, repr=False)
class Chosen:
    """A threshold or an expert alone, the images ``tune`` that it was chosen on, and what it is worth.

    The rows of ``confirmed`` are exact runs on the same images, against the best of them; those of ``test``
    are on other images, against the row of this answer.
    """

    answer: Answer
    plan: Plan
    tune: Data
    found: Found
    confirmed: Sequence[ConfirmedRow] | None
    test: Sequence[ConfirmedRow] | None
    evaluations: Mapping[str, float]
    seconds: float
    checks: ModelChecks

    def as_dict(self) -> dict[str, object]:
        """The content of ``threshold.json``."""
        tune, plan = self.tune, self.plan
        identity = plan.identity(plan.main)
        data = {key: value for key, value in identity.data.as_dict().items() if key != "ids"}
        return {
            "command": "threshold",
            "eta": self.answer.eta,
            "name": self.answer.name,
            "option": self.answer.option,
            "threshold": self.answer.threshold,
            "at_edge": self.answer.at_edge,
            "tune": {"name": tune.name, "split": tune.split, "sha256": tune.sha256, "n": len(tune)},
            "data": data | {"n": len(plan.data)},
            "found": {key: value for key, value in self.found.summary().items() if key != "evaluations"},
            "confirmed": self._rows(self.confirmed),
            "test": self._rows(self.test),
            "evaluations": self.evaluations,
            "settings": dict(identity.settings) | {"eta": None},
            "experts": experts_as_dict(plan.models.identity),
            "versions": versions(),
            "seconds": self.seconds,
            **self.checks.as_dict(),
        }

    def _rows(self, rows: Sequence[ConfirmedRow] | None) -> Mapping[str, object] | None:
        if rows is None:
            return None
        return {"eta": self.answer.eta, "name": self.answer.name, "rows": [row.as_dict() for row in rows]}

    def __repr__(self) -> str:
        return f"Chosen({self.answer.name} on {len(self.tune)} images of {self.tune.name})"


def choose(
    plan: Plan,
    *,
    tune_data: str | None,
    tune_limit: int,
    confirm: bool = True,
    test: bool = True,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    measuring: Measuring = HERE,
) -> Chosen:
    """The threshold of the plan's pair.

    ``confirm`` scores the found threshold, its neighbours and both experts on the images that it was chosen
    on, and the best of them all is the answer. ``test`` scores the best threshold and
    both experts on the images of the plan.
    ``tell`` gets a line before each of the three, ``measuring`` measures the images.
    """
    start = time.perf_counter()
    settings, experts, pair = plan.settings, plan.models.experts, plan.models.pair
    tune = tuning_data(settings, tune_data, tune_limit)
    if test:
        check_apart(tune, plan.data)
    n_solves = len(tune) * (1 + CONFIRMED * confirm) + REPORTED * len(plan.data) * test
    checks = ModelChecks.of_experts(plan, n_solves)
    tell(f"finding a threshold on {len(tune)} images of {set_name(tune.name, tune.split)}")
    eta_range = None if pair is None else pair.eta_range
    found = find_on(experts, tune, settings, eta_range=eta_range, measuring=measuring.part("found"))

    def exact(part: str, data: Data, at: Sequence[float] | None = None) -> Confirmed:
        return confirm_threshold(
            experts["likelihood"],
            experts["quality"],
            data,
            found,
            settings.options(),
            at=at,
            labels=labels_of(data, settings),
            convention=cast(Literal["exact", "paper"], settings.pixel_convention),
            progress=progress,
            measuring=measuring.part(part),
        )

    answer = merged = found.answer
    spent, confirmed, reported, exactly = found.evaluations, None, None, None
    if confirm:
        tell(f"found {answer.name} in {found.seconds:.0f} s; confirming it by exact runs on the same images")
        exactly = exact("confirmed", tune)
        answer, merged, spent = exactly.answer, exactly.best_merged, {**spent, **exactly.evaluations}
        confirmed = exactly.against(answer.name)
    if test:
        where = f"{len(plan.data)} images of {set_name(plan.data.name, plan.data.split)}"
        tell(f"{merged.name} and both experts on {where}")
        exactly = exact("test", plan.data, at=(merged.eta,))
        reported = exactly.against(answer.name)
    if exactly is not None:
        checks = checks.and_of(plan, exactly.models, exactly.rows)
    seconds = time.perf_counter() - start
    return Chosen(answer, plan, tune, found, confirmed, reported, spent, seconds, checks)
