"""The result of a training: a folder that loads as an expert, and one inside for each further mean."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from safetensors.torch import save

from merged_diffusion.data.images import Data
from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.runs.directory import Directory
from merged_diffusion.training.fitting import trainable
from merged_diffusion.training.learned_ends import with_ends
from merged_diffusion.training.loss_by_gamma import loss_profile
from merged_diffusion.training.state import TrainingState

WEIGHTS: Final = "model.safetensors"
CARD: Final = "card.toml"
MEAN: Final = "ema-"  # and the mean's name: a folder


def write_experts(
    folder: Directory, card: Card, state: TrainingState, seconds: float, held: Data, device: torch.device
) -> None:
    """The first mean is the folder's own expert, written last: a folder with a card is complete."""
    training = dict(card.training or {})
    training.pop("raised_from", None)  # the card given may be that of an expert that was raised
    training |= {"raised_from": state.raised_from} if state.raised_from else {}
    card = replace(card, training=training)
    first, *others = state.means.rules
    for rule in others:
        folder.make_folder(MEAN + rule.name)
        with folder.folder(MEAN + rule.name) as inner:
            named = replace(card, name=f"{card.name}-{MEAN}{rule.name}")
            _write(inner, named, state, rule.name, seconds, held, device)
    _write(folder, card, state, first.name, seconds, held, device)


def _write(
    folder: Directory,
    card: Card,
    state: TrainingState,
    mean: str,
    seconds: float,
    held: Data,
    device: torch.device,
) -> None:
    """Weights first, card last."""
    dtype = torch.float16 if card.precision == "float16" else torch.float32
    card, trained = with_ends(card, state.weights(mean))
    stored = {name: value.to(dtype).contiguous().cpu() for name, value in trained.items()}
    weights = save(stored)
    expert = trainable(card)
    expert.load_state_dict({name: value.float() for name, value in stored.items()})
    profile = loss_profile(expert.to(device).eval(), held)
    if not np.isfinite(profile.loss).all():
        raise CheckpointError(
            f"{card.name}: the loss of the last weights is not finite at gamma = "
            f"{profile.gamma[~np.isfinite(profile.loss)][0]:.4g}: the training diverged",
            hint="lower learning_rate, or state precision = 'float32' in the card if float16 overflowed",
        )
    results = {
        "images": profile.per_image.shape[1],
        "seconds": round(seconds, 1),
        "gamma": profile.gamma.tolist(),
        "loss": [round(float(v), 6) for v in profile.loss],
    }
    folder.write(WEIGHTS, weights)
    digest = hashlib.sha256(weights).hexdigest()
    folder.write(CARD, replace(card, sha256=digest, results=results).toml().encode())
