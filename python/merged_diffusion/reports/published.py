"""What the paper and the literature report (`published.toml`), for the columns beside results on their data.

The paper's figures stand only beside results on the unmodified test set of CIFAR-10 or ImageNet32, and beside
distances of samples from those sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from merged_diffusion.jobs import published_table as paper
from merged_diffusion.reports.results import Result
from merged_diffusion.sweeps.sweep_row import SweepRow

# The literature's rows are of these sets; what of ImageNet32 is of its old release is marked there.
FAMILIES: Final = {"cifar10": "cifar10", "imagenet32-old": "imagenet32", "imagenet32-new": "imagenet32"}
TITLES: Final = {"cifar10": "CIFAR-10", "imagenet32": "ImageNet32"}
ENDS_CLOSE: Final = 1e-4  # in gamma, as a user's threshold snaps to an end


@cache
def published() -> Mapping[str, Any]:
    """The content of ``published.toml``."""
    text = resources.files("merged_diffusion.reports").joinpath("published.toml").read_text("utf-8")
    return tomllib.loads(text)


def set_of(data: Mapping[str, object]) -> str | None:
    """The paper's name of a data set, if these are its published test images."""
    name = str(data.get("name"))
    is_its = name in paper.TABLE_1 and data.get("split") == "test" and not data.get("modified")
    return name if is_its else None


def family(result: Result) -> str | None:
    """The set under which the literature lists results on these images."""
    data = result.data
    is_whole = not data.get("modified") and (result.metric == "sample" or data.get("split") == "test")
    return FAMILIES.get(str(data.get("name"))) if is_whole else None


def column(row: SweepRow) -> str | None:
    """The column of the paper's tables that a row repeats: ``0`` (EDM), ``min``, ``0.1``, ``max``, ``1``."""
    if row.model in paper.OF_MODEL:
        return paper.OF_MODEL[row.model]
    gamma, eta = (row.threshold or {}).get("gamma"), row.eta
    if gamma is None or eta is None:
        return None
    low, high = paper.ETA_RANGE
    for end_word, end in (("min", -12.43), ("max", 5.0)):
        if abs(gamma - end) < ENDS_CLOSE:
            return end_word
    word = f"{round(eta, 6):g}"
    is_its = abs(gamma - (low + eta * (high - low))) < ENDS_CLOSE
    return word if is_its and word in paper.COLUMNS else None


def likelihood(result: Result, row: SweepRow) -> tuple[float, int] | None:
    """Table 1: bits/dim and evaluations."""
    name, word = set_of(result.data), column(row)
    return None if name is None or word is None else paper.TABLE_1[name][word]


def bound(result: Result, row: SweepRow) -> tuple[float, float] | None:
    """Table 5: bits/dim, mean and standard deviation of its ten runs."""
    name, word = set_of(result.data), column(row)
    if name is None or word is None:
        return None
    table = published()["table5"]
    position = table["columns"].index(word)
    return table[name]["mean"][position], table[name]["sd"][position]


def distance(result: Result, row: SweepRow) -> tuple[float, int | None] | None:
    """Table 2: FID and evaluations (256 steps of the ancestral sampler)."""
    name, word = str(result.data.get("name")), column(row)
    table = published()["table2"]
    if name not in table or word is None or result.sampler not in ("ode", "ancestral"):
        return None
    position = table["columns"].index(word)
    counts = table[name].get(f"{result.sampler}_evaluations")
    return table[name][result.sampler][position], 256 if counts is None else counts[position]
