"""lucidrains' ``model-N.pt`` (denoising-diffusion-pytorch from 2.0 on): its U-Net and its table of steps.

Names and shapes tell the network. The objective is told by the weights of the loss, which the file holds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.checkpoints.read_as import ReadAs, unstated
from merged_diffusion.experts.public_expert import MOST_IN_CARD
from merged_diffusion.files.tensors import View, few

log = logging.getLogger("merged_diffusion")

PREFIX: Final = "ema_model."
OWN: Final = "downs.0.0.block1.proj.weight"
OBJECTIVES: Final = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}
TABLES: Final = ("sqrt_recipm1_alphas_cumprod", "loss_weight")
MOST_SNR: Final = 5.0  # of min-SNR weights, their default
N_MEMORY: Final = 4
BOTH: Final = (2, 6)  # channels of no image: twice those of one, in and out
FIRST_MEANS: Final = 100  # updates during which ema_pytorch's mean is a copy
LICENCE: Final = "of whoever trained it; denoising-diffusion-pytorch is MIT"


def state(value: Mapping[Any, Any], where: str) -> dict[str, View]:
    """Weights (``model.``) and tables of the running mean."""
    ema = value.get("ema")
    held = ema if isinstance(ema, dict) else {}
    found = {
        key.removeprefix(PREFIX): view
        for key, view in held.items()
        if isinstance(key, str) and key.startswith(PREFIX) and isinstance(view, View)
    }
    if not any(key.endswith(OWN) for key in found):
        raise CheckpointError(
            f"{where}: holds no running mean of the weights ({PREFIX}model...)",
            hint="raw weights are never evaluated by accident; its Trainer writes step, model, opt and ema",
            file=where,
        )
    step = held.get("step")
    n_updates = int(few(step, where).reshape(-1)[0]) if isinstance(step, View) and step.numel else None
    if n_updates is not None and n_updates <= FIRST_MEANS:
        log.warning("%s: its EMA has not begun (step %d): these are the raw weights", where, n_updates)
    return found


def words_of(card: Card) -> ReadAs:
    """The objective that a card states."""
    objectives = {predicts: word for word, predicts in OBJECTIVES.items()}
    known = card.kind == "ddpm" and card.predicts in objectives
    return ReadAs("lucidrains", {"objective": objectives[card.predicts]} if known else {})


def read(
    tensors: Mapping[str, Tensor], said: ReadAs | None, name: str, where: str
) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of a running mean."""
    missing = [key for key in TABLES if key not in tensors]
    if missing:
        raise CheckpointError(f"{where}: {', '.join(missing)} is missing beside the network", file=where)
    shapes = [list(tensors[key].shape) for key in TABLES]
    is_table = all(tensors[key].is_floating_point() for key in TABLES) and shapes[0] == shapes[1]
    if not is_table or len(shapes[0]) != 1 or not 2 <= shapes[0][0] <= MOST_IN_CARD:
        raise CheckpointError(
            f"{where}: {' and '.join(TABLES)} have the shapes {shapes[0]} and {shapes[1]}, where two lists "
            f"of 2 to {MOST_IN_CARD} floating numbers are needed, one a step",
            file=where,
        )
    weights = {key: value for key, value in tensors.items() if key.startswith("model.")}
    objective = _objective(tensors, said, where)
    gammas = 2 * tensors[TABLES[0]].double().log()
    if not bool(gammas.isfinite().all()) or not bool((gammas.diff() > 0).all()):
        raise CheckpointError(f"{where}: {TABLES[0]} is no rising table of steps", file=where)
    clock: dict[str, object] = {"gammas": gammas.tolist()}
    options = {} if said is None else said.options
    if options.get("whole_steps"):
        clock["whole_steps"] = True
    size = options.get("size", 0)
    channels, network = _network(weights, where)
    card = Card(
        name=name, kind="ddpm", predicts=OBJECTIVES[objective], time="timestep", input="vp", pixels="ends",
        levels=256, image_shape=(channels, size, size), clock=clock, network=network,
        gamma_range=(float(gammas[0]), float(gammas[-1])), licence=LICENCE,
        source="denoising-diffusion-pytorch", precision="float32",
    )  # fmt: skip
    return card, weights


