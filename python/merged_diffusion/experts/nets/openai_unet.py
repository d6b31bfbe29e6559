"""OpenAI's U-Net: Nichol and Dhariwal 2021, Dhariwal and Nichol 2021 (ADM), TorchCFM and EDM's ImageNet-64.

Each level of resolution has ``num_res_blocks`` residual blocks down and one more up; every output on the way
down is joined to the input of a block on the way up. Names of layers are those of the public files of
improved-diffusion and guided-diffusion; EDM's DhariwalUNet has its own names for the same network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError, ExpertError
from merged_diffusion.experts.nets.arguments import (
    arguments,
    is_count,
    is_flag,
    is_positive,
    is_share,
    is_size,
    list_of,
    one_of,
)
from merged_diffusion.experts.nets.embedding import cosines
from merged_diffusion.experts.nets.labels import class_rows
from merged_diffusion.experts.nets.openai_blocks import (
    Attention,
    Downsample,
    Parts,
    ResBlock,
    Style,
    Upsample,
    zeroed,
)

CHECKS: Final = {
    "model_channels": is_count,
    "channel_mult": list_of(is_positive, least=1),
    "channel_mult_emb": is_count,
    "num_res_blocks": is_size,
    "attention_levels": list_of(is_size),
    "num_heads": is_count,
    "num_head_channels": is_size,
    "num_heads_upsample": is_size,
    "attention_order": one_of("legacy", "new", "adm"),
    "use_scale_shift_norm": is_flag,
    "resblock_updown": is_flag,
    "conv_resample": is_flag,
    "middle_attention": is_flag,
    "norm_groups": is_count,
    "norm_channels": is_count,
    "label_dim": is_size,
    "augment_dim": is_size,
    "takes_no_class": is_flag,
    "out_channels": is_count,
    "dropout": is_share,
}


# What ADM is as EDM trains it (Karras et al. 2022, table 1 and appendix F.1), beside its channels.
ADM: Final[Mapping[str, object]] = {
    "num_res_blocks": 3,
    "num_head_channels": 64,
    "attention_order": "adm",
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "norm_channels": 4,
    "takes_no_class": True,
    "dropout": 0.1,
}
ATTENDED: Final = (32, 16, 8)  # heights of ADM's levels that attend, where they have a whole head's channels


def build(network: Mapping[str, object], shape: tuple[int, int, int]) -> OpenaiUnet:
    """The network of a card's ``[network]`` table, for images of ``shape``; 0 in H, W: any."""
    needed = {"model_channels", "channel_mult"}
    if network.get("architecture") != "adm":
        return OpenaiUnet(shape, **arguments(network, CHECKS, needed))
    table = {**ADM, **arguments(network, CHECKS, needed)}
    heads = table["num_head_channels"]
    is_whole = [heads > 0 and table["model_channels"] * mult >= heads for mult in table["channel_mult"]]
    levels = [level for level, whole in enumerate(is_whole) if whole and shape[1] >> level in ATTENDED]
    return OpenaiUnet(shape, **{"attention_levels": levels, "middle_attention": is_whole[-1], **table})


