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
    sha256 = team.from_first(lambda: None if own is None else own.sha256)

    def second() -> Data:
        if own is not None:
            return own
        kept = cached("training") if folder is None else folder
        if sha256 is not None and image_cache.is_kept(sha256, kept):
            return image_cache.mapped(sha256, kept, check=False)
        return _read(card, recipe, folder)

    def both() -> tuple[TrainImages, Data]:
        data = second()
        if data.sha256 != sha256:
            raise DataError(
                f"{recipe.data}/train: process {team.rank} has SHA-256 {data.sha256}, the first one {sha256}",
                hint="all machines of a training need the same files",
            )
        check_data(card, recipe, data)
        return _parted(recipe, data)

    return team.each(both)


def _read(card: Card, recipe: Recipe, folder: Path | None) -> Data:
    kept = cached("training") if folder is None else folder
    expected = recipe.data_sha256
    if expected is not None and image_cache.is_kept(expected, kept):
        return image_cache.mapped(expected, kept)
    data = load_data(recipe.data, "train", None if recipe.data in NAMES else _deep(card))
    if folder is not None or data.images.nbytes >= image_cache.LARGE:
        return image_cache.as_mapped(data, kept)
    return data


def _deep(card: Card) -> int | None:
    """Levels above 256, which a file never says by itself."""
    return card.levels if card.levels > 256 else None


def _parted(recipe: Recipe, data: Data) -> tuple[TrainImages, Data]:
    everything = np.arange(len(data))
    if recipe.held_back == "test":
        return TrainImages(data, everything), load_data(recipe.data, "test")
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


def check_data(card: Card, recipe: Recipe, data: Data) -> None:
    """Refuse images that are not the card's."""
    if recipe.data_sha256 is not None and recipe.data_sha256 != data.sha256:
        raise RunMismatchError(
            f"{recipe.data}/train has SHA-256 {data.sha256}, the card expects {recipe.data_sha256}",
            hint="remove data_sha256 from the card to train on these images",
        )
    shape = tuple(data.images.shape[1:])
    if (shape, data.levels) != (card.image_shape, card.levels):
        raise DataError(
            f"{recipe.data}: images {list(shape)} of {data.levels} levels, but the card states "
            f"{list(card.image_shape)} of {card.levels}",
            expected=list(card.image_shape),
            found=list(shape),
        )
    classes = int(card.network.get("label_dim", 0))
    if not classes:
        return
    if data.labels is None:
        raise DataError(
            f"{recipe.data}: the network wants one of {classes} classes with every image, and the set has no "
            "labels",
            hint="a folder or archive with labels (docs/data.md), or a card with labels = false",
            key="labels",
        )
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{recipe.data}: labels run from {low} to {high}, but the card states label_dim = {classes}",
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
