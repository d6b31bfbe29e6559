"""All metrics of a set of images in one feature network, from one pass over the images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from merged_diffusion.data.images import Data
from merged_diffusion.quality.copies import Copies
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.few_images import gathered
from merged_diffusion.quality.frechet import frechet_distance
from merged_diffusion.quality.kid import Kernel
from merged_diffusion.quality.manifolds import FEWEST, METRICS, Manifolds
from merged_diffusion.quality.statistics import Known, Observer, Statistics, batches
from merged_diffusion.scores.figure import Figure

# What a metric is called by its features: frechet-WORD, kid-WORD, precision-WORD.
WORDS: Final = {
    "digits": "classifier",
    "photos": "random-convolution",
    "scenes": "random-convolution",
    "inception": "inception",
    "pixels": "pixels",
}
COPIES: Final = "copies"


def compare(
    data: Data,
    statistics: Statistics,
    features: Extractor,
    observe: Observer | None = None,
    *,
    train: Statistics | None = None,
    solved: Observer | None = None,
    known: Known | None = None,
) -> list[Figure]:
    """The Frechet distance of ``data`` from the statistics, and what their features of single images allow.

    Those are the kernel distance, precision, recall, density and coverage, and where they are of all images,
    or ``train`` has those of all, the share of copies. ``observe`` counts images, ``solved`` distances: one
    of all images, and one without each group. ``known``: the features of ``data``, which were computed after
    a `check`.
    """
    if known is None:
        check(data, statistics, features, train)
    word, n = WORDS[features.name], len(data)
    absent = absences(n, statistics, features, train)
    moments = gathered(features.dim, n, data.name)
    kernel = None if statistics.kernel_features is None else Kernel(statistics.kernel_features)
    balls, copies = statistics.ball_features, None
    manifolds = None if balls is None or f"{METRICS[0]}-{word}" in absent else Manifolds(balls)
    searched = statistics if train is None else train
    if searched.reference is not None and f"{COPIES}-{word}" not in absent:
        copies = Copies(searched.reference, searched.calibration.nearness)
    takers = [taker for taker in (moments, kernel, manifolds, copies) if taker is not None]
    for positions, found in batches(data, features, observe, known):
        for taker in takers:
            taker.add(found, data.ids[positions])
    frechet = frechet_distance(moments, statistics.law, observe=solved)
    figures = [
        Figure(
            f"frechet-{word}", frechet.value, frechet.se, n, frechet.biased, statistics.floor_at(n),
            frechet.replicates,
        )
    ]  # fmt: skip
    if kernel is not None:
        result = kernel.result()
        figures.append(Figure(f"kid-{word}", result.value, result.se, n))
    if manifolds is not None:
        for name, share in manifolds.result().items():
            floor = statistics.calibration.floor_at(name, share.n)
            figures.append(
                Figure(f"{name}-{word}", share.value, share.se, share.n, False, floor, share.replicates)
            )
    if copies is not None:
        share = copies.result()
        floor = copies.nearness.share
        figures.append(
            Figure(f"{COPIES}-{word}", share.value, share.se, share.n, False, floor, share.replicates)
        )
    return figures


def check(data: Data, statistics: Statistics, features: Extractor, train: Statistics | None = None) -> None:
    """`DataError` where the images cannot be compared with the statistics in these features."""
    features.check(data)
    statistics.check(data, features)
    if train is not None:
        train.check(data, features)


def absences(
    n: int, statistics: Statistics, features: Extractor, train: Statistics | None = None
) -> dict[str, str]:
    """Why metrics are left out, by name: those of neighbours, and the search for copies."""
    return dict(_absences(n, statistics, WORDS[features.name], train))


def _absences(
    n: int, statistics: Statistics, word: str, train: Statistics | None
) -> Iterator[tuple[str, str]]:
    balls = statistics.ball_features
    n_stored = 0 if balls is None else len(balls)
    reason = None
    if not n_stored:
        reason = f"{statistics.name} holds no features of single images"
    elif n_stored < FEWEST:
        reason = f"{statistics.name} holds {n_stored} features; neighbours take {FEWEST} or more"
    elif n < FEWEST:
        reason = f"{n} images; neighbours take {FEWEST} or more"
    if reason is not None:
        yield from ((f"{name}-{word}", reason) for name in METRICS)
    if train is None and not statistics.is_searchable:
        about, stored = statistics.about, 0 if statistics.reference is None else len(statistics.reference)
        of = "" if about is None else f" of {about.n}"
        yield f"{COPIES}-{word}", f"{statistics.name} holds the features of {stored}{of} images, not of all"
