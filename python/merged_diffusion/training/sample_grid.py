"""A few images drawn from the running mean on the way, as one picture: how a training looks."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from merged_diffusion.data.mosaic import picture
from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.fence import fenced
from merged_diffusion.ode.machine import Machine
from merged_diffusion.runs.directory import Directory
from merged_diffusion.samplers import Dpmpp2m
from merged_diffusion.sampling import draw
from merged_diffusion.training.learned_ends import with_ends

log = logging.getLogger("merged_diffusion")

FOLDER: Final = "samples"
STEPS: Final = 20


def grid(card: Card, weights: Mapping[str, Tensor], n: int, device: torch.device) -> bytes:
    """The images of the ids 0 to n - 1 under ``weights``, as PNG; classes in turn."""
    with fenced():
        card, trained = with_ends(card, weights)
        expert = card.expert().eval()
        expert.load_state_dict({name: value.float() for name, value in trained.items()})
        classes = card.n_classes
        labels = np.arange(n) % classes if classes else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an expert in training denoises badly, and that is no news
            machine = Machine(device=str(device))
            samples = draw(expert, range(n), sampler=Dpmpp2m(steps=STEPS), machine=machine, labels=labels)
    stream = io.BytesIO()
    Image.fromarray(picture(samples.images, samples.levels)).save(stream, format="PNG")
    return stream.getvalue()


def write_grid(
    folder: Directory, card: Card, weights: Mapping[str, Tensor], n: int, device: torch.device, step: int
) -> None:
    """The grid of a step in the folder of a training; where it cannot be drawn, that is said and no error."""
    try:
        content = grid(card, weights, n, device)
    except MergedDiffusionError as error:
        log.warning("no samples at step %d: %s", step, error)
        return
    folder.make_folder(FOLDER)
    with folder.folder(FOLDER) as place:
        place.write(f"{step:09d}.png", content)
