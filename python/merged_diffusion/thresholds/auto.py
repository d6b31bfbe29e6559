"""``--eta auto``: the threshold found on images that are neither trained nor reported on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from merged_diffusion.data import load_data
from merged_diffusion.data.bundled import BUNDLED, hold_back
from merged_diffusion.data.images import Data
from merged_diffusion.data.public_sets import PUBLIC
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.plan import labels_of, place
from merged_diffusion.jobs.settings import Open, Settings
from merged_diffusion.jobs.threads import configured
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import read_settings
from merged_diffusion.scores.defaults import TUNED
from merged_diffusion.soft_gate import digests
from merged_diffusion.thresholds.answers import Answer
from merged_diffusion.thresholds.find import Found, find_threshold


def tuning_data(settings: Settings, tune_data: str | None = None, tune_limit: int = TUNED) -> Data:
    """At most so many images to choose a threshold on: of a path, else of the train split of the known set.

    Of the sets in the package it is the part held back, which the bundled experts were not fitted to.

    Raises
    ------
    UsageError
        The images to report on are a path, so nothing is known of others like them.
    DataNotFoundError
        The train split is not here.
    """
    if tune_data is not None:
        data = load_data(tune_data, "train", settings.levels, cache=settings.cache)
    elif settings.data in BUNDLED:
        _, data = hold_back(load_data(settings.data, "train", cache=settings.cache))
    elif settings.data in PUBLIC:
        data = load_data(settings.data, "train", cache=settings.cache, variant=settings.variant)
    else:
        raise UsageError(
            f"{settings.data} has no train images that are known, and a threshold is not chosen on the "
            "images that it is reported on",
            hint="give other images of the same kind by --tune-data",
        )
    return data.select(limit=min(tune_limit, len(data)))


def check_apart(tune: Data, reported: Data) -> None:
    """Refuse images that are chosen on and reported on, before anything is fitted.

    Raises
    ------
    UsageError
    """
    known = set(digests(tune.images))
    common = sum(each in known for each in digests(reported.images))
    if common:
        raise UsageError(
            f"{common} of the {len(reported)} images to report on are among the {len(tune)} to choose on: "
            "their scores would flatter the choice",
            hint="other images by --tune-data, or --no-test, which reports on none",
        )


def find_on(
    experts: Mapping[str, Expert],
    data: Data,
    settings: Settings,
    *,
    eta_range: tuple[float, float] | None = None,
    measuring: Measuring = HERE,
) -> Found:
    """The threshold of the experts, by role, on ``data``; how is taken from the settings of an evaluation."""
    return find_threshold(
        experts["likelihood"],
        experts["quality"],
        data,
        eta_range=eta_range,
        seed=settings.seed,
        dequantise=cast(Any, settings.dequantise),
        labels=labels_of(data, settings),
        convention=cast(Literal["exact", "paper"], settings.pixel_convention),
        machine=replace(settings.machine, precision=None),  # nobody has judged yet what less costs
        accept=settings.accept,
        measuring=measuring,
    )


def auto_threshold(
    experts: Mapping[str, Expert],
    settings: Settings,
    *,
    eta_range: tuple[float, float] | None = None,
    tune_data: str | None = None,
    tune_limit: int = TUNED,
) -> Answer:
    """The threshold that ``--eta auto`` stands for, found on the `tuning_data` of the settings.

    Parameters
    ----------
    experts
        By role: ``likelihood``, ``quality``.
    settings
        On their machine: with batch size, device and dtype.
    eta_range
        Of the pair's card.
    """
    tune = tuning_data(settings, tune_data, tune_limit)
    return find_on(experts, tune, settings, eta_range=eta_range).answer


def with_threshold(
    settings: Settings, out: Path | None, tune_data: str | None = None, tune_limit: int = TUNED
) -> Settings:
    """Settings whose ``--eta auto`` is a threshold: that of the run at ``out``, if there is one, else found.

    ``tune_data`` and ``tune_limit`` are those of `tuning_data`.
    """
    if settings.eta != "auto":
        return settings
    recorded = None if out is None else read_settings(out)
    if out is not None and recorded is not None:
        with as_kept(out):
            held = {name: recorded["settings"].get(name) for name in ("eta", "gamma")}
        if any(value is not None for value in held.values()):
            return replace(settings, **held)
    full = settings.at(replace(settings.machine, precision=None), settings.compile)
    plan, _ = place(without_threshold(full), None)
    with configured(threads=plan.threads, deterministic=settings.deterministic):
        plan.check_experts()
        pair = plan.models.pair
        eta_range = None if pair is None else pair.eta_range
        answer = auto_threshold(
            plan.models.experts,
            plan.settings,
            eta_range=eta_range,
            tune_data=tune_data,
            tune_limit=tune_limit,
        )
    return replace(settings, **cast(Any, answer.setting))


def without_threshold(settings: Settings) -> Settings:
    """Settings that a pair without a recommended eta, or several experts, can be loaded with."""
    if settings.experts is not None:
        return replace(settings, gammas=Open.ANY)
    return replace(settings, eta="max", gamma=None, edm_sigma=None, logsnr=None)
