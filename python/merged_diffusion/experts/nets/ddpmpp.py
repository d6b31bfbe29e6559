"""DDPM++ and NCSN++ (Song et al. 2021, appendix H), U-Nets, as EDM trains them (Karras et al. 2022, table 1).

Each level of resolution has ``num_blocks`` blocks down and one more up, and halves the one before; every
output on the way down is joined to the input of a block on the way up. With e the embedding of the noise
level, of labels and of augmentations, a block is

    x' = (skip x + B drop(silu(norm(A silu(norm x) + P e))))/sqrt 2

and, at the resolutions named, (x' + out attention(norm x'))/sqrt 2. The first convolution A and the skip of a
block that halves or doubles do so by a filter, whose buffer is part of the state. NCSN++ is told the noise
level by random Fourier features, filters with [1, 3, 3, 1], and adds to each level on the way down the image
itself, halved by a convolution of the level before. Names of layers and of arguments are those of the public
files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.nets.arguments import (
    arguments,
    is_count,
    is_positive,
    is_share,
    is_size,
    list_of,
    one_of,
)
from merged_diffusion.experts.nets.ddpmpp_blocks import (
    ZERO,
    Block,
    Resample,
    ResidualInput,
    norm,
    xavier,
)
from merged_diffusion.experts.nets.embedding import fourier, sinusoids
from merged_diffusion.experts.nets.labels import class_rows

# What the networks of this form may be of; the public class knows others, which nobody has published.
FORMS: Final = {
    "embedding_type": ("positional", "fourier"),
    "encoder_type": ("standard", "residual"),
    "decoder_type": ("standard",),
}
NCSNPP: Final[Mapping[str, object]] = {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
CHECKS: Final = {
    "model_channels": is_count,
    "channel_mult": list_of(is_count, least=1),
    "channel_mult_emb": is_count,
    "num_blocks": is_count,
    "attn_resolutions": list_of(is_count),
    "dropout": is_share,
    "label_dim": is_size,
    "augment_dim": is_size,
    "channel_mult_noise": is_count,
    "resample_filter": list_of(is_positive, least=1),
    "embedding_type": one_of(*FORMS["embedding_type"]),
    "encoder_type": one_of(*FORMS["encoder_type"]),
    "decoder_type": one_of(*FORMS["decoder_type"]),
    "out_channels": is_count,
}


def usual(network: Mapping[str, object]) -> Mapping[str, object]:
    """What a ``[network]`` table leaves out, by its architecture."""
    return NCSNPP if network.get("architecture") == "ncsnpp" else {}


def build(network: Mapping[str, object], shape: tuple[int, int, int]) -> Ddpmpp:
    """The network of a card's ``[network]`` table, for images of ``shape``."""
    table = {**usual(network), **network}
    for key, ours in FORMS.items():
        if table.get(key, ours[0]) not in ours:
            raise UnsupportedCheckpointError(
                f"[network] {key} = {table[key]!r:.100} belongs to another network than DDPM++ and NCSN++",
                hint=f"they have {key} = {' or '.join(map(repr, ours))}; pass any other network as a "
                "callable, from Python",
                key=key,
                expected=ours,
                found=table[key],
            )
    return Ddpmpp(shape, **arguments(table, CHECKS, {"model_channels", "channel_mult"}))


