"""The U-Net of variational diffusion models (Kingma et al. 2021, appendix B), which never changes resolution.

    h = conv_in [z, sin 2 pi 2^n z, cos 2 pi 2^n z],    n the Fourier exponents
    N blocks down, each output kept; two blocks round an attention; N + 1 blocks up, each given the last kept
    output = z + conv_out h

A block is x + B drop(silu(norm(A silu(norm x) + P e))), e the embedding of the time t in [0, 1]. Parameter
names are those of addtt/variational-diffusion-models; Google's network differs from it in the exponents
(6, 7 for 5, 6), the order of the features, and epsilon of the norms (1e-6 for 1e-5). Its input for a
conditioning that is always 0 has no weight here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets.arguments import (
    arguments,
    is_count,
    is_flag,
    is_interval,
    is_positive,
    is_share,
    is_size,
    list_of,
    one_of,
)
from merged_diffusion.experts.nets.embedding import sinusoids

TIME_RANGE: Final = (-13.3, 5.0)  # gammas that are times 0 and 1 of the published networks
Norm = Callable[[int], nn.GroupNorm]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

CHECKS: Final = {
    "embedding_dim": is_count,
    "n_blocks": is_count,
    "n_attention_heads": is_count,
    "dropout_prob": is_share,
    "norm_groups": is_count,
    "attention_everywhere": is_flag,
    "fourier_exponents": list_of(is_size),
    "fourier_order": one_of("frequency", "channel"),
    "norm_eps": is_positive,
    "time_range": is_interval,
}


def build(network: Mapping[str, object], channels: int) -> tuple[VdmUnet, tuple[float, float]]:
    """The network of a card's ``[network]`` table, and the gammas that are its times 0 and 1."""
    table = arguments(network, CHECKS, {"embedding_dim", "n_blocks"})
    low, high = table.pop("time_range", TIME_RANGE)
    return VdmUnet(channels, **table), (float(low), float(high))


class VdmUnet(nn.Module):
    """The network of images with ``channels`` channels, of any height and width.

    ``fourier_order`` tells how the features of either kind are ordered: ``frequency``: all channels of the
    first exponent, then of the next (addtt's); ``channel``: all exponents of the first channel, then of the
    next (Google's).
    """

    def __init__(
        self,
        channels: int,
        *,
        embedding_dim: int,
        n_blocks: int,
        n_attention_heads: int = 1,
        dropout_prob: float = 0.1,
        norm_groups: int = 32,
        attention_everywhere: bool = False,
        fourier_exponents: Sequence[int] = (5, 6),
        fourier_order: Literal["frequency", "channel"] = "frequency",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        width, e = embedding_dim, 4 * embedding_dim
        if width % 2 or width % norm_groups or width % n_attention_heads:
            raise CheckpointError(
                f"[network] embedding_dim = {width} must be even, and divisible by "
                f"norm_groups = {norm_groups} and n_attention_heads = {n_attention_heads}",
                key="embedding_dim",
            )
        self.embedding_dim = width
        self.fourier_exponents = tuple(fourier_exponents)
        self.axis = {"frequency": 1, "channel": 2}[fourier_order]

        def norm(c: int) -> nn.GroupNorm:
            return nn.GroupNorm(norm_groups, c, eps=norm_eps)

        def block(c_in: int) -> Block:
            resnet = ResnetBlock(c_in, width, e, norm, dropout_prob)
            return Block(resnet, attention() if attention_everywhere else None)

        def attention() -> AttentionBlock:
            return AttentionBlock(width, n_attention_heads, norm)

        self.embed_conditioning = nn.Sequential(nn.Linear(width, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.conv_in = nn.Conv2d(channels * (1 + 2 * len(self.fourier_exponents)), width, 3, padding=1)
        self.down_blocks = nn.ModuleList(block(width) for _ in range(n_blocks))
        self.mid_resnet_block_1 = ResnetBlock(width, width, e, norm, dropout_prob)
        self.mid_attn_block = attention()
        self.mid_resnet_block_2 = ResnetBlock(width, width, e, norm, dropout_prob)
        self.up_blocks = nn.ModuleList(block(2 * width) for _ in range(n_blocks + 1))
        self.conv_out = nn.Sequential(
            norm(width), nn.SiLU(), _zeroed(nn.Conv2d(width, channels, 3, padding=1))
        )

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """What it predicts [B, C, H, W] of ``z`` [B, C, H, W] at ``t`` [B], about [0, 1]."""
        e = self.embed_conditioning(sinusoids(1000 * t, self.embedding_dim, z))
        h = self.conv_in(self.features(z))
        kept = [h]
        for block in self.down_blocks:
            h = block(h, e)
            kept.append(h)
        h = self.mid_resnet_block_1(h, e)
        h = self.mid_resnet_block_2(self.mid_attn_block(h), e)
        for block in self.up_blocks:
            h = block(torch.cat([h, kept.pop()], dim=1), e)
        out: Tensor = z + self.conv_out(h)
        return out

    def features(self, z: Tensor) -> Tensor:
        """``z`` and its Fourier features [B, C (1 + 2 F), H, W]."""
        if not self.fourier_exponents:
            return z
        phases = torch.stack([2 * math.pi * 2**n * z for n in self.fourier_exponents], dim=self.axis)
        phases = phases.flatten(1, 2)
        return torch.cat([z, phases.sin(), phases.cos()], dim=1)


class Block(nn.Module):
    """A residual block, and attention after it where there is any."""

    def __init__(self, resnet_block: ResnetBlock, attention_block: AttentionBlock | None) -> None:
        super().__init__()
        self.resnet_block = resnet_block
        self.attention_block = attention_block

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """``h`` [B, C, H, W] with the embedding ``e`` [B, E]."""
        h = self.resnet_block(h, e)
        return h if self.attention_block is None else self.attention_block(h)


class ResnetBlock(nn.Module):
    """x + B drop(silu(norm(A silu(norm x) + P e))); x through a 1x1 convolution if its channels change."""

    def __init__(self, c_in: int, c_out: int, e: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        last = _zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        # Without dropout the public network has no layer in its place: the last one's index tells.
        drop = [nn.Dropout(dropout)] if dropout > 0 else []
        self.net1 = nn.Sequential(norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.cond_proj = _zeroed(nn.Linear(e, c_out, bias=False))
        self.net2 = nn.Sequential(norm(c_out), nn.SiLU(), *drop, last)
        self.skip_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] with the embedding ``e`` [B, E]."""
        h = self.net2(self.net1(x) + self.cond_proj(e)[:, :, None, None])
        out: Tensor = h + (x if self.skip_conv is None else self.skip_conv(x))
        return out


class AttentionBlock(nn.Module):
    """x + out(attention(qkv(norm x))), over the pixels."""

    def __init__(self, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            norm(width),
            nn.Conv2d(width, 3 * width, 1),
            Attention(heads),
            _zeroed(nn.Conv2d(width, width, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W]."""
        out: Tensor = x + self.layers(x)
        return out


class Attention(nn.Module):
    """Attention over the pixels of [q, k, v], three blocks of channels, each split into heads."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        """``qkv`` [B, 3 C, H, W] to [B, C, H, W]."""
        n, c, height, width = qkv.shape
        q, k, v = qkv.view(n, 3, self.heads, -1, height * width).transpose(3, 4).unbind(1)
        mixed = scaled_dot_product_attention(q, k, v)
        return mixed.transpose(2, 3).reshape(n, c // 3, height, width)


def _zeroed(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
