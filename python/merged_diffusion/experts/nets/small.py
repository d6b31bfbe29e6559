"""The networks of the bundled experts: a residual MLP, and a U-Net, for tiny images.

Both map (h [B, C_in, H, W], u [B]), u the noise level rescaled to about [0, 1], to [B, C_out, H, W]. Every
activation is smooth (SiLU) and no layer couples rows (layer and group norm, never batch norm): the
probability flow stays easy to integrate, and an image's result does not depend on its neighbours. Output
layers start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from merged_diffusion.errors import CheckpointError

EMBEDDING = 64
GROUPS = 8
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def build(network: Mapping[str, object], c_in: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network of a card's ``[network]`` table, for ``c_in`` input channels and images of ``shape``."""
    table: dict[str, object] = dict(network)
    kind = table.pop("type", None)
    table.pop("architecture", None)
    table.pop("periods", None)  # of the expert's input features
    if kind == "mlp":
        return Mlp(c_in, shape, **_checked(table, width=int, blocks=int, dropout=float))
    if kind == "unet":
        return UNet(c_in, shape[0], **_checked(table, channels=list, dropout=float))
    raise CheckpointError(f"[network] type = {kind!r} is neither 'mlp' nor 'unet'", key="type", found=kind)


def _checked(table: dict[str, object], **kinds: type) -> dict[str, Any]:
    wrong = list(table.keys() ^ kinds.keys())
    wrong += [k for k, t in kinds.items() if k in table and not isinstance(table[k], t)]
    if wrong:
        raise CheckpointError(
            f"[network] has missing, unknown or ill-typed keys: {', '.join(sorted(wrong))}",
            hint="expected " + ", ".join(f"{k} ({t.__name__})" for k, t in kinds.items()),
        )
    return table


class Embedding(nn.Module):
    """u [B] to [B, 64]: sines and cosines of 32 geometric frequencies 1..200, then two layers."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        # On the CPU even if parameters are meant to have no storage yet: no file brings it.
        frequencies = torch.logspace(
            0, math.log10(200), EMBEDDING // 2, dtype=torch.float64, device=torch.device("cpu")
        )
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.net = nn.Sequential(
            nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )

    def forward(self, u: Tensor) -> Tensor:
        """The embedding of ``u``."""
        phase = u[:, None] * self.frequencies
        out: Tensor = self.net(torch.cat([phase.sin(), phase.cos()], dim=1))
        return out


def zeroed(layer: Layer) -> Layer:
    """The layer with weight and bias zero, so that a block begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class MlpBlock(nn.Module):
    """h + B drop(silu(A silu(norm h) (1 + p) + q)), (p, q) linear in the embedding."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.modulation = nn.Linear(EMBEDDING, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """``h`` [B, width] with the embedding ``e`` [B, 64]."""
        p, q = self.modulation(e).chunk(2, dim=1)
        inner = self.first(silu(self.norm(h))) * (1 + p) + q
        out: Tensor = h + self.second(self.dropout(silu(inner)))
        return out


class Mlp(nn.Module):
    """Residual blocks over the flattened image."""

    def __init__(
        self, c_in: int, shape: tuple[int, int, int], width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.embedding = Embedding()
        self.first = nn.Linear(c_in * height * breadth, width)
        self.blocks = nn.ModuleList(MlpBlock(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, channels * height * breadth))
        self.shape = shape

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """``x`` [B, C_in, H, W] at ``u`` [B]."""
        e = self.embedding(u)
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        out: Tensor = self.last(silu(self.norm(h)))
        return out.view(-1, *self.shape)


class ConvBlock(nn.Module):
    """skip(h) + B drop(silu(norm(A silu(norm h)) (1 + p) + q)), A and B 3x3 convolutions."""

    def __init__(self, c_in: int, c_out: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, c_in)
        self.first = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(EMBEDDING, 2 * c_out)
        self.norm2 = nn.GroupNorm(GROUPS, c_out)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """``h`` [B, c_in, H, W] with the embedding ``e`` [B, 64]."""
        p, q = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm2(self.first(silu(self.norm1(h)))) * (1 + p) + q
        out: Tensor = self.skip(h) + self.second(self.dropout(silu(inner)))
        return out


class Attention(nn.Module):
    """One head of self-attention over the pixels, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        """``h`` [B, C, H, W]."""
        q, k, v = self.qkv(self.norm(h)).flatten(2).transpose(1, 2).chunk(3, dim=2)  # [B, HW, C] each
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape)
        out: Tensor = h + self.out(mixed)
        return out


class UNet(nn.Module):
    """Blocks at each resolution, half the one before, attention at the lowest, every skip concatenated.

    ``channels`` are those of the resolutions, the highest first.
    """

    def __init__(self, c_in: int, c_out: int, channels: list[int], dropout: float) -> None:
        super().__init__()
        if len(channels) < 2 or any(not isinstance(c, int) or c < 1 or c % GROUPS for c in channels):
            raise CheckpointError(
                f"[network] channels = {channels}, expected two or more multiples of {GROUPS}", key="channels"
            )
        self.depth = len(channels) - 1
        self.embedding = Embedding()
        self.conv_in = nn.Conv2d(c_in, channels[0], 3, padding=1)
        for i, c in enumerate(channels):
            self.add_module(f"down{i}", ConvBlock(c, c, dropout))
            if i < self.depth:
                self.add_module(_between("shrink", i), nn.Conv2d(c, channels[i + 1], 3, stride=2, padding=1))
        self.middle = ConvBlock(channels[-1], channels[-1], dropout)
        self.attention = Attention(channels[-1])
        for i, c in reversed(list(enumerate(channels))):
            self.add_module(f"up{i}a", ConvBlock(2 * c, c, dropout))
            self.add_module(f"up{i}b", ConvBlock(2 * c, c, dropout))
            if i:
                self.add_module(_between("grow", i - 1), nn.Conv2d(c, channels[i - 1], 3, padding=1))
        self.norm = nn.GroupNorm(GROUPS, channels[0])
        self.conv_out = zeroed(nn.Conv2d(channels[0], c_out, 3, padding=1))

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """``x`` [B, C_in, H, W], H and W divisible as often as there are halvings, at ``u`` [B]."""
        e = self.embedding(u)
        layer = self.get_submodule
        h = self.conv_in(x)
        kept = []
        for i in range(self.depth + 1):
            below = layer(f"down{i}")(h, e)
            kept.append((h, below))
            h = layer(_between("shrink", i))(below) if i < self.depth else below
        h = self.attention(self.middle(h, e))
        for i in reversed(range(self.depth + 1)):
            before, after = kept[i]
            h = layer(f"up{i}a")(torch.cat([h, after], dim=1), e)
            h = layer(f"up{i}b")(torch.cat([h, before], dim=1), e)
            if i:
                h = layer(_between("grow", i - 1))(
                    interpolate(h, size=kept[i - 1][0].shape[2:], mode="nearest")
                )
        out: Tensor = self.conv_out(silu(self.norm(h)))
        return out


def _between(name: str, i: int) -> str:
    """The layer between resolutions ``i`` and ``i`` + 1; the first has no number in files."""
    return f"{name}{i}" if i else name
