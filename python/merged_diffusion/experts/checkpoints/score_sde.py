"""score_sde_pytorch's ``checkpoint_N.pth`` (Song et al. 2021): DDPM++ and NCSN++, under EDM's names.

The network is one flat list of modules, told here by the members that each has. The running mean of the
weights is a list without names, in the order of those that were trained. Which SDE they belong to is in no
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, check_interval
from merged_diffusion.experts.checkpoints.read_as import ReadAs, unstated
from merged_diffusion.experts.checkpoints.sde_words import sde_facts
from merged_diffusion.experts.nets import ddpmpp
from merged_diffusion.experts.nets.ddpmpp_blocks import filter_of
from merged_diffusion.files.tensors import View

OWN: Final = "all_modules."
NAME: Final = re.compile(r"all_modules\.(0|[1-9][0-9]*)\.(.+)")
FIR: Final = (1, 3, 3, 1)
BOX: Final = (1, 1)
USUAL_SIZE: Final = 32
LICENCE: Final = "of whoever trained it; score_sde_pytorch is Apache-2.0"
MEMBERS: Final = {
    "GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1",
    "Conv_2": "skip",
}  # fmt: skip
PARTS: Final = ("weight", "bias")
OF_NAMES: Final = {"size", "fir", "pixels"}  # words that mean something without an SDE
Kind = Literal["fourier", "linear", "conv", "norm", "block", "change", "attention", "image"]
OF_BLOCK: Final = {f"{member}.{part}" for member in MEMBERS for part in PARTS}
OF_KIND: Final[Mapping[Kind, set[str]]] = {
    "fourier": {"W"}, "image": {f"Conv2d_0.{part}" for part in PARTS}, "block": OF_BLOCK, "change": OF_BLOCK,
    "attention": {f"NIN_{j}.{part}" for j in range(4) for part in "Wb"} | {f"GroupNorm_0.{p}" for p in PARTS},
}  # fmt: skip
Module = dict[str, Tensor]


def state(value: Mapping[Any, Any], where: str) -> dict[str, View]:
    """The running mean of the weights by name, with the buffers of the network."""
    # Of DataParallel, in which its networks are always trained.
    model = {
        key.removeprefix("module."): view for key, view in value["model"].items() if isinstance(key, str)
    }
    shadow = value["ema"].get("shadow_params") if isinstance(value.get("ema"), dict) else None
    if not isinstance(shadow, list):
        raise CheckpointError(
            f"{where}: holds no running mean of the weights (ema, shadow_params)",
            hint="raw weights are never evaluated by accident",
            file=where,
        )
    fixed = ("sigmas", "all_modules.0.W")
    trained = [key for key in model if key not in fixed]
    if len(trained) != len(shadow) or any(
        not isinstance(mean, View) or not isinstance(own := model[key], View) or mean.shape != own.shape
        for key, mean in zip(trained, shadow, strict=False)
    ):
        raise CheckpointError(
            f"{where}: {len(shadow)} means of weights for {len(trained)} weights, or of other shapes",
            hint="they have no names, and belong to the weights by their order",
            file=where,
        )
    kept = {key: model[key] for key in fixed if isinstance(model.get(key), View)}
    return dict(zip(trained, shadow, strict=True)) | kept


def words_of(card: Card) -> ReadAs:
    """What a card says of the names: the size, and how resolutions change."""
    taps = {**ddpmpp.usual(card.network), **card.network}.get("resample_filter", BOX)
    size = card.image_shape[1]
    is_fir = list(cast("Sequence[float]", taps)) == list(FIR)
    return ReadAs("score_sde", {"fir": is_fir} | ({"size": size} if size else {}))


def read(
    tensors: Mapping[str, Tensor], said: ReadAs | None, stated: Card | None, name: str, where: str
) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict, under EDM's names, of a network's weights; ``stated`` where no SDE is said."""
    options = {} if said is None else said.options
    if "sde" not in options and (stated is None or options.keys() - OF_NAMES):
        raise unstated(where, said or ReadAs("score_sde"), ["sde"])
    size = options.get("size", USUAL_SIZE)
    try:
        modules = _modules(tensors)
        kinds = [_kind(module) for module in modules]
        is_fourier = kinds[0] == "fourier"
        # The image's own way down is made with the filter only.
        taps = FIR if options.get("fir", is_fourier or "image" in kinds) else BOX
        table, renamed = _walk(modules, kinds, size, taps)
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise UnsupportedCheckpointError(
            f"{where}: not a network of score_sde_pytorch in its form NCSN++ or DDPM++ "
            f"({type(error).__name__}: {error})",
            hint="its networks ddpm and ncsnv2 are declared by CallableExpert",
            file=where,
        ) from error
    if "sde" not in options and stated is not None:
        return stated, renamed
    channels = int(renamed[f"model.enc.{size}x{size}_conv.weight"].shape[1])
    network = {"architecture": "ncsnpp" if is_fourier else "ddpmpp", **table, "resample_filter": list(taps)}
    network |= {"embedding_type": "fourier" if is_fourier else "positional"}
    facts = sde_facts(options, tensors, is_fourier, where)
    low, high = facts["gamma_range"]
    check_interval(low, high, where)
    card = Card(
        name=name, pixels="ends", levels=256, image_shape=(channels, size, size), network=network,
        licence=LICENCE, source="score_sde_pytorch", precision="float32", **facts,
    )  # fmt: skip
    return card, renamed


