"""The images of a training: read, mapped from a file where they are many, checked against card and recipe."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.catalogue.cache import cached
from merged_diffusion.data import NAMES, load_data
from merged_diffusion.data.bundled import is_held_back
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import DataError, RunMismatchError
from merged_diffusion.experts.card import Card
from merged_diffusion.training import image_cache
from merged_diffusion.training.processes import Team
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.train_images import TrainImages

CHUNKS: Final = 64  # of a set, for its standard deviation


def train_data(card: Card, recipe: Recipe, folder: Path | None, team: Team) -> tuple[TrainImages, Data]:
    """The images to fit to, and those that are held back; the same in every process.

    The first process of each machine reads the set; where it is large, or ``folder`` was named, the others
    map the file that the first one wrote.
    """
    leads = team.local == 0
    own = team.each(lambda: _read(card, recipe, folder) if leads else None)
    key = team.from_first(lambda: None if own is None else image_cache.key_of(own))

    def second() -> Data:
        if own is not None:
            return own
        kept = cached("training") if folder is None else folder
        if key is not None and image_cache.is_kept(key, kept):
            # The first process of this machine has just written or checked it.
            return image_cache.mapped(key, kept, check=False)
        return _read(card, recipe, folder)

    def both() -> tuple[TrainImages, Data]:
        data = second()
        if image_cache.key_of(data) != key:
            raise DataError(
                f"{recipe.data}/train: process {team.rank} has other images, ids, labels or clusters than "
                f"the first one; SHA-256 of its images: {data.sha256}",
                hint="all machines of a training need the same files",
            )
        check_data(card, recipe, data)
        return _parted(card, recipe, data)

    return team.each(both)


def _read(card: Card, recipe: Recipe, folder: Path | None) -> Data:
    data = _loaded(card, recipe, "train")
    if folder is not None or data.images.nbytes >= image_cache.LARGE:
        return image_cache.as_mapped(data, cached("training") if folder is None else folder)
    return data


def _loaded(card: Card, recipe: Recipe, split: str) -> Data:
    """A split of the recipe's set; levels above 256 are the card's, for a file never says them by itself."""
    levels = card.levels if card.levels > 256 and recipe.data not in NAMES else None
    return load_data(recipe.data, split, levels, variant=recipe.variant)


def _parted(card: Card, recipe: Recipe, data: Data) -> tuple[TrainImages, Data]:
    everything = np.arange(len(data))
    if recipe.held_back == "test":
        return TrainImages(data, everything), _tested(card, recipe, data)
    if recipe.held_back is None:
        is_held = is_held_back(data)
    else:
        is_held = everything >= len(data) - int(recipe.held_back)
    if is_held.all() or not is_held.any():
        raise DataError(
            f"{recipe.data}: {int(is_held.sum())} of {len(data)} images are held back, which leaves "
            f"{'none to fit to' if is_held.all() else 'none to look at'}",
            hint="state held_back in [training]: a number of images, or 'test'",
        )
    return TrainImages(data, everything[~is_held]), data.where(is_held)


def _tested(card: Card, recipe: Recipe, data: Data) -> Data:
    """The split test, where it is one: a path without names for splits gives the same images for any."""
    held = _loaded(card, recipe, "test")
    if held.sha256 == data.sha256:
        raise DataError(
            f"{recipe.data}: held_back = 'test', but its split test is the images that are fitted to",
            hint="name a set whose files tell train from test, or state held_back as a number of images",
            key="held_back",
        )
    check_images(card, recipe, held)
    return held


def check_data(card: Card, recipe: Recipe, data: Data) -> None:
    """Refuse images to fit to that are not the card's."""
    if recipe.data_sha256 is not None and recipe.data_sha256 != data.sha256:
        raise RunMismatchError(
            f"{recipe.data}/train has SHA-256 {data.sha256}, the card expects {recipe.data_sha256}",
            hint="remove data_sha256 from the card to train on these images",
        )
    check_images(card, recipe, data)


def check_images(card: Card, recipe: Recipe, data: Data) -> None:
    """Refuse a split whose shape, levels or labels are not the card's."""
    where = f"{recipe.data}/{data.split}"
    shape = tuple(data.images.shape[1:])
    if (shape, data.levels) != (card.image_shape, card.levels):
        raise DataError(
            f"{where}: images {list(shape)} of {data.levels} levels, but the card states "
            f"{list(card.image_shape)} of {card.levels}",
            expected=list(card.image_shape),
            found=list(shape),
        )
    classes = card.n_classes
    if not classes:
        return
    if data.labels is None:
        raise DataError(
            f"{where}: the network wants one of {classes} classes with every image, and the set has no "
            "labels",
            hint="a folder or archive with labels (docs/data.md), or a card with labels = false",
            key="labels",
        )
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: labels run from {low} to {high}, but the card states label_dim = {classes}",
            hint=f"label_dim = {high + 1} has room for them",
            key="labels",
        )


def with_data(card: Card, images: TrainImages) -> Card:
    """The card with what is known once the data are there."""
    data = images.data
    training = dict(card.training or {}) | {"data_sha256": data.sha256}
    if card.kind != "edm" or card.data_std is not None:
        return replace(card, training=training)
    # Chunks, so that a large set does not become float64 at once.
    chunks = [part for part in np.array_split(images.positions, CHUNKS) if len(part)]
    n = len(images) * int(np.prod(card.image_shape))
    mean = sum(float(pixel_values(data.images[c], data.levels, card.pixels).sum()) for c in chunks) / n
    variance = (
        sum(
            float(((pixel_values(data.images[c], data.levels, card.pixels) - mean) ** 2).sum())
            for c in chunks
        )
        / n
    )
    return replace(card, training=training, data_std=round(math.sqrt(variance), 4))
