"""The U-Net of lucidrains' denoising-diffusion-pytorch (2.x), after Ho et al. 2020.

Each level of resolution has two residual blocks down and two up, an attention after either pair, and is
half as high as the one before; the output of every block down, the second after its attention, is joined to
the input of a block up. The first convolution's output is joined to the last block's. A level's attention is
full or linear (`lucid_blocks`). Names of layers and of arguments are those of the public files; their
networks of before 2024-05-03 had other norms, and are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar, cast

import torch
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets.arguments import (
    Check,
    arguments,
    is_count,
    is_flag,
    is_share,
    list_of,
)
from merged_diffusion.experts.nets.embedding import SLOWEST, sinusoids
from merged_diffusion.experts.nets.lucid_blocks import Attention, LinearAttention, ResnetBlock

Entry = TypeVar("Entry")
Level = nn.ModuleList  # two residual blocks, attention, a change of resolution


def one_or_each(entry: Check) -> Check:
    """One for all levels, or a list with one for each."""
    each = list_of(entry, least=1)

    def is_known(value: object) -> bool:
        return entry(value) or each(value)

    is_known.__doc__ = f"For all levels, or in a list for each: {entry.__doc__}"
    return is_known


def is_theta(value: object) -> bool:
    """10000: no other is known here."""
    return not isinstance(value, bool) and value == SLOWEST


CHECKS: Final = {
    "dim": is_count,
    "init_dim": is_count,
    "dim_mults": list_of(is_count, least=1),
    "channels": is_count,
    "self_condition": is_flag,
    "learned_variance": is_flag,
    "sinusoidal_pos_emb_theta": is_theta,
    "dropout": is_share,
    "attn_dim_head": one_or_each(is_count),
    "attn_heads": one_or_each(is_count),
    "full_attn": one_or_each(is_flag),
}


def build(network: Mapping[str, object], shape: tuple[int, int, int]) -> LucidUnet:
    """The network of a card's ``[network]`` table, for images of ``shape``."""
    table = arguments(network, CHECKS, {"dim"})
    table.pop("sinusoidal_pos_emb_theta", None)
    if table.pop("channels", shape[0]) != shape[0]:
        raise CheckpointError(
            f"[network] channels = {network['channels']}, but image_shape = {list(shape)}", key="channels"
        )
    return LucidUnet(shape, **table)


class LucidUnet(nn.Module):
    """The network of images of ``shape``, C, H, W.

    Parameters
    ----------
    dim, dim_mults
        Channels below a level: the product of the first with the level's entry of the second. Blocks of a
        level have those below the level before it, on the way down.
    init_dim
        Channels of the first convolution, ``dim`` by default.
    full_attn
        Whether a level's attention is full: one for all, or one for each. As in the public code, one false
        for all leaves it to the last.
    attn_heads, attn_dim_head
        Heads of attention and their channels: one for all levels, or one for each.
    self_condition
        Whether the network has an earlier estimate of the image for a second input, zeros here.
    learned_variance
        Whether C channels of a variance follow those of the output.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        dim: int,
        dim_mults: Sequence[int] = (1, 2, 4, 8),
        init_dim: int | None = None,
        full_attn: bool | Sequence[bool] = False,
        attn_heads: int | Sequence[int] = 4,
        attn_dim_head: int | Sequence[int] = 32,
        self_condition: bool = False,
        learned_variance: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, *sides = shape
        n = len(dim_mults)
        first = init_dim or dim
        widths = [first, *(dim * factor for factor in dim_mults)]
        full = _each(full_attn, n)
        if full_attn is False:
            full[-1] = True
        heads, head_dims = _each(attn_heads, n), _each(attn_dim_head, n)
        faults = []
        if any(side % 2 ** (n - 1) for side in sides):
            faults.append(f"image_shape = {list(shape)} cannot be halved {n - 1} times")
        if dim % 2 or dim < 4:
            faults.append(f"dim = {dim} is not an even number from 4")
        for key, levels in (("full_attn", full), ("attn_heads", heads), ("attn_dim_head", head_dims)):
            if len(levels) != n:
                faults.append(f"{key} has {len(levels)} entries for {n} levels")
        if faults:
            raise CheckpointError(f"[network] {'; '.join(faults)}", differences=faults)
        self.dim, self.self_condition = dim, self_condition
        e = 4 * dim

        def block(c_in: int, c_out: int) -> ResnetBlock:
            return ResnetBlock(c_in, c_out, e, dropout)

        def attention(c: int, level: int) -> nn.Module:
            kind = Attention if full[level] else LinearAttention
            return kind(c, heads[level], head_dims[level])

        self.init_conv = nn.Conv2d(channels * (2 if self_condition else 1), first, 7, padding=3)
        # The sinusoids, which are no layer here, have the first place among the names.
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(dim, e), nn.GELU(), nn.Linear(e, e))
        downs, ups = [], []
        for level in range(n):
            c, below = widths[level : level + 2]
            last = nn.Conv2d(c, below, 3, padding=1) if level == n - 1 else _halving(c, below)
            downs.append(Level([block(c, c), block(c, c), attention(c, level), last]))
        self.downs = nn.ModuleList(downs)
        c = widths[-1]
        self.mid_block1 = block(c, c)
        self.mid_attn = Attention(c, heads[-1], head_dims[-1])
        self.mid_block2 = block(c, c)
        for level in reversed(range(n)):
            above, c = widths[level : level + 2]
            last = nn.Conv2d(c, above, 3, padding=1) if level == 0 else _doubling(c, above)
            ups.append(Level([block(c + above, c), block(c + above, c), attention(c, level), last]))
        self.ups = nn.ModuleList(ups)
        self.final_res_block = block(2 * first, first)
        self.final_conv = nn.Conv2d(first, channels * (2 if learned_variance else 1), 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """What it predicts, C channels or with a variance 2 C, of ``x`` [B, C, H, W] at ``step`` [B]."""
        e = self.time_mlp(sinusoids(step, self.dim, x))
        if self.self_condition:
            x = torch.cat([torch.zeros_like(x), x], dim=1)
        first = x = self.init_conv(x)
        kept = []
        for block1, block2, attention, last in cast("Iterable[Level]", self.downs):
            x = block1(x, e)
            kept.append(x)
            x = block2(x, e)
            x = attention(x) + x
            kept.append(x)
            x = last(x)
        x = self.mid_block1(x, e)
        x = self.mid_block2(self.mid_attn(x) + x, e)
        for block1, block2, attention, last in cast("Iterable[Level]", self.ups):
            x = block1(torch.cat([x, kept.pop()], dim=1), e)
            x = block2(torch.cat([x, kept.pop()], dim=1), e)
            x = last(attention(x) + x)
        out: Tensor = self.final_conv(self.final_res_block(torch.cat([x, first], dim=1), e))
        return out


def _each(option: Entry | Sequence[Entry], n: int) -> list[Entry]:
    """An option of ``n`` levels as a list."""
    return list(option) if isinstance(option, list | tuple) else [option] * n  # type: ignore[list-item]


def _halving(c_in: int, c_out: int) -> nn.Module:
    """Four pixels beside each other become channels of one."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * c_in, c_out, 1))


def _doubling(c_in: int, c_out: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c_in, c_out, 3, padding=1))
