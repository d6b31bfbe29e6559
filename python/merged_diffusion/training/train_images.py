"""The images that a network is fitted to, and which of them a step sees.

``draws`` takes each image of a batch from all, with replacement. ``epochs`` goes through an order of all that
is a function of (seed, epoch): position p of the whole training is image p mod n of epoch p div n. Neither
knows of devices or interruptions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.data.images import Data, Pixels, pixel_values
from merged_diffusion.training.recipe import Recipe

SHUFFLE: Final = 0x0EB0C4  # so that an order shares no seed with another use of (seed, number)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainImages:
    """Those at ``positions`` [n] of a set, which may be mapped from a file and is never copied."""

    data: Data
    positions: Integers

    def __len__(self) -> int:
        return len(self.positions)

    def x(self, chosen: Integers, pixels: Pixels) -> Tensor:
        """The images ``chosen`` [B] of them as a network sees them, float32 [B, C, H, W] in [-1, 1]."""
        images = self.data.images[self.positions[chosen]]
        return torch.from_numpy(pixel_values(images, self.data.levels, pixels)).float()

    def labels(self, chosen: Integers) -> Tensor | None:
        """Their classes, int64 [B], where the set has some."""
        labels = self.data.labels
        return None if labels is None else torch.from_numpy(labels[self.positions[chosen]])

    @property
    def labels_sha256(self) -> str:
        """A hash of the whole set's classes; empty where it has none."""
        labels = self.data.labels
        return "" if labels is None else hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()

    def ids(self, chosen: Integers) -> Integers:
        """Their stable numbers [B]."""
        return self.data.ids[self.positions[chosen]]


def chosen_at(recipe: Recipe, n: int, step: int, generator: torch.Generator) -> Integers:
    """Which of ``n`` images a step sees [batch]; ``generator`` is that of the step."""
    if recipe.order == "draws":
        drawn: Integers = torch.randint(n, (recipe.batch,), generator=generator).numpy()
        return drawn
    place = np.arange(step * recipe.batch, (step + 1) * recipe.batch)
    chosen = np.empty(recipe.batch, dtype=np.int64)
    for epoch in range(int(place[0]) // n, int(place[-1]) // n + 1):
        inside = place // n == epoch
        chosen[inside] = shuffled(recipe.seed, epoch, n)[place[inside] % n]
    return chosen


@lru_cache(maxsize=2)
def shuffled(seed: int, epoch: int, n: int) -> Integers:
    """The order of ``n`` images in an epoch [n]."""
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, epoch & 0xFFFFFFFF, SHUFFLE]
    return np.random.RandomState(words).permutation(n).astype(np.int64)
