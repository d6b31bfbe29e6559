"""Files of OpenAI's U-Net: improved-diffusion, guided-diffusion (a bare state dict) and TorchCFM.

Names and shapes tell the network but for its heads of attention, how q, k and v lie in its channels and the
groups of its normalisations; nothing tells its schedule. Those are read as the user says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.checkpoints.read_as import ReadAs, unstated
from merged_diffusion.experts.public_expert import steps_range
from merged_diffusion.files.tensors import View

Views = Mapping[str, View]
# Names under which OpenAI published them; the weights are a denoiser's by names and shapes.
CONSISTENCY: Final = re.compile(r"c[dt]_(imagenet64|bedroom256|cat256)(_l2|_lpips)?\.pt")
GROUPS: Final = 32
BESIDE_A_CARD: Final = {"size", "pixels"}  # words that may stand alone where a card says the rest
FLOW_RANGE: Final = (-13.3, 9.0)  # t from 0.9987 to 0.011; beyond them lie few times of the training
OWN: Final = "input_blocks.0.0.weight"
UPSAMPLER: Final = re.compile(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers\.0)\.weight")
SIDES: Final = ("input", "output")
BLOCK: Final = re.compile(r"(input|output)_blocks\.(\d+)\.")
LICENCE: Final = "of whoever trained it; the code of the network is MIT"


def words_of(card: Card) -> ReadAs:
    """What a card says of the images; the rest is compared with what words make of the file."""
    size = card.image_shape[1]
    return ReadAs("torchcfm" if card.kind == "flow" else "openai", {"size": size} if size else {})


def refuse_consistency(path: Path) -> None:
    """Refuse a published consistency model (Song et al. 2023), which is no denoiser."""
    if CONSISTENCY.fullmatch(path.name):
        raise UnsupportedCheckpointError(
            f"{path}: by its name a consistency model, whose network leads from noise to an image in one "
            "step and predicts no noise: it has no likelihood by the probability-flow ODE",
            hint="name the diffusion model that it was distilled from; a file of your own needs another name",
            file=str(path),
        )


def card(views: Views, said: ReadAs, name: str, where: str) -> Card:
    """What a state dict and ``said`` make of it."""
    network = _network(views, where) | _attention(views, said, where)
    network |= {"norm_groups": said.options.get("groups", GROUPS)}
    size = said.options.get("size", 0)
    is_flow = said.family == "torchcfm"
    clock = _flow_clock(said, where) if is_flow else _step_clock(said, where)
    predicts = "x0-minus-eps" if is_flow else said.options.get("predicts", "eps")
    return Card(
        name=name,
        kind="flow" if is_flow else "ddpm",
        predicts=predicts,
        time="t01" if is_flow else "timestep",
        input="flow" if is_flow else "vp",
        pixels="ends",
        levels=256,
        image_shape=(views[OWN].shape[1], size, size),
        gamma_range=FLOW_RANGE if is_flow else steps_range(clock),
        network=network,
        clock=clock,
        labels=bool(network["label_dim"]),
        licence=LICENCE,
        source="TorchCFM" if is_flow else "OpenAI's diffusion models",
        precision="float32",
    )


def _flow_clock(said: ReadAs, where: str) -> dict[str, object]:
    if "model" not in said.options:
        raise unstated(where, said, ["model"])
    clock: dict[str, object] = {"data_at": 1, "scale": 1.0}
    return clock | ({"coupled": True} if said.options["model"] == "otcfm" else {})


def _step_clock(said: ReadAs, where: str) -> dict[str, object]:
    needed = [key for key in ("schedule", "steps", "rescaled") if key not in said.options]
    if needed:
        raise unstated(where, said, needed)
    flags = {key: True for key in ("rescaled", "whole_steps") if said.options.get(key)}
    return {"schedule": said.options["schedule"], "steps": said.options["steps"], **flags}


def _network(views: Views, where: str) -> dict[str, object]:
    """The ``[network]`` table as far as names and shapes tell it."""
    try:
        embedding, model_channels = views["time_embed.0.weight"].shape
        channels, n_out = views[OWN].shape[1], views["out.2.weight"].shape[0]
        numbers = {side: {int(m[2]) for m in map(BLOCK.match, views) if m and m[1] == side} for side in SIDES}
        n_blocks = max(numbers["output"]) + 1
        upsamplers = {int(m[1]): m[2] for m in map(UPSAMPLER.match, views) if m}
        # Without parameters they show as numbers that no layer on the way down has.
        gaps = max(numbers["input"]) + 1 - len(numbers["input"])
        n_levels = 1 + (len(upsamplers) or gaps)
        per_level, rest = divmod(n_blocks, n_levels)
        if rest or max(numbers["input"]) + 1 != n_blocks:
            raise ValueError(f"{n_blocks} blocks in {n_levels} levels")
        first = [n_blocks - (level + 1) * per_level for level in range(n_levels)]
        widths = [views[f"output_blocks.{n}.0.out_layers.3.weight"].shape[0] for n in first]
        scales = views["middle_block.0.emb_layers.1.weight"].shape[0]
        is_scaled = scales == 2 * views["middle_block.0.out_layers.3.weight"].shape[0]
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{where}: names or shapes are not those of OpenAI's U-Net ({type(error).__name__}: {error})",
            hint="a classifier, or a network that was changed: declare it by CallableExpert",
            file=where,
        ) from error
    if n_out not in (channels, 2 * channels):
        raise UnsupportedCheckpointError(
            f"{where}: a network of {channels} channels in and {n_out} out; an upsampler has 6, of which 3 "
            "are a smaller image",
            hint="name a model of whole images",
            file=where,
        )
    return {
        "architecture": "openai",
        "model_channels": model_channels,
        "channel_mult": [_factor(width, model_channels) for width in widths],
        "channel_mult_emb": embedding // model_channels,
        "num_res_blocks": per_level - 1,
        "attention_levels": [
            level for level, n in enumerate(first) if f"output_blocks.{n}.1.qkv.weight" in views
        ],
        "use_scale_shift_norm": is_scaled,
        "resblock_updown": "conv" not in upsamplers.values() and bool(upsamplers),
        "conv_resample": not gaps,
        "middle_attention": "middle_block.2.in_layers.0.weight" in views,
        "label_dim": views["label_emb.weight"].shape[0] if "label_emb.weight" in views else 0,
        "out_channels": n_out,
    }


def _factor(width: int, model_channels: int) -> float:
    return width // model_channels if width % model_channels == 0 else width / model_channels


def _attention(views: Views, said: ReadAs, where: str) -> dict[str, object]:
    """What is said of heads; asked for where the network attends."""
    options = said.options
    if not any(key.endswith(".qkv.weight") for key in views):
        return {}
    if "heads" in options and "head_channels" in options:
        raise CheckpointError(
            f"{where}: heads = {options['heads']} and head_channels = {options['head_channels']} are said",
            hint="say the number of heads, or the channels of each",
            file=where,
        )
    if "heads" not in options and "head_channels" not in options:
        raise unstated(where, said, ["heads"] + ([] if "order" in options else ["order"]))
    is_single = options.get("heads") == 1 and options.get("heads_upsample", 1) == 1
    if "order" not in options and not is_single:
        raise unstated(where, said, ["order"])
    span = options.get("head_channels", 1)
    shapes = [view.shape for key, view in views.items() if key.endswith(".qkv.weight")]
    widths = {shape[1] for shape in shapes if len(shape) > 1}
    if any(width % span for width in widths):
        raise CheckpointError(
            f"{where}: head_channels = {span} is said, and it attends over {sorted(widths)[:8]} channels",
            hint="channels of a head divide those of each attention",
            file=where,
            key="read_as",
        )
    return {
        "num_heads": options.get("heads", 1),
        "num_head_channels": options.get("head_channels", 0),
        "num_heads_upsample": options.get("heads_upsample", 0),
        "attention_order": options.get("order", "legacy"),
    }
