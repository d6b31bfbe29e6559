"""Google's VDM and i-DODE: ``ckpt-N.flax``, msgpack of nested dicts of arrays (Kingma et al. 2021).

The learned ends of gamma stand in the file; the network's own clock runs over the configuration's [-13.3, 5].
Names become those of addtt's port of the network, whose layout `nets.vdm_unet` has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, Literal

import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, check_interval
from merged_diffusion.files.msgpacks import Array, entry

CONFIGURED: Final = (-13.3, 5.0)
EXPONENTS: Final = (6, 7)
NORM_EPS: Final = 1e-6
LICENCE: Final = "Apache-2.0 where Google published it; i-DODE's code is MIT"
RESNET: Final = {
    "GroupNorm_0": "net1.0",
    "conv1": "net1.2",
    "cond_proj": "cond_proj",
    "GroupNorm_1": "net2.0",
    "conv2": "net2.{last}",
    "nin_shortcut": "skip_conv",
}
LAST: Final = 3  # of net2: behind a dropout, which the public networks have


def read(
    stream: BinaryIO, where: str, name: str, *, predicts: Literal["eps", "velocity"] = "eps"
) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of the EMA parameters of a checkpoint."""
    keys, params = entry(stream, "ema_params", where)
    if not isinstance(params, dict):
        raise UnsupportedCheckpointError(
            f"{where}: holds {sorted(keys)[:8]}, but no ema_params that is a map",
            hint="raw params are never evaluated by accident; a checkpoint of VDM's training has both",
            file=where,
        )
    network = params.get("score_model")
    if not isinstance(network, dict):
        raise UnsupportedCheckpointError(f"{where}: ema_params has no score_model", file=where)
    state = dict(_renamed(network, where))
    return _card(network, _ends(params.get("gamma"), where), name, where, predicts), state


def _ends(gamma: Any, where: str) -> tuple[float, float]:
    """gamma(0) and gamma(1) of a fixed, a linear or a monotone schedule."""
    if gamma is None or gamma == {}:
        return CONFIGURED
    keys = sorted(map(str, gamma)) if isinstance(gamma, dict) else [type(gamma).__name__]
    if keys == ["b", "w"]:
        width, start = (_numbers(gamma[key], where, 1) for key in ("w", "b"))
        ends = float(start), float(start + width.abs())
    elif keys == ["l1", "l2", "l3"]:
        ends = _monotone(gamma, 0.0, where), _monotone(gamma, 1.0, where)
    else:
        raise UnsupportedCheckpointError(
            f"{where}: a schedule of gamma with the parameters {keys[:8]}, known: w and b, or l1 to l3, "
            "or none",
            hint="pass the network as a callable with the ends of gamma stated",
            file=where,
        )
    check_interval(*ends, where)
    return ends


def _monotone(gamma: Mapping[str, object], t: float, where: str) -> float:
    """gamma(t) of the small monotone network of Google's code, whose kernels count by their size.

    gamma(t) = |k_1| t + b_1 + mean over j of |k_3j| (2 sigmoid(|k_2j| (2 t - 1) + b_2j) - 1).
    """
    layers = {key: value if isinstance(value, dict) else {} for key, value in gamma.items()}
    first = [_numbers(layers["l1"].get(key), where, 1) for key in ("kernel", "bias")]
    second = [_numbers(layers["l2"].get(key), where) for key in ("kernel", "bias")]
    third = _numbers(layers["l3"].get("kernel"), where)
    if not len(second[0]) == len(second[1]) == len(third):
        raise CheckpointError(f"{where}: the layers of its schedule of gamma do not fit together", file=where)
    bent = 2 * torch.sigmoid(second[0].abs() * (2 * t - 1) + second[1]) - 1
    return float(first[0].abs() * t + first[1] + (third.abs() * bent).mean())


def _numbers(array: Any, where: str, n: int | None = None) -> Tensor:
    """The entries of an array, in float64; so many, where it is said."""
    if not isinstance(array, Array) or (math.prod(array.shape) != n if n else not math.prod(array.shape)):
        raise CheckpointError(
            f"{where}: a parameter of its schedule of gamma is no array of its size", file=where
        )
    return array.tensor().double().reshape(-1)


def _card(
    network: Mapping[str, object],
    ends: tuple[float, float],
    name: str,
    where: str,
    predicts: Literal["eps", "velocity"],
) -> Card:
    wide, embedded = _shape(network, "dense0", "kernel", where), _shape(network, "conv_in", "kernel", where)
    channels = _shape(network, "conv_out", "kernel", where)[-1]
    if (
        len(wide) != 2
        or len(embedded) != 4
        or embedded[2] not in (channels, channels * (1 + 2 * len(EXPONENTS)))
    ):
        raise UnsupportedCheckpointError(
            f"{where}: conv_in of shape {embedded} and dense0 of shape {wide} are not VDM's U-Net", file=where
        )
    n_blocks = sum(1 for key in network if key.startswith("down.block_"))
    return Card(
        name=name,
        kind="vdm",
        predicts=predicts,
        time="gamma",
        input="vp",
        pixels="centred",
        levels=256,
        image_shape=(channels, 0, 0),
        gamma_range=ends,
        network={
            "architecture": "vdm-unet",
            "embedding_dim": embedded[3],
            "n_blocks": n_blocks,
            "attention_everywhere": any(key.startswith("down.attn_") for key in network),
            "fourier_exponents": list(EXPONENTS) if embedded[2] > channels else [],
            "fourier_order": "channel",
            "norm_eps": NORM_EPS,
            "time_range": list(CONFIGURED),
        },
        licence=LICENCE,
        source="google-research/vdm",
        precision="float32",
    )


