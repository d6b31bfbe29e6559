"""Checkpoint files of the public families at reduced size, with what has to be said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

REFERENCE = Path(__file__).parents[1] / "reference"
# By folder: the words, None where the file says all itself.
SAID = {
    "edm-nets/adm": None,
    "edm-nets/iddpm": "edm:whole_steps",
    "edm-nets/ncsnpp": None,
    "edm-nets/ve": None,
    "edm-nets/vp": None,
    "edm2/cond": None,
    "lucidrains/v-sigmoid": None,
    "lucidrains/x0-cosine": None,
    "openai/guided-cond": "openai:head_channels=4,order=new,cosine,steps=1000,rescaled=no,groups=2",
    "openai/improved-uncond": "openai:heads=2,order=legacy,cosine,steps=4000,rescaled,groups=2",
    "openai/guided-32groups": "openai:heads=4,order=legacy,linear,steps=1000,rescaled=no",
    "torchcfm/icfm": "torchcfm:icfm,head_channels=4,order=legacy,groups=2",
    "score-sde/ddpmpp-vp": "score_sde:vp,size=8",
    "score-sde/like-vp": "score_sde:vp,size=8",
    "score-sde/ncsnpp-ve": "score_sde:ve,size=8",
}


def vectors(name):
    with np.load(REFERENCE / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def config(name):
    return json.loads((REFERENCE / name / "config.json").read_text())


def checkpoint(name, folder):
    """The public file, or one of the same form in ``folder`` where only the weights are kept."""
    found = sorted((REFERENCE / name).glob("checkpoint.*"))
    if found:
        return found[0]
    tensors = load_file(REFERENCE / name / "weights.safetensors")
    family = name.split("/")[0]
    path = folder / f"{name.replace('/', '-')}.pt"
    if family == "openai":
        torch.save({key: torch.nn.Parameter(value) for key, value in tensors.items()}, path)
    elif family == "score-sde":
        torch.save(score_sde(tensors), path)
    else:
        torch.save(lucidrains(tensors), path)
    return path


def score_sde(tensors):
    """A dict as save_checkpoint writes it; the weights of the training are others than their means."""
    trained = [key for key in tensors if key not in ("sigmas", "all_modules.0.W")]
    model = {f"module.{key}": value + 1 if key in trained else value for key, value in tensors.items()}
    ema = {"decay": 0.999, "num_updates": 3, "shadow_params": [tensors[key] for key in trained]}
    return {"optimizer": {"state": {}, "param_groups": []}, "model": model, "ema": ema, "step": 3}


def lucidrains(tensors):
    """A dict as its Trainer writes it; likewise."""
    ema = {"initted": torch.tensor(True), "step": torch.tensor(200)}
    ema |= {f"ema_model.{key}": value for key, value in tensors.items()}
    ema |= {f"online_model.{key}": value for key, value in tensors.items()}
    model = {key: value + 1 if value.is_floating_point() else value for key, value in tensors.items()}
    return {"step": 200, "model": model, "opt": {}, "ema": ema, "scaler": None, "version": "2.3.1"}