def _objective(tensors: Mapping[str, Tensor], said: ReadAs | None, where: str) -> str:
    """What the weights of the loss belong to; contradicted or asked for where they leave a doubt."""
    snr = tensors[TABLES[0]].double() ** -2
    weights = tensors[TABLES[1]].double()
    fits = []
    for ceiling in (math.inf, MOST_SNR):
        shown = snr.clamp(max=ceiling)
        laws = {"pred_noise": shown / snr, "pred_x0": shown, "pred_v": shown / (snr + 1)}
        fits += [key for key, law in laws.items() if torch.allclose(law, weights, rtol=1e-2, atol=1e-6)]
    stated = None if said is None else said.options.get("objective")
    if stated is not None and fits and stated not in fits:
        raise CheckpointError(
            f"{where}: objective = {stated} is said, and the weights of its loss are those of {fits[0]}",
            file=where,
            expected=fits,
            found=stated,
        )
    if stated is None and len(set(fits)) != 1:
        raise unstated(where, said or ReadAs("lucidrains"), ["objective"])
    return stated or fits[0]


def _network(weights: Mapping[str, Tensor], where: str) -> tuple[int, dict[str, object]]:
    """Channels of the images, and the ``[network]`` table as names and shapes tell it."""
    named = {key.removeprefix("model."): value for key, value in weights.items()}
    if not any(key.endswith(".norm.g") for key in named) or not any(key.endswith(".mem_kv") for key in named):
        raise UnsupportedCheckpointError(
            f"{where}: a network of denoising-diffusion-pytorch before 2.0, which had other norms",
            hint="make its network in Python and declare it by CallableExpert.ddpm",
            file=where,
        )
    try:
        channels = named["final_conv.weight"].shape[0]
        first = named["init_conv.weight"]
        dim = named["time_mlp.1.weight"].shape[1]
        levels = sorted({int(key.split(".")[1]) for key in named if key.startswith("downs.")})
        last = levels[-1]
        widths = [named[f"downs.{n}.3.{'1.' if n < last else ''}weight"].shape[0] for n in levels]
        memories = [named[f"downs.{n}.2.mem_kv"].shape for n in levels]
        is_full = [f"downs.{n}.2.to_out.weight" in named for n in levels]
        spans = [named[f"downs.{n}.2.to_qkv.weight"].shape[0] for n in levels]
        heads = [shape[1] for shape in memories]
        if any(shape[2 if full else 3] != N_MEMORY for shape, full in zip(memories, is_full, strict=True)):
            raise ValueError("a memory of another size than 4")
        if any(width % dim for width in widths):
            raise ValueError(f"channels {widths} of a network of dim = {dim}")
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{where}: names or shapes are not those of its U-Net ({type(error).__name__}: {error})",
            hint="a network that was changed is declared by CallableExpert.ddpm",
            file=where,
        ) from error
    ways = {(1, 1): (False, False), (2, 1): (True, False), (1, 2): (False, True)}
    unit = min(first.shape[1], channels)
    if unit in BOTH and first.shape[1] == channels:
        unit, ways = unit // 2, {(2, 2): (True, True)}
    found = ways.get((first.shape[1] // unit, channels // unit))
    if found is None or first.shape[1] % unit or channels % unit:
        raise UnsupportedCheckpointError(
            f"{where}: a network of {first.shape[1]} channels in and {channels} out", file=where
        )
    return unit, {
        "architecture": "lucidrains",
        "dim": dim,
        "init_dim": first.shape[0],
        "dim_mults": [width // dim for width in widths],
        "channels": unit,
        "self_condition": found[0],
        "learned_variance": found[1],
        "full_attn": is_full,
        "attn_heads": heads,
        "attn_dim_head": [span // (3 * n) for span, n in zip(spans, heads, strict=True)],
    }