def _modules(tensors: Mapping[str, Tensor]) -> list[Module]:
    """The modules in their order, each by the names of its members."""
    found: dict[int, Module] = {}
    for key, tensor in tensors.items():
        match = NAME.fullmatch(key)
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = tensor
        elif key != "sigmas":
            raise ValueError(f"{key[:60]} is none of its names")
    return [found[n] for n in range(len(found))]


def _kind(module: Module) -> Kind:
    if "W" in module:
        return "fourier"
    if "NIN_0.W" in module:
        return "attention"
    if "Conv2d_0.weight" in module:
        return "image"
    if "Dense_0.weight" in module:
        c_out, c_in = module["Conv_0.weight"].shape[:2]
        return "change" if c_in == c_out and "Conv_2.weight" in module else "block"
    axes: Kind = ("norm", "linear", "conv", "conv")[module["weight"].dim() - 1]
    return axes


def _walk(
    modules: Sequence[Module], kinds: Sequence[Kind], size: int, taps: Sequence[float]
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """The ``[network]`` table and the renamed tensors, module by module in the order of use."""
    n_levels = 1 + kinds.count("change") // 2
    n_blocks, rest = divmod(kinds.count("block") - 2 - n_levels, 2 * n_levels)
    if rest or n_blocks < 1 or kinds.count("change") % 2:
        raise ValueError(f"{kinds.count('block')} blocks in {n_levels} levels")
    parts = iter(zip(kinds, modules, strict=True))
    out: dict[str, Tensor] = {}
    ahead: list[tuple[Kind, Module]] = []

    def take(kind: Kind, name: str) -> Module:
        found, module = ahead.pop() if ahead else next(parts)
        if found != kind:
            raise ValueError(f"{name}: a {found} where a {kind} is expected")
        if strange := sorted(module.keys() - OF_KIND.get(kind, set(PARTS))):
            raise ValueError(f"{name}: a {kind} has no {strange[0][:60]}")
        out.update(_renamed(module, kind, f"model.{name}", taps))
        return module

    def attends(name: str) -> bool:
        """Whether attention follows, which belongs to the block ``name``."""
        if not ahead:
            ahead.extend(part for part in [next(parts, None)] if part is not None)
        is_next = bool(ahead) and ahead[-1][0] == "attention"
        if is_next:
            take("attention", name)
        return is_next

    if kinds[0] == "fourier":
        take("fourier", "map_noise")
    width = take("linear", "map_layer0")["weight"].shape[0]
    take("linear", "map_layer1")
    top = f"{size}x{size}"
    first = take("conv", f"enc.{top}_conv")["weight"].shape[0]
    widths, heights, is_residual = [], [], kinds.count("image") > 0
    for level in range(n_levels):
        res = f"{size >> level}x{size >> level}"
        if level > 0:
            take("change", f"enc.{res}_down")
            if is_residual:
                take("image", f"enc.{res}_aux_residual")
        has_attention = False
        for i in range(n_blocks):
            c = take("block", f"enc.{res}_block{i}")["Conv_0.weight"].shape[0]
            has_attention = attends(f"enc.{res}_block{i}")
        widths.append(c)
        heights += [size >> level] if has_attention else []
    take("block", f"dec.{res}_in0")
    attends(f"dec.{res}_in0")
    take("block", f"dec.{res}_in1")
    for level in reversed(range(n_levels)):
        res = f"{size >> level}x{size >> level}"
        if level < n_levels - 1:
            take("change", f"dec.{res}_up")
        for i in range(n_blocks + 1):
            take("block", f"dec.{res}_block{i}")
        attends(f"dec.{res}_block{n_blocks}")
    take("norm", f"dec.{top}_aux_norm")
    take("conv", f"dec.{top}_aux_conv")
    if ahead or next(parts, None) is not None:
        raise ValueError("more modules than a network of its levels has")
    return {
        "model_channels": first,
        "channel_mult": [_whole(c, first) for c in widths],
        "channel_mult_emb": _whole(width, first),
        "channel_mult_noise": 2 if kinds[0] == "fourier" else 1,
        "num_blocks": n_blocks,
        "attn_resolutions": heights,
        "encoder_type": "residual" if is_residual else "standard",
    }, out


def _whole(width: int, first: int) -> int:
    factor, rest = divmod(width, first)
    if rest:
        raise ValueError(f"{width} channels are no multiple of {first}")
    return factor


def _renamed(module: Module, kind: Kind, name: str, taps: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    """The members of a module under EDM's names, with the filter of what changes the resolution."""
    if kind == "fourier":
        yield f"{name}.freqs", module["W"]
    elif kind == "attention":
        yield from _attention(module, name)
    elif kind in ("block", "change"):
        for member, own in MEMBERS.items():
            for part in ("weight", "bias"):
                if f"{member}.{part}" in module:
                    yield f"{name}.{own}.{part}", module[f"{member}.{part}"]
        if kind == "change":
            yield from ((f"{name}.{own}.resample_filter", filter_of(taps)) for own in ("conv0", "skip"))
    elif kind == "image":
        yield from ((f"{name}.{part}", module[f"Conv2d_0.{part}"]) for part in ("weight", "bias"))
        yield f"{name}.resample_filter", filter_of(taps)
    else:
        yield from ((f"{name}.{part}", module[part]) for part in ("weight", "bias"))


def _attention(module: Module, name: str) -> Iterator[tuple[str, Tensor]]:
    """Three matrices [in, out] as one convolution in which a channel's q, k and v are neighbours."""
    weights = torch.stack([module[f"NIN_{j}.W"].T for j in range(3)], dim=1)
    biases = torch.stack([module[f"NIN_{j}.b"] for j in range(3)], dim=1)
    yield from ((f"{name}.norm2.{part}", module[f"GroupNorm_0.{part}"]) for part in ("weight", "bias"))
    yield f"{name}.qkv.weight", weights.flatten(0, 1)[:, :, None, None]
    yield f"{name}.qkv.bias", biases.flatten()
    yield f"{name}.proj.weight", module["NIN_3.W"].T[:, :, None, None]
    yield f"{name}.proj.bias", module["NIN_3.b"]
