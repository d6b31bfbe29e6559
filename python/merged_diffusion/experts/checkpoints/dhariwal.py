"""EDM's DhariwalUNet (ADM, Dhariwal and Nichol 2021) as OpenAI's network, which it is by other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.checkpoints.module_records import attributes, modules, unknown
from merged_diffusion.files import inert

# DhariwalUNet's names of a block's layers, and OpenAI's of the residual block and of the attention.
RESIDUAL: Final = {
    "norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1", "norm1": "out_layers.0",
    "conv1": "out_layers.3", "skip": "skip_connection",
}  # fmt: skip
PUBLISHED: Final = 64  # channels of a head
ATTENTION: Final = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}


def as_openai(
    network: inert.Record,
    table: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    shape: tuple[int, int, int],
    where: str,
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """DhariwalUNet as OpenAI's network: its table, and its tensors by the other names."""
    mults, n_blocks = table["channel_mult"], table["num_blocks"]
    if not isinstance(mults, list) or not mults or type(n_blocks) is not int or not 0 < n_blocks < 100:
        raise CheckpointError(f"{where}: channel_mult or num_blocks of its network is no number", file=where)
    if "model.out_conv.weight" not in tensors:
        raise CheckpointError(f"{where}: out_conv.weight of its DhariwalUNet is missing", file=where)
    levels = [
        level
        for level in range(len(mults))
        if any(
            f"model.dec.{(res := shape[1] >> level)}x{res}_block{n_blocks}.{key}.weight" in tensors
            for key in ("qkv",)
        )
    ]
    has_middle = f"model.dec.{_res(shape[1], len(mults) - 1)}_in0.qkv.weight" in tensors
    names = dict(_names(shape[1], len(mults), n_blocks, levels, has_middle))
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, part = key.removeprefix("model.").rsplit(".", 1)
        if part == "resample_filter":
            if not bool((tensor == 0.25).all()):
                raise unknown(where, "resample_filter", "not two equal taps", "[1, 1]")
            continue
        value = tensor
        if names.get(layer, "").endswith((".qkv", ".proj_out")) and part == "weight":
            value = tensor[..., 0]
        if layer == "map_label":
            value = tensor.T
        renamed[f"model.{names.get(layer, layer)}.{part}"] = value
    options = {
        "architecture": "openai", "model_channels": table["model_channels"], "channel_mult": mults,
        "channel_mult_emb": table["channel_mult_emb"], "num_res_blocks": n_blocks, "attention_levels": levels,
        "num_head_channels": _head_channels(network, where), "attention_order": "adm",
        "use_scale_shift_norm": True, "resblock_updown": True, "middle_attention": has_middle,
        "norm_channels": 4, "label_dim": table.get("label_dim", 0), "takes_no_class": True,
        "augment_dim": table.get("augment_dim", 0), "dropout": table["dropout"],
        "out_channels": int(tensors["model.out_conv.weight"].shape[0]),
    }  # fmt: skip
    return options, renamed


def _names(
    size: int, n_levels: int, n_blocks: int, levels: list[int], has_middle: bool
) -> Iterator[tuple[str, str]]:
    """Layers of DhariwalUNet and what OpenAI calls them."""

    def block(own: str, theirs: str, attention: str | None = None) -> Iterator[tuple[str, str]]:
        yield from ((f"{own}.{a}", f"{theirs}.{b}") for a, b in RESIDUAL.items())
        if attention is not None:
            yield from ((f"{own}.{a}", f"{attention}.{b}") for a, b in ATTENTION.items())

    yield from (("map_layer0", "time_embed.0"), ("map_layer1", "time_embed.2"), ("map_label", "label_emb"))
    yield from (("out_norm", "out.0"), ("out_conv", "out.2"))
    n = 0
    for level in range(n_levels):
        res = _res(size, level)
        if level == 0:
            yield f"enc.{res}_conv", "input_blocks.0.0"
        else:
            yield from block(f"enc.{res}_down", f"input_blocks.{n}.0")
        for i in range(n_blocks):
            n += 1
            yield from block(f"enc.{res}_block{i}", f"input_blocks.{n}.0", f"input_blocks.{n}.1")
        n += 1
    yield from block(f"dec.{res}_in0", "middle_block.0", "middle_block.1")
    yield from block(f"dec.{res}_in1", f"middle_block.{2 if has_middle else 1}")
    n = 0
    for level in reversed(range(n_levels)):
        res = _res(size, level)
        if level < n_levels - 1:
            last = 2 if level + 1 in levels else 1
            yield from block(f"dec.{res}_up", f"output_blocks.{n - 1}.{last}")
        for i in range(n_blocks + 1):
            yield from block(f"dec.{res}_block{i}", f"output_blocks.{n}.0", f"output_blocks.{n}.1")
            n += 1


def _res(size: int, level: int) -> str:
    return f"{size >> level}x{size >> level}"


def _head_channels(network: inert.Record, where: str) -> int:
    """Channels of a head, which every block states by its number of heads."""
    found = set()
    for side in ("enc", "dec"):
        holder = modules(attributes(network, where)).get(side)
        for block in modules(holder.state if isinstance(holder, inert.Record) else {}).values():
            state = block.state if isinstance(block, inert.Record) and isinstance(block.state, dict) else {}
            heads, channels = state.get("num_heads"), state.get("out_channels")
            if type(heads) is int and type(channels) is int and heads > 0:
                found.add((channels, heads))
    span = min((channels // heads for channels, heads in found), default=PUBLISHED)
    if any(span < 1 or channels // span != heads or channels % heads for channels, heads in found):
        shown = ", ".join(f"{heads} of {channels}" for channels, heads in sorted(found)[:6])
        raise unknown(
            where, "attention", f"in heads {shown} channels", "one number of channels for all blocks"
        )
    return span
