"""The blocks of lucidrains' U-Net (`lucid_unet`): residual, and two kinds of attention with a memory.

Each normalises a pixel's channels, norm x = g sqrt(C) x/|x|. Attention has ``MEMORIES`` keys and values
that are learned, beside those of the pixels. With q, k, v the columns of a head, one a pixel, it is

    v softmax(k^T q/sqrt d)                                                          (Ho et al. 2020, full)
    (v softmax(k)^T) softmax(q)/sqrt d                                            (Shen et al. 2021, linear)

where softmax(q) is over a pixel's channels, the other two over memories and pixels.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

MEMORIES: Final = 4
SMALLEST: Final = 1e-24  # square of the length of a pixel that is still divided by


class Norm(nn.Module):
    """Channels of a pixel over their root mean square, times g."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W]."""
        return self.unit(x) * self.gain()

    def modulated(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(1 + scale) norm x + shift, both [B, C, 1, 1]."""
        return torch.addcmul(shift, self.unit(x), self.gain() * (1 + scale))

    def gain(self) -> Tensor:
        """What a pixel of length 1 is multiplied by, [1, C, 1, 1]."""
        return self.g * math.sqrt(self.g.shape[1])

    @staticmethod
    def unit(x: Tensor) -> Tensor:
        """``x`` with pixels of length 1."""
        # Not `vector_norm`, which takes ten times as long along an inner dimension.
        return x * x.square().sum(1, keepdim=True).clamp_min(SMALLEST).rsqrt()


class Block(nn.Module):
    """drop(silu(norm(A x))), modulated before the silu where scale and shift are given."""

    def __init__(self, c_in: int, c_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm = Norm(c_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """``x`` [B, c_in, H, W]; ``scale`` and ``shift`` [B, c_out, 1, 1]."""
        h = self.proj(x)
        h = self.norm(h) if scale is None or shift is None else self.norm.modulated(h, scale, shift)
        out: Tensor = self.dropout(silu(h))
        return out


class ResnetBlock(nn.Module):
    """Two blocks, the first modulated by the embedding, beside a skip, 1x1 if channels change."""

    def __init__(self, c_in: int, c_out: int, e: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(e, 2 * c_out))
        self.block1 = Block(c_in, c_out, dropout)
        self.block2 = Block(c_out, c_out)
        self.res_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] with the embedding ``e`` [B, E]."""
        scale, shift = self.mlp(e)[:, :, None, None].chunk(2, dim=1)
        h: Tensor = self.block2(self.block1(x, scale, shift))
        return h + (x if self.res_conv is None else self.res_conv(x))


class Attention(nn.Module):
    """Every pixel looks at all and at the memories."""

    def __init__(self, c: int, heads: int, d: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(c)
        self.to_qkv = nn.Conv2d(c, 3 * heads * d, 1, bias=False)
        self.mem_kv = nn.Parameter(nn.init.trunc_normal_(torch.empty(2, heads, MEMORIES, d)))
        self.to_out = nn.Conv2d(heads * d, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W]."""
        # Channels next to each other: else the fast kernels of attention are out of reach.
        rows = columns(self.to_qkv(self.norm(x)), self.heads).transpose(3, 4).contiguous()
        q, k, v = rows.unbind(1)
        k, v = (
            torch.cat([memory.expand(len(x), -1, -1, -1), pixels], dim=2)
            for memory, pixels in zip(self.mem_kv, (k, v), strict=True)
        )
        mixed = scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out(mixed.transpose(2, 3).reshape(len(x), -1, *x.shape[2:]))
        return out


class LinearAttention(nn.Module):
    """A pixel sees one summary of all pixels and memories, at a cost linear in their number."""

    def __init__(self, c: int, heads: int, d: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(c)
        self.to_qkv = nn.Conv2d(c, 3 * heads * d, 1, bias=False)
        self.mem_kv = nn.Parameter(nn.init.trunc_normal_(torch.empty(2, heads, d, MEMORIES)))
        self.to_out = nn.Sequential(nn.Conv2d(heads * d, c, 1), Norm(c))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W]."""
        q, k, v = columns(self.to_qkv(self.norm(x)), self.heads).unbind(1)
        k, v = (
            torch.cat([memory.expand(len(x), -1, -1, -1), pixels], dim=3)
            for memory, pixels in zip(self.mem_kv, (k, v), strict=True)
        )
        summary = v @ k.softmax(dim=3).transpose(2, 3) / math.sqrt(q.shape[2])
        mixed = summary @ q.softmax(dim=2)
        out: Tensor = self.to_out(mixed.reshape(len(x), -1, *x.shape[2:]))
        return out


def columns(qkv: Tensor, heads: int) -> Tensor:
    """Queries, then keys, then values of ``qkv`` [B, 3 heads d, H, W]: [B, 3, heads, d, H W]."""
    n, c, height, width = qkv.shape
    return qkv.view(n, 3, heads, c // (3 * heads), height * width)
