"""What ``fid`` compares images with: statistics, other images, and all of train for copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from merged_diffusion.cli import measure, options, output, shared_work

if TYPE_CHECKING:
    from merged_diffusion.data import Data
    from merged_diffusion.jobs.crew import Recipe
    from merged_diffusion.quality.feature_network import Extractor
    from merged_diffusion.quality.statistics import Known, Statistics
    from merged_diffusion.quality.yardstick import Yardstick
    from merged_diffusion.scores.named_objects import ByName


def collected(
    given: options.Given,
    yardstick: Yardstick,
    used: Extractor,
    shared: shared_work.Shared,
) -> Statistics:
    """Statistics of other images; those that are known as they are."""
    from merged_diffusion.quality.kid import MAX_REFERENCE
    from merged_diffusion.quality.statistics import Statistics, collect

    if isinstance(yardstick, Statistics):
        return yardstick
    _, other = yardstick
    stored = len(other) if given["copies"] else MAX_REFERENCE
    with measure.progress(len(other), quiet=given["quiet"]) as observe:
        if shared.kept is not None:
            used.check(other)
        there = shared.features("reference", other, used, observe)
        return collect(other, used, stored, observe=observe, known=there)


def recipe(
    given: options.Given,
    place: str,
    chosen: Data,
    begun: Sequence[tuple[Yardstick, Extractor]],
) -> tuple[Recipe, ByName]:
    """How workers have the same images and feature networks where they are."""
    from merged_diffusion.jobs.threads import all_cores
    from merged_diffusion.quality.feature_rows import FeatureRecipe
    from merged_diffusion.quality.statistics import Statistics
    from merged_diffusion.quality.whole_train import train_source

    sources, sets = {"images": measure.source(given)}, {"images": chosen}
    yardstick, _ = begun[0]
    if not isinstance(yardstick, Statistics):
        sources["reference"], sets["reference"] = yardstick
    elif _wants_train(given, yardstick):  # what is cached by now, it may not have been at the begin of --work
        sources["train"] = train_source(given["reference"], given["cache"])
        sets["train"] = sources["train"].load()
    extractors = {used.name: used for _, used in begun}
    return FeatureRecipe.of(
        sources, sets, extractors,
        rows=given["rows"], cache=given["cache"], device=place, threads=given["threads"] or all_cores(),
    )  # fmt: skip


def train_features(
    given: options.Given, yardstick: tuple[Statistics, Extractor], shared: shared_work.Shared
) -> Callable[[Data], Known] | None:
    """Who has the features of all images of train, where workers have to compute them."""
    from merged_diffusion.quality.whole_train import train_split

    statistics, extractor = yardstick
    if shared.kept is None or statistics.is_searchable or not _is_known(given):
        return None
    is_cached = shared.measuring.once(
        "train-is-cached", lambda: [float(not _lacks_train(given, extractor, statistics))]
    )
    if is_cached[0]:
        return None
    train = train_split(given["reference"], given["cache"])
    with measure.progress(len(train), quiet=given["quiet"]) as observe:
        found = shared.features("train", train, extractor, observe)
    return None if found is None else lambda _: found


def _is_known(given: options.Given) -> bool:
    """Whether the reference is a set by its name."""
    from merged_diffusion.catalogue.entries import known

    return given["reference"] in known()["data"]


def _lacks_train(given: options.Given, extractor: Extractor, statistics: Statistics) -> bool:
    """Whether the features of all of train are wanted and in no file yet."""
    from merged_diffusion.quality.whole_train import place_of

    is_cached = place_of(given["reference"], extractor.name, given["cache"]).exists
    return _wants_train(given, statistics) and not is_cached()


def _wants_train(given: options.Given, statistics: Statistics) -> bool:
    """Whether the features of all of train are wanted, where statistics hold some alone."""
    return bool(given["copies"]) and not statistics.is_searchable and _is_known(given)


def train_of(
    given: options.Given,
    yardstick: tuple[Statistics, Extractor],
    known_by: Callable[[Data], Known] | None = None,
) -> Statistics | None:
    """Statistics with the features of all images, where those of the yardstick hold some alone."""
    from merged_diffusion.catalogue.entries import known
    from merged_diffusion.errors import UsageError
    from merged_diffusion.quality.whole_train import place_of, train_split, whole_train

    statistics, extractor = yardstick
    if statistics.is_searchable:
        return None
    reference, cache, quiet = given["reference"], given["cache"], given["quiet"]
    if reference not in known()["data"]:
        raise UsageError(
            f"--copies, but {statistics.name} does not hold the features of all its images",
            hint="name the images themselves, or a set, as --ref",
        )
    path = place_of(reference, extractor.name, cache)
    if path.exists():
        return whole_train(reference, extractor, cache)
    n = len(train_split(reference, cache))
    if not quiet:
        output.say(f"note: features of all {n} images of {reference}/train, kept in {path} from now on")
    with measure.progress(n, quiet=quiet) as observe:
        return whole_train(reference, extractor, cache, observe, known_by)
