"""The blocks of DDPM++ and NCSN++ (`ddpmpp`): residual, with attention and a change of resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, scaled_dot_product_attention, silu

from merged_diffusion.errors import CheckpointError

NORM_EPS: Final = 1e-6
ZERO: Final = 1e-5  # gain of layers that begin as almost nothing
Resample = Literal["up", "down"] | None
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class Block(nn.Module):
    """A residual block, which may halve or double the resolution, and may attend."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        e: int,
        dropout: float,
        attention: bool,
        resample: Resample,
        resample_filter: Sequence[float],
    ) -> None:
        super().__init__()
        self.c_in = c_in
        self.norm0 = norm(c_in)
        self.conv0 = _convolution(c_in, c_out, 3, resample, resample_filter)
        self.affine = xavier(nn.Linear(e, c_out))
        self.norm1 = norm(c_out)
        # No parameters, so no name of its own among the public keys.
        self.dropout = nn.Dropout(dropout)
        self.conv1 = xavier(nn.Conv2d(c_out, c_out, 3, padding=1), ZERO)
        changes = c_in != c_out or resample is not None
        self.skip = _convolution(c_in, c_out, 1, resample, resample_filter) if changes else None
        self.norm2 = norm(c_out) if attention else None
        self.qkv = xavier(nn.Conv2d(c_out, 3 * c_out, 1), math.sqrt(0.2)) if attention else None
        self.proj = xavier(nn.Conv2d(c_out, c_out, 1), ZERO) if attention else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] with the embedding ``e`` [B, E]."""
        h: Tensor = self.conv0(silu(self.norm0(x))) + self.affine(e)[:, :, None, None]
        h = self.conv1(self.dropout(silu(self.norm1(h))))
        h = (h + (x if self.skip is None else self.skip(x))) * math.sqrt(0.5)
        if self.norm2 is not None and self.qkv is not None and self.proj is not None:
            h = (h + self.proj(_attended(self.qkv(self.norm2(h))))) * math.sqrt(0.5)
        return h


class Resampled(nn.Conv2d):
    """A convolution of an image halved or doubled by a filter before it."""

    resample_filter: Tensor

    def __init__(
        self, c_in: int, c_out: int, kernel: int, resample: Literal["up", "down"], taps: Sequence[float]
    ) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2)
        self.resample = resample
        self.register_buffer("resample_filter", filter_of(taps))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W]; H and W halved or doubled, [B, c_out, ...]."""
        c = x.shape[1]
        taps = self.resample_filter.expand(c, -1, -1, -1)
        padding = (taps.shape[-1] - 1) // 2
        if self.resample == "down":
            x = conv2d(x, taps, stride=2, padding=padding, groups=c)
        else:
            x = conv_transpose2d(x, 4 * taps, stride=2, padding=padding, groups=c)
        return super().forward(x)


class ResidualInput(nn.Conv2d):
    """NCSN++'s way down of the image itself: a convolution, then halved by the filter, then the bias."""

    resample_filter: Tensor

    def __init__(self, c_in: int, c_out: int, taps: Sequence[float]) -> None:
        super().__init__(c_in, c_out, 3, padding=1 + (len(taps) - 1) // 2)
        self.register_buffer("resample_filter", filter_of(taps))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] as [B, c_out, H/2, W/2]."""
        c = self.out_channels
        x = conv2d(x, self.weight, padding=self.padding)
        taps = self.resample_filter.expand(c, -1, -1, -1)
        return conv2d(x, taps, self.bias, stride=2, groups=c)


def filter_of(taps: Sequence[float]) -> Tensor:
    """The outer product [1, 1, n, n] of ``taps`` with themselves, of sum 1."""
    # Not `outer`: for parameters without storage torch would load its compiler, two seconds of it.
    products = [[one * two / sum(taps) ** 2 for two in taps] for one in taps]
    return torch.tensor(products, dtype=torch.float32)[None, None]


def _attended(qkv: Tensor) -> Tensor:
    """Attention over the pixels of ``qkv`` [B, 3 C, H, W], in which a channel's q, k and v are neighbours."""
    n, c, height, width = qkv.shape
    q, k, v = qkv.view(n, 1, c // 3, 3, height * width).transpose(2, 4).unbind(3)
    mixed = scaled_dot_product_attention(q, k, v)
    return mixed.transpose(2, 3).reshape(n, c // 3, height, width)


def _convolution(c_in: int, c_out: int, kernel: int, resample: Resample, taps: Sequence[float]) -> nn.Conv2d:
    if resample is None:
        return xavier(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2))
    return xavier(Resampled(c_in, c_out, kernel, resample, taps))


def norm(channels: int) -> nn.GroupNorm:
    """Normalisation in at most 32 groups of four channels and more."""
    groups = min(32, channels // 4)
    if groups == 0 or channels % groups:
        raise CheckpointError(
            f"[network] a layer of {channels} channels cannot be normalised in {max(groups, 1)} groups",
            hint="model_channels and channel_mult do not belong together",
            found=channels,
        )
    return nn.GroupNorm(groups, channels, eps=NORM_EPS)


def xavier(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer, drawn anew (Xavier's uniform law), its bias zero."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