class Ddpmpp(nn.Module):
    """The network of square images of ``shape``, C, H, W.

    Parameters
    ----------
    model_channels, channel_mult
        Channels of a level: the product of the first with the level's entry of the second.
    channel_mult_noise, channel_mult_emb
        Widths of the embedding, before and after its layers, over ``model_channels``.
    attn_resolutions
        Heights of the levels whose blocks attend: all on the way down, the last on the way up.
    label_dim, augment_dim
        Widths of the labels and of the augmentations; 0: none.
    resample_filter
        Of even length; its outer product with itself halves a resolution, and doubles it.
    embedding_type
        Of the noise level: ``positional``, or ``fourier``, whose frequencies are part of the state.
    encoder_type
        ``residual``: the image itself, halved, is added to each level on the way down.
    out_channels
        Channels of the output, those of the image by default.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        model_channels: int,
        channel_mult: Sequence[int],
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        label_dim: int = 0,
        augment_dim: int = 0,
        channel_mult_noise: int = 1,
        resample_filter: Sequence[float] = (1, 1),
        embedding_type: str = "positional",
        encoder_type: str = "standard",
        decoder_type: str = "standard",  # noqa: ARG002 (the public argument, of one value)
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        channels, size, _ = shape
        widths = [model_channels * factor for factor in channel_mult]
        self.noise_channels = model_channels * channel_mult_noise
        _check(shape, len(widths) - 1, self.noise_channels, resample_filter)
        self.label_dim = label_dim
        self.map_noise = Frequencies(self.noise_channels // 2) if embedding_type == "fourier" else None
        e = model_channels * channel_mult_emb
        self.map_label = xavier(nn.Linear(label_dim, self.noise_channels)) if label_dim else None
        self.map_augment = (
            xavier(nn.Linear(augment_dim, self.noise_channels, bias=False)) if augment_dim else None
        )
        self.map_layer0 = xavier(nn.Linear(self.noise_channels, e))
        self.map_layer1 = xavier(nn.Linear(e, e))

        def block(c_in: int, c_out: int, *, attention: bool = False, resample: Resample = None) -> Block:
            return Block(c_in, c_out, e, dropout, attention, resample, resample_filter)

        # By name, in order; `kept` are the channels of the outputs on the way down.
        enc: dict[str, nn.Module] = {}
        dec: dict[str, nn.Module] = {}
        kept: list[int] = []
        c, image_channels = model_channels, channels
        for level, width in enumerate(widths):
            res = size >> level
            if level == 0:
                enc[f"{res}x{res}_conv"] = xavier(nn.Conv2d(channels, c, 3, padding=1))
            else:
                enc[f"{res}x{res}_down"] = block(c, c, resample="down")
                if encoder_type == "residual":
                    from_image = ResidualInput(image_channels, c, resample_filter)
                    enc[f"{res}x{res}_aux_residual"], image_channels = xavier(from_image), c
            kept.append(c)
            for i in range(num_blocks):
                enc[f"{res}x{res}_block{i}"] = block(c, width, attention=res in attn_resolutions)
                c = width
                kept.append(c)
        for level, width in reversed(list(enumerate(widths))):
            res = size >> level
            if level == len(widths) - 1:
                dec[f"{res}x{res}_in0"] = block(c, c, attention=True)
                dec[f"{res}x{res}_in1"] = block(c, c)
            else:
                dec[f"{res}x{res}_up"] = block(c, c, resample="up")
            for i in range(num_blocks + 1):
                attends = i == num_blocks and res in attn_resolutions
                dec[f"{res}x{res}_block{i}"] = block(c + kept.pop(), width, attention=attends)
                c = width
        dec[f"{size}x{size}_aux_norm"] = norm(c)
        dec[f"{size}x{size}_aux_conv"] = xavier(nn.Conv2d(c, out_channels or channels, 3, padding=1), ZERO)
        self.enc, self.dec = nn.ModuleDict(enc), nn.ModuleDict(dec)

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """F [B, out_channels, H, W] of ``x`` [B, C, H, W] at ``noise`` [B].

        ``labels`` are classes, int64 [B], -1 for none, or weights of classes [B, label_dim]; ``augment`` is
        [B, augment_dim]. None is a row of zeros.
        """
        e = self.embedding(noise, labels, augment, x)
        kept: list[Tensor] = []
        image = x
        for layer in self.enc.values():
            if isinstance(layer, ResidualInput):
                image = x = (x + layer(image)) * math.sqrt(0.5)
                kept[-1] = x
                continue
            x = layer(x, e) if isinstance(layer, Block) else layer(x)
            kept.append(x)
        *blocks, norm, conv = self.dec.values()
        for block in blocks:
            # Only the blocks after those that begin a level have room for what was kept.
            x = block(x if x.shape[1] == block.c_in else torch.cat([x, kept.pop()], dim=1), e)
        out: Tensor = conv(silu(norm(x)))
        return out

    def embedding(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None, like: Tensor) -> Tensor:
        """The embedding [B, E] of noise level, labels and augmentations."""
        if self.map_noise is None:
            e = sinusoids(noise, self.noise_channels, like)
        else:
            e = fourier(noise, self.map_noise.freqs, like)
        if self.map_label is not None:
            rows = class_rows(labels, len(noise), self.label_dim, e)
            e = e + self.map_label(rows * math.sqrt(self.label_dim))
        if self.map_augment is not None and augment is not None:
            e = e + self.map_augment(augment.to(e))
        out: Tensor = silu(self.map_layer1(silu(self.map_layer0(e))))
        return out


class Frequencies(nn.Module):
    """Those of random Fourier features, drawn once and saved (Song et al. 2021, appendix H)."""

    freqs: Tensor

    def __init__(self, n: int, scale: float = 16.0) -> None:
        super().__init__()
        freqs = torch.empty(n)
        # Not for parameters without storage: torch would load what seconds are lost to.
        self.register_buffer("freqs", freqs if freqs.is_meta else nn.init.normal_(freqs, std=scale))


def _check(shape: tuple[int, int, int], n_halvings: int, noise_channels: int, taps: Sequence[float]) -> None:
    _, height, breadth = shape
    faults = []
    if height != breadth or height % 2**n_halvings:
        faults.append(f"image_shape = {list(shape)} is not a square that can be halved {n_halvings} times")
    if noise_channels % 2:
        faults.append(f"model_channels * channel_mult_noise = {noise_channels} is odd")
    if len(taps) % 2:
        faults.append(f"resample_filter has {len(taps)} entries, an odd number")
    if faults:
        raise CheckpointError(f"[network] of architecture 'ddpmpp': {'; '.join(faults)}", differences=faults)
