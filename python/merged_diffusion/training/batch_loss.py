"""The loss of rows of a batch. What is random of a row is a function of (seed, step, row of the whole batch).

`draw_batch` draws the whole batch's images, mirrors, noise and noise levels from the generator of (seed,
step), as every process does; `loss_of_rows` computes the rows that a process or a part of it has. So any
number of devices and parts gives the same rows. Dropout alone is drawn where the rows are computed, from
(seed, step, first row): another number of parts has other masks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import home
from merged_diffusion.training.aims import Aim, Told
from merged_diffusion.training.objectives import likelihood_loss, normal_gammas, quality_loss, uniform_gammas
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.train_images import Integers, TrainImages, chosen_at

Trainable = VdmExpert | EdmExpert


@dataclass(frozen=True, eq=False)
class Batch:
    """What is random in a step, of all B rows; on the CPU."""

    step: int
    chosen: Integers  # [B], positions among the training images
    mirrored: Tensor | None  # bool [B, 1, 1, 1]
    eps: Tensor  # float32 [B, C, H, W]
    gamma: Tensor  # float64 [B]
    told: Told | None  # by an aim of the recipe's, whose gammas those are
    rest: Tensor  # the generator's state, from which the first rows' dropout goes on

    def __len__(self) -> int:
        return len(self.chosen)


@dataclass(frozen=True, eq=False)
class RowsLoss:
    """The mean loss over rows, with its graph; ``errors`` [rows] in eps, for a law that learns of them."""

    value: Tensor
    errors: Tensor | None = None


def draw_batch(
    expert: Trainable, recipe: Recipe, images: TrainImages, step: int, aim: Aim | None = None
) -> Batch:
    """All that is random in a step; ``aim`` None is the kind's usual loss and law."""
    generator = torch.Generator().manual_seed((recipe.seed << 32) + step + 1)
    n = recipe.batch
    chosen = chosen_at(recipe, len(images), step, generator)
    mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5 if recipe.flips else None
    eps = torch.randn(n, *images.data.images.shape[1:], generator=generator)
    told = None if aim is None else aim.draw(n, generator)
    if told is not None:
        gamma = told.gamma
    elif isinstance(expert, VdmExpert):
        gamma = uniform_gammas(n, expert.gamma_range, generator)
    else:
        law = recipe.p_mean, recipe.p_std, recipe.p_uniform
        gamma = normal_gammas(n, expert.gamma_range, *law, generator)
    return Batch(step, chosen, mirrored, eps, gamma, told, generator.get_state())


def loss_of_rows(
    expert: Trainable, recipe: Recipe, images: TrainImages, batch: Batch, rows: slice, aim: Aim | None = None
) -> RowsLoss:
    """The mean loss over ``rows`` of a batch, on the device and in the precision of the expert."""
    like = next(expert.parameters())
    x = images.x(batch.chosen[rows], expert.pixels)
    if batch.mirrored is not None:
        x = torch.where(batch.mirrored[rows], x.flip(3), x)
    x = x.to(like.device, like.dtype, non_blocking=True)
    eps = batch.eps[rows].to(like.device, like.dtype, non_blocking=True)
    gamma = batch.gamma[rows].to(home(like.device))
    seed_dropout(recipe, batch, rows.start or 0)
    labels = images.labels(batch.chosen[rows]) if expert.conditional else None
    cond = None if labels is None else labels.to(like.device)
    if aim is not None and batch.told is not None:
        losses, errors = aim.losses(expert, x, eps, batch.told.rows(rows), cond)
        return RowsLoss(losses.mean(), errors.detach())
    if isinstance(expert, VdmExpert):
        return RowsLoss(likelihood_loss(expert, x, eps, gamma))
    return RowsLoss(quality_loss(expert, x, eps, gamma, cond))


def seed_dropout(recipe: Recipe, batch: Batch, first: int) -> None:
    """Set torch's global generators for the rows from ``first`` on.

    The steps lie within the ``torch.random.fork_rng`` of `fit` or `cost`, which puts back the caller's.
    """
    text = f"dropout of {recipe.seed}, {batch.step}, {first}"
    torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
    if first == 0:
        torch.set_rng_state(batch.rest)
