"""Training of small experts: ``train(card, out)`` turns a recipe card into a folder that loads as an expert.

AdamW on the eps loss (likelihood experts) or Karras' denoising loss (quality experts), warm-up then cosine,
an exponential running mean of the weights. Everything random at a step is a function of (seed, step): a
training that was interrupted any number of times gives what an uninterrupted one gives.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from merged_diffusion.data import load_data
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import CheckpointError, DataError, RunLockedError, RunMismatchError, StorageError
from merged_diffusion.experts.card import Card, read_card
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.public_expert import PublicExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.folder import refuse_strangers
from merged_diffusion.runs.lock import Lock
from merged_diffusion.runs.places import make, unmake
from merged_diffusion.training.held_back import HeldBackLoss, table
from merged_diffusion.training.loss_by_gamma import Profile, loss_profile
from merged_diffusion.training.objectives import likelihood_loss, normal_gammas, quality_loss, uniform_gammas
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.state import TrainingState, is_raised, require_same

__all__ = ["Profile", "Recipe", "loss_profile", "train"]

CHECKPOINT: Final = "checkpoint.safetensors"
PROGRESS: Final = "progress.csv"
WEIGHTS: Final = "model.safetensors"
CARD: Final = "card.toml"
LOCK: Final = ".lock"
SAVE_SECONDS: Final = 30.0


def train(card: Path | str, out: Path, *, threads: int | None = None, progress: bool = True) -> Path:
    """Train what the recipe ``card`` describes into the folder ``out``.

    Goes on where an earlier call stopped. Ends with ``model.safetensors`` (the running mean, in the card's
    precision) and ``card.toml`` (with the hashes of data and weights, and the loss by gamma on the held-back
    images) in ``out``, which is returned. On the way ``progress.csv`` gets a row every ``report`` steps: the
    step, the loss (a running mean) and the held-back images' diffusion term in bits/dim.

    With more ``steps`` than before, a training goes on from its last step at the rate of the longer one; it
    is another than one of so many steps from the start, and the card says so (``raised_from``).

    Examples
    --------
    >>> import merged_diffusion as md
    >>> folder = md.train("recipes/digits-vdm.toml", "results/vdm")  # doctest: +SKIP
    >>> expert = md.load_expert("results/vdm")  # doctest: +SKIP
    """
    stated = read_card(card)
    recipe = Recipe.of(stated)
    out = Path(out)
    with _place(out) as folder, _threads(threads), fenced(grad=True):
        if (out / CARD).exists():
            done = read_card(out / CARD)
            if not is_raised(_identity(done), _identity(stated)):
                require_same(_identity(done), _identity(stated), out / CARD)
                return out
            if folder.status(CHECKPOINT) is None:
                raise RunMismatchError(
                    f"{out} was trained to its end, and its {CHECKPOINT}, from which more steps would go on, "
                    "is not there",
                    hint="use another --out to train from the start",
                )
        data = load_data(recipe.data, split="train")
        _check_data(stated, recipe, data)
        fit, held = hold_back(data)
        measured = _with_data(stated, data, fit)
        state, seconds = _fit(measured, Recipe.of(measured), fit, held, folder, progress)
        _write(measured, state, seconds, held, folder)
    return out


def _fit(
    card: Card, recipe: Recipe, fit: Data, held: Data, folder: Directory, progress: bool
) -> tuple[TrainingState, float]:
    """Steps until the last one; the checkpoint is written every half minute and at the end."""
    path, identity = folder.path / CHECKPOINT, _identity(card)
    expert = _trainable(card, recipe.seed)
    state = TrainingState(expert, ema=recipe.ema, weight_decay=recipe.weight_decay)
    if folder.status(CHECKPOINT) is not None:
        state.load(path, identity)
    look = HeldBackLoss(expert, held) if recipe.report else None
    started = saved = time.monotonic()
    expert.train()
    bar = tqdm(
        total=recipe.steps,
        initial=state.step,
        desc=card.name,
        unit="step",
        disable=not progress,
        file=sys.stderr,
    )
    with bar, torch.random.fork_rng(devices=[]):
        while state.step < recipe.steps:
            losses = _losses(expert, recipe, fit, state.step)
            value = state.descend(losses, recipe.rate(state.step), recipe.gradient_norm)
            if not math.isfinite(value):
                raise CheckpointError(
                    f"{card.name}: the loss is not finite at step {state.step}", hint="lower learning_rate"
                )
            bar.update()
            bar.set_postfix(state.shown, refresh=False)
            if look is not None and state.step % recipe.report == 0:
                state.rows.append([state.step, state.loss, look.bits_per_dim(state.mean)])
                state.save(folder, CHECKPOINT, identity)
                folder.write(PROGRESS, table(state.rows))
            if time.monotonic() - saved > SAVE_SECONDS:
                state.save(folder, CHECKPOINT, identity)
                saved = time.monotonic()
    state.save(folder, CHECKPOINT, identity)
    return state, time.monotonic() - started


def _losses(expert: VdmExpert | EdmExpert, recipe: Recipe, fit: Data, step: int) -> Iterator[Tensor]:
    """The loss of a batch, part by part; images, noise, noise levels and dropout follow from (seed, step)."""
    torch.manual_seed((recipe.seed << 32) + step + 1)
    chosen = torch.randint(len(fit), (recipe.batch,)).numpy()
    x = torch.from_numpy(pixel_values(fit.images[chosen], fit.levels, expert.pixels)).float()
    if recipe.flips:
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
    eps = torch.randn_like(x)
    if isinstance(expert, VdmExpert):
        gamma = uniform_gammas(len(x), expert.gamma_range)
    else:
        gamma = normal_gammas(len(x), expert.gamma_range, recipe.p_mean, recipe.p_std, recipe.p_uniform)
    for part in torch.arange(len(x)).view(recipe.accumulate, -1):
        rows = x[part], eps[part], gamma[part]
        loss = (
            likelihood_loss(expert, *rows) if isinstance(expert, VdmExpert) else quality_loss(expert, *rows)
        )
        yield loss / recipe.accumulate


def _write(card: Card, state: TrainingState, seconds: float, held: Data, folder: Directory) -> None:
    """Weights first, card last: a folder with a card is complete."""
    dtype = torch.float16 if card.precision == "float16" else torch.float32
    stored = {name: value.to(dtype) for name, value in state.mean.items()}
    weights = save(stored)
    expert = _trainable(card)
    expert.load_state_dict({name: value.float() for name, value in stored.items()})
    profile = loss_profile(expert.eval(), held)
    results = {
        "images": profile.per_image.shape[1],
        "seconds": round(seconds, 1),
        "gamma": profile.gamma.tolist(),
        "loss": [round(float(v), 6) for v in profile.loss],
    }
    folder.write(WEIGHTS, weights)
    digest = hashlib.sha256(weights).hexdigest()
    training = dict(card.training or {})
    training.pop("raised_from", None)  # the card given may be that of an expert that was raised
    training |= {"raised_from": state.raised_from} if state.raised_from else {}
    folder.write(CARD, replace(card, sha256=digest, training=training, results=results).toml().encode())


def _check_data(card: Card, recipe: Recipe, data: Data) -> None:
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


def _trainable(card: Card, seed: int = 0) -> VdmExpert | EdmExpert:
    """The expert of a card that is a recipe."""
    expert = card.expert(seed)
    if isinstance(expert, PublicExpert):
        raise CheckpointError(
            f"{card.name}: networks of kind {card.kind!r} are read, not trained",
            hint="a likelihood expert is of kind 'vdm', a quality expert of kind 'edm'",
            key="kind",
        )
    return expert


def _with_data(card: Card, data: Data, fit: Data) -> Card:
    """The card with what is known once the data are there."""
    training = dict(card.training or {}) | {"data_sha256": data.sha256}
    if card.kind != "edm" or card.data_std is not None:
        return replace(card, training=training)
    # Chunks, so that a large set does not become float64 at once.
    parts = [
        pixel_values(part, data.levels, card.pixels) for part in np.array_split(fit.images, 64) if len(part)
    ]
    n = sum(p.size for p in parts)
    mean = sum(float(p.sum()) for p in parts) / n
    variance = sum(float(((p - mean) ** 2).sum()) for p in parts) / n
    return replace(card, training=training, data_std=round(math.sqrt(variance), 4))


def _identity(card: Card) -> dict[str, object]:
    """What must agree between the parts of one training: all but what follows from it."""
    table: dict[str, object] = {f.name: getattr(card, f.name) for f in fields(card)}
    for apart in ("training", "sha256", "results", "data_std", "licence", "source", "clock"):
        del table[apart]
    training = dict(card.training or {})
    for apart in ("data_sha256", "report", "raised_from"):
        training.pop(apart, None)
    table |= {"image_shape": list(card.image_shape), "gamma_range": list(card.gamma_range)}
    return table | {f"training.{key}": value for key, value in training.items()}


@contextmanager
def _place(out: Path) -> Iterator[Directory]:
    """The directory of a training, for this process alone; one in which nothing was kept goes again."""
    made = make(out)
    refused = RunLockedError(f"another process trains in {out}", hint="wait for it, or use another --out")
    try:
        with Directory(out) as folder:
            if folder.status(CARD) is None:
                refuse_strangers(folder, CHECKPOINT, LOCK)
            try:
                with Lock(folder, LOCK).held(0.0, refused):
                    folder.remove_drafts([CHECKPOINT, PROGRESS, WEIGHTS, CARD])
                    yield folder
            except RunLockedError:
                raise
            except BaseException:
                with suppress(StorageError):
                    if not {CHECKPOINT, CARD} & set(folder.names()):
                        folder.remove([LOCK])
                raise
    except BaseException:
        unmake(made)
        raise


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
