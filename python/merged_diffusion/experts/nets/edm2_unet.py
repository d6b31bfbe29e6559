"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2024, configuration G), in pixel space.

Levels and skips are those of DDPM++: a level has ``num_blocks`` blocks down and one more up, and halves the
one before; every output on the way down is joined to the input of a block on the way up. A channel of ones
takes the place of biases. With e the embedding of the noise level and of labels, and p pixel norm on the
way down, nothing on the way up, a block is

    x' = mix(skip p x, B drop(silu((A silu p x) (1 + P e)))),   then   mix(x', out attention(x')),

each silu of size 1, each weight row of length 1 (`edm2_blocks`). Names of layers and of arguments are those
of the public files; an uncertainty that only weighs the training loss is no part of the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets.arguments import (
    arguments,
    is_count,
    is_positive,
    is_share,
    is_size,
    list_of,
)
from merged_diffusion.experts.nets.edm2_blocks import Block, Fourier, Weights, joined, shares, unit_silu
from merged_diffusion.experts.nets.labels import class_rows


def is_box(value: object) -> bool:
    """Two equal numbers above 0; no network is published with another filter."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return is_positive(value[0]) and value[0] == value[1]


CHECKS: Final = {
    "model_channels": is_count,
    "channel_mult": list_of(is_count, least=1),
    "channel_mult_noise": is_count,
    "channel_mult_emb": is_count,
    "num_blocks": is_count,
    "attn_resolutions": list_of(is_count),
    "channels_per_head": is_count,
    "label_dim": is_size,
    "dropout": is_share,
    "label_balance": is_share,
    "concat_balance": is_share,
    "res_balance": is_share,
    "attn_balance": is_share,
    "clip_act": is_positive,
    "resample_filter": is_box,
}


def build(network: Mapping[str, object], shape: tuple[int, int, int]) -> Edm2Unet:
    """The network of a card's ``[network]`` table, for images of ``shape``."""
    table = arguments(network, CHECKS, {"model_channels"})
    table.pop("resample_filter", None)  # halves to means and doubles to copies, whatever its size
    return Edm2Unet(shape, **table)


class Edm2Unet(nn.Module):
    """The network of square images of ``shape``, C, H, W.

    Parameters
    ----------
    model_channels, channel_mult
        Channels of a level: the product of the first with the level's entry of the second.
    channel_mult_noise, channel_mult_emb
        Widths of the noise level's features and of the embedding, over ``model_channels``; by default the
        first level's channels, and the most that a level has.
    attn_resolutions
        Heights of the levels whose blocks attend, with one head for every ``channels_per_head`` channels.
    label_dim
        Width of the labels; 0: none.
    label_balance, concat_balance, res_balance, attn_balance
        The say that labels, kept outputs, residuals and attention have where they are mixed in.
    clip_act
        No block's output is larger.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        model_channels: int,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        channels_per_head: int = 64,
        label_dim: int = 0,
        dropout: float = 0.0,
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float = 256,
    ) -> None:
        super().__init__()
        channels, size, breadth = shape
        n_halvings = len(channel_mult) - 1
        if size != breadth or size % 2**n_halvings:
            raise CheckpointError(
                f"[network] image_shape = {list(shape)} is no square that can be halved {n_halvings} times",
                hint="channel_mult has an entry for each level",
                found=list(shape),
            )
        self.label_dim, self.label_balance, self.concat_balance = label_dim, label_balance, concat_balance
        widths = [model_channels * factor for factor in channel_mult]
        n_features = model_channels * (channel_mult_noise or channel_mult[0])
        e = model_channels * (channel_mult_emb or max(channel_mult))

        block = partial(
            Block,
            e=e,
            channels_per_head=channels_per_head,
            dropout=dropout,
            res_balance=res_balance,
            attn_balance=attn_balance,
            clip_act=clip_act,
        )
        self.emb_fourier = Fourier(n_features)
        self.emb_noise = Weights(n_features, e)
        self.emb_label = Weights(label_dim, e) if label_dim else None

        # By name, in order; `kept` are the channels of the outputs on the way down.
        enc: dict[str, nn.Module] = {}
        dec: dict[str, nn.Module] = {}
        kept: list[int] = []
        c = widths[0]
        for level, width in enumerate(widths):
            res = size >> level
            if level == 0:
                enc[f"{res}x{res}_conv"] = Weights(channels + 1, c, 3)
            else:
                enc[f"{res}x{res}_down"] = block(c, c, "enc", resample="down")
            kept.append(c)
            for i in range(num_blocks):
                enc[f"{res}x{res}_block{i}"] = block(c, width, "enc", attention=res in attn_resolutions)
                c = width
                kept.append(c)
        for level, width in reversed(list(enumerate(widths))):
            res = size >> level
            if level == n_halvings:
                dec[f"{res}x{res}_in0"] = block(c, c, "dec", attention=True)
                dec[f"{res}x{res}_in1"] = block(c, c, "dec")
            else:
                dec[f"{res}x{res}_up"] = block(c, c, "dec", resample="up")
            for i in range(num_blocks + 1):
                attention = res in attn_resolutions
                dec[f"{res}x{res}_block{i}"] = block(c + kept.pop(), width, "dec", attention=attention)
                c = width
        self.enc, self.dec = nn.ModuleDict(enc), nn.ModuleDict(dec)
        self.out_conv = Weights(c, channels, 3)
        self.out_gain = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """F [B, C, H, W] of ``x`` [B, C, H, W] at ``noise`` [B], ln(s)/4.

        ``labels`` are classes, int64 [B], -1 for none, or weights of classes [B, label_dim]; None is a row of
        zeros.
        """
        e = self.embedding(noise, labels, x)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        kept = []
        for layer in self.enc.values():
            x = layer(x, e) if isinstance(layer, Block) else layer(x)
            kept.append(x)
        for name, block in self.dec.items():
            # Those that begin a level take nothing that was kept.
            x = block(joined(x, kept.pop(), self.concat_balance) if "_block" in name else x, e)
        out: Tensor = self.out_conv(x, self.out_gain)
        return out

    def embedding(self, noise: Tensor, labels: Tensor | None, like: Tensor) -> Tensor:
        """The embedding [B, E] of noise level and labels."""
        e: Tensor = self.emb_noise(self.emb_fourier(noise, like))
        if self.emb_label is not None:
            rows = class_rows(labels, len(noise), self.label_dim, e)
            ours, theirs = shares(self.label_balance)
            # Without a label the noise level has no more say for it: the other branch is zero, not absent.
            e = e * ours + self.emb_label(rows * math.sqrt(self.label_dim), theirs)
        return unit_silu(e)