class OpenaiUnet(nn.Module):
    """The network of images of ``shape``, C, H, W; 0 in H, W: any.

    Parameters
    ----------
    model_channels, channel_mult
        Channels of a level: the product of the first with the level's entry of the second.
    channel_mult_emb
        Width of the embedding over ``model_channels``.
    attention_levels
        The levels whose blocks attend, both ways; 0 is that of the image.
    num_heads, num_heads_upsample, num_head_channels
        Heads of attention, of those on the way up (0: as many), or channels of a head (0: by their number).
    attention_order
        How q, k and v lie in the channels: ``legacy``, ``new`` or ``adm`` (`openai_blocks.Attention`).
    use_scale_shift_norm, resblock_updown, conv_resample
        The embedding scales and shifts; residual blocks change the resolution; else convolutions do so.
    middle_attention
        Whether the middle attends.
    norm_groups, norm_channels
        Groups of a normalisation, and the least channels of one.
    label_dim, takes_no_class
        Number of classes, 0: none; whether an image may have no class, -1.
    augment_dim
        Width of the augmentations of a training that used some; images that are evaluated have none.
    out_channels
        More than C: a variance is predicted too.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        model_channels: int,
        channel_mult: Sequence[float],
        channel_mult_emb: int = 4,
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        num_heads: int = 1,
        num_head_channels: int = 0,
        num_heads_upsample: int = 0,
        attention_order: str = "legacy",
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        conv_resample: bool = True,
        middle_attention: bool = True,
        norm_groups: int = 32,
        norm_channels: int = 1,
        label_dim: int = 0,
        augment_dim: int = 0,
        takes_no_class: bool = False,
        out_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels = shape[0]
        self.label_dim, self.lowest_label = label_dim, -1 if takes_no_class else 0
        self.time_channels = model_channels
        e = model_channels * channel_mult_emb
        _check(shape, len(channel_mult))
        style = Style(
            e,
            dropout,
            use_scale_shift_norm,
            norm_groups,
            norm_channels,
            attention_order,  # type: ignore[arg-type]
        )
        self.time_embed = nn.Sequential(nn.Linear(model_channels, e), nn.SiLU(), nn.Linear(e, e))
        self.label_emb = ClassWeights(label_dim, e) if label_dim else None
        self.map_augment = zeroed(nn.Linear(augment_dim, model_channels, bias=False)) if augment_dim else None

        def attends(c: int, heads: int) -> Attention:
            # EDM's ADM takes as many heads as are whole, whatever is over.
            if num_head_channels and c % num_head_channels and attention_order != "adm":
                raise CheckpointError(
                    f"[network] {c} channels are not whole heads of num_head_channels = {num_head_channels}",
                    hint="state the channels of a head of the training",
                    key="num_head_channels",
                )
            return Attention(c, c // num_head_channels if num_head_channels else heads, style)

        widths = [int(model_channels * factor) for factor in channel_mult]
        c = widths[0]
        down: list[Parts] = [Parts([nn.Conv2d(channels, c, 3, padding=1)])]
        kept = [c]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                down.append(Parts([ResBlock(c, width, style)]))
                c = width
                if level in attention_levels:
                    down[-1].append(attends(c, num_heads))
                kept.append(c)
            if level < len(widths) - 1:
                down.append(
                    Parts(
                        [ResBlock(c, c, style, "down")]
                        if resblock_updown
                        else [Downsample(c, is_conv=conv_resample)]
                    )
                )
                kept.append(c)
        self.input_blocks = nn.ModuleList(down)
        middle: list[nn.Module] = [ResBlock(c, c, style), ResBlock(c, c, style)]
        if middle_attention:
            middle.insert(1, attends(c, num_heads))
        self.middle_block = Parts(middle)
        up: list[Parts] = []
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(num_res_blocks + 1):
                up.append(Parts([ResBlock(c + kept.pop(), width, style)]))
                c = width
                if level in attention_levels:
                    up[-1].append(attends(c, num_heads_upsample or num_heads))
            if level > 0:
                up[-1].append(
                    ResBlock(c, c, style, "up") if resblock_updown else Upsample(c, is_conv=conv_resample)
                )
        self.output_blocks = nn.ModuleList(up)
        self.out = nn.Sequential(
            style.norm(c), nn.SiLU(), zeroed(nn.Conv2d(c, out_channels or channels, 3, padding=1))
        )

    def forward(
        self, x: Tensor, time: Tensor, labels: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """The output [B, out_channels, H, W] of ``x`` [B, C, H, W] at ``time`` [B].

        ``labels`` are classes, int64 [B], or weights of classes [B, label_dim].
        """
        e = cosines(time, self.time_channels, x)
        if self.map_augment is not None and augment is not None:
            e = e + self.map_augment(augment.to(e))
        e = self.time_embed(e)
        if self.label_emb is not None:
            if labels is None and self.lowest_label == 0:
                raise ExpertError(
                    "a class-conditional network of OpenAI's is asked without classes",
                    hint=f"give 0 to {self.label_dim - 1} for every image",
                )
            e = e + class_rows(labels, len(time), self.label_dim, e) @ self.label_emb.weight
        kept = []
        for parts in self.input_blocks:
            x = parts(x, e)
            kept.append(x)
        x = self.middle_block(x, e)
        for parts in self.output_blocks:
            x = parts(torch.cat([x, kept.pop()], dim=1), e)
        out: Tensor = self.out(x)
        return out


class ClassWeights(nn.Module):
    """A row [E] for each class."""

    def __init__(self, n_classes: int, width: int) -> None:
        super().__init__()
        weight = torch.empty(n_classes, width)
        # Not `nn.Embedding`: to draw its normal law without storage torch loads its compiler, for seconds.
        self.weight = nn.Parameter(weight if weight.is_meta else nn.init.normal_(weight))


def _check(shape: tuple[int, int, int], n_levels: int) -> None:
    _, height, width = shape
    if height % 2 ** (n_levels - 1) or width % 2 ** (n_levels - 1):
        raise CheckpointError(
            f"[network] of architecture 'openai': image_shape = {list(shape)} cannot be halved "
            f"{n_levels - 1} times",
            key="image_shape",
        )
