"""A threshold chosen on train, confirmed there and reported on test: what ``threshold`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, cast

from merged_diffusion.jobs.plan import Plan
from merged_diffusion.runs import versions
from merged_diffusion.thresholds.auto import find_on, labels_of, tuning_data
from merged_diffusion.thresholds.confirm import confirm_threshold


def choose(
    plan: Plan,
    *,
    tune_data: str | None,
    tune_limit: int,
    confirm: bool = True,
    test: bool = True,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """The threshold of the plan's pair as JSON values.

    ``confirm`` scores the found threshold, its neighbours and both experts on the images that it was chosen
    on, and the best of them all is the eta (0 or 1: an expert alone). ``test`` scores the best threshold and
    both experts on the images of the plan.
    ``tell`` gets a line before each of the three.
    """
    start = time.perf_counter()
    settings, experts, pair = plan.settings, plan.models.experts, plan.models.pair
    tune = tuning_data(settings, tune_data, tune_limit)
    tell(f"finding a threshold on {len(tune)} images of {tune.name}/{tune.split}")
    found = find_on(experts, tune, settings, eta_range=None if pair is None else pair.eta_range)
    convention = cast(Literal["exact", "paper"], settings.convention)
    how = settings.options()
    eta, summary = found.eta, found.summary()
    merged = eta
    spent, confirmed, reported = summary.pop("evaluations"), None, None
    if confirm:
        tell(f"found eta {eta:.3f} in {found.seconds:.0f} s; confirming it by exact runs on the same images")
        checked = confirm_threshold(
            experts["likelihood"],
            experts["quality"],
            tune,
            found,
            how,
            labels=labels_of(tune, settings),
            convention=convention,
            progress=progress,
        )
        eta, merged, confirmed = checked.eta, checked.best_merged, checked.summary()
        spent = spent | confirmed.pop("evaluations")
    if test:
        tell(
            f"eta {eta:.3f} and both experts on {len(plan.data)} images of {plan.data.name}/{plan.data.split}"
        )
        on_test = confirm_threshold(
            experts["likelihood"],
            experts["quality"],
            plan.data,
            found,
            how,
            at=(merged,),
            labels=plan.labels(plan.data),
            convention=convention,
            progress=progress,
        )
        reported = on_test.summary(eta)
        del reported["evaluations"]
    identity = plan.identity(plan.main)
    return {
        "command": "threshold",
        "eta": eta,
        "threshold": found.threshold(eta),
        "at_edge": eta in (0.0, 1.0) or found.is_edge(eta),
        "tune": {
            "name": tune.name,
            "split": tune.split,
            "sha256": tune.sha256,
            "n": len(tune),
        },
        "data": {key: value for key, value in identity.data.as_dict().items() if key != "ids"}
        | {"n": len(plan.data)},
        "found": summary,
        "confirmed": confirmed,
        "test": reported,
        "evaluations": spent,
        "settings": dict(identity.settings) | {"eta": None},
        "experts": {role: dict(item) for role, item in plan.models.identity.items()},
        "versions": versions(),
        "seconds": time.perf_counter() - start,
    }