def _shape(network: Mapping[str, object], layer: str, entry: str, where: str) -> tuple[int, ...]:
    found = network.get(layer)
    array = found.get(entry) if isinstance(found, dict) else None
    if not isinstance(array, Array):
        raise UnsupportedCheckpointError(f"{where}: no {layer}/{entry}: not VDM's U-Net", file=where)
    return array.shape


def _renamed(network: Mapping[str, object], where: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors under addtt's names, in torch's layout."""
    for block, layers in network.items():
        if not isinstance(layers, dict):
            raise CheckpointError(f"{where}: {block[:60]} holds no layers", file=where)
        prefix = _prefix(block)
        if prefix is None:
            continue_as = {"dense0": "embed_conditioning.0", "dense1": "embed_conditioning.2"}
            top = continue_as | {"conv_in": "conv_in", "GroupNorm_0": "conv_out.0", "conv_out": "conv_out.2"}
            if block not in top:
                raise UnsupportedCheckpointError(
                    f"{where}: the layer {block[:60]} is not of VDM's U-Net", file=where
                )
            yield from _layer(f"model.{top[block]}", layers, where, drop=block == "dense0")
        elif "attn" in block:
            yield from _attention(f"model.{prefix}", layers, where)
        else:
            for layer, values in layers.items():
                target = RESNET.get(layer)
                if target is None:
                    raise UnsupportedCheckpointError(
                        f"{where}: the layer {block[:60]}/{layer[:60]} is not of VDM's U-Net", file=where
                    )
                yield from _layer(f"model.{prefix}.{target.format(last=LAST)}", values, where)


def _prefix(block: str) -> str | None:
    part, _, rest = block.partition(".")
    kind, _, index = rest.partition("_")
    if part == "mid" and kind == "block" and index in ("1", "2"):
        return f"mid_resnet_block_{index}"
    if part == "mid" and rest == "attn_1":
        return "mid_attn_block.layers"
    if part in ("down", "up") and index.isdecimal() and kind in ("block", "attn"):
        inner = "resnet_block" if kind == "block" else "attention_block.layers"
        return f"{part}_blocks.{int(index)}.{inner}"
    return None


def _layer(target: str, values: Any, where: str, *, drop: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Weight and bias; ``drop``: without the kernel's last row, which belongs to the conditioning (0)."""
    for key, array in (values if isinstance(values, dict) else {"": None}).items():
        if not isinstance(array, Array) or key not in ("kernel", "bias", "scale"):
            raise CheckpointError(
                f"{where}: {target}: {str(key)[:60]} is no parameter of a layer", file=where
            )
        tensor = array.tensor()
        if key == "kernel":
            tensor = tensor[:-1] if drop else tensor
            tensor = _kernel(tensor, target, where)
        yield f"{target}.{'bias' if key == 'bias' else 'weight'}", tensor.contiguous()


def _kernel(tensor: Tensor, target: str, where: str) -> Tensor:
    """HWIO as OIHW, a dense [in, out] as [out, in]; a dense shortcut is a 1x1 convolution there."""
    if tensor.dim() == 4:
        return tensor.permute(3, 2, 0, 1)
    if tensor.dim() != 2:
        raise CheckpointError(f"{where}: {target}: a kernel of shape {list(tensor.shape)}", file=where)
    return tensor.t()[:, :, None, None] if target.endswith("skip_conv") else tensor.t()


def _attention(target: str, layers: Mapping[str, object], where: str) -> Iterator[tuple[str, Tensor]]:
    """q, k, v as one 1x1 convolution."""
    yield from _layer(f"{target}.0", layers.get("GroupNorm_0"), where)
    parts = [dict(_layer(name, layers.get(name), where)) for name in ("q", "k", "v")]
    for kind in ("weight", "bias"):
        found = [part.get(f"{name}.{kind}") for name, part in zip("qkv", parts, strict=True)]
        if any(tensor is None for tensor in found):
            raise CheckpointError(f"{where}: {target}: q, k, v without {kind}", file=where)
        joined = torch.cat([tensor for tensor in found if tensor is not None])
        yield f"{target}.1.{kind}", joined[:, :, None, None] if kind == "weight" else joined
    for key, tensor in _layer(f"{target}.3", layers.get("proj_out"), where):
        yield key, tensor[:, :, None, None] if tensor.dim() == 2 else tensor
