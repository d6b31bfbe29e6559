"""The blocks of OpenAI's U-Net (`openai_unet`): residual, attention, and changes of resolution.

Names of parameters are those of the public files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention

from merged_diffusion.errors import CheckpointError

NORM_EPS: Final = 1e-5
KERNEL: Final = 3
Change = Literal["up", "down"] | None
Order = Literal["legacy", "new", "adm"]
Layer = TypeVar("Layer", nn.Conv2d, nn.Conv1d, nn.Linear)


@dataclass(frozen=True)
class Style:
    """What all blocks of a network have in common.

    ``embedding``: width of the embedding; ``scale_shift``: it scales and shifts normalised channels, and else
    is added before them; ``norm_groups``, ``norm_channels``: as many groups as leave each of them that many
    channels, and no more than that many groups.
    """

    embedding: int
    dropout: float
    scale_shift: bool
    norm_groups: int
    norm_channels: int
    order: Order

    def norm(self, channels: int) -> nn.GroupNorm:
        """Normalisation of so many channels."""
        groups = min(self.norm_groups, channels // self.norm_channels)
        if groups < 1 or channels % groups:
            raise CheckpointError(
                f"[network] a layer of {channels} channels cannot be normalised in {max(groups, 1)} groups",
                hint="model_channels, channel_mult and norm_groups do not belong together",
                found=channels,
            )
        return nn.GroupNorm(groups, channels, eps=NORM_EPS)


class ResBlock(nn.Module):
    """x + convolutions of x and of the embedding; both halved or doubled first where ``change`` says so."""

    def __init__(self, c_in: int, c_out: int, style: Style, change: Change = None) -> None:
        super().__init__()
        self.c_in, self.change, self.scale_shift = c_in, change, style.scale_shift
        self.in_layers = nn.Sequential(style.norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, KERNEL, padding=1))
        n_numbers = 2 * c_out if style.scale_shift else c_out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(style.embedding, n_numbers))
        self.out_layers = nn.Sequential(
            style.norm(c_out),
            nn.SiLU(),
            nn.Dropout(style.dropout),
            zeroed(nn.Conv2d(c_out, c_out, KERNEL, padding=1)),
        )
        self.skip_connection = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] with the embedding ``e`` [B, E]."""
        norm, silu, conv = self.in_layers
        h = silu(norm(x))
        if self.change is not None:
            h, x = changed(h, self.change), changed(x, self.change)
        h = conv(h)
        numbers = self.emb_layers(e)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = numbers.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + numbers)
        for layer in rest:
            h = layer(h)
        out: Tensor = self.skip_connection(x) + h
        return out


class Attention(nn.Module):
    """x + attention over its pixels, in ``heads``, whose q, k and v lie in the channels as ``order`` says.

    ``legacy``: by head, then q, k and v; ``new``: by q, k and v, then head; ``adm``: by head, then channel,
    whose q, k and v are neighbours.
    """

    def __init__(self, channels: int, heads: int, style: Style) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise CheckpointError(
                f"[network] {channels} channels cannot be shared by {heads} heads of attention",
                hint="num_heads and num_head_channels are not in the file: state those of the training",
                found=heads,
            )
        self.heads, self.order = heads, style.order
        self.norm = style.norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W]."""
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x).view(n, c, height * width))
        # Contiguous: along strides torch takes its slow path, 3 to 6 times as long.
        q, k, v = (part.transpose(2, 3).contiguous() for part in self._parted(qkv, c // self.heads))
        mixed = scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.proj_out(mixed.transpose(2, 3).reshape(n, c, -1)).view_as(x)
        return out

    def _parted(self, qkv: Tensor, width: int) -> tuple[Tensor, ...]:
        """q, k and v of ``qkv`` [B, 3 C, P], each [B, heads, C/heads, P]."""
        n, _, pixels = qkv.shape
        if self.order == "new":
            return qkv.view(n, 3, self.heads, width, pixels).unbind(1)
        if self.order == "legacy":
            return qkv.view(n, self.heads, 3, width, pixels).unbind(2)
        return qkv.view(n, self.heads, width, 3, pixels).unbind(3)


class Downsample(nn.Module):
    """Halved, by a convolution or, without parameters, by the mean of four."""

    def __init__(self, channels: int, *, is_conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, KERNEL, stride=2, padding=1) if is_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] as [B, C, H/2, W/2]."""
        out: Tensor = changed(x, "down") if self.op is None else self.op(x)
        return out


class Upsample(nn.Module):
    """Doubled by repetition, and convolved unless there are no parameters."""

    def __init__(self, channels: int, *, is_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, KERNEL, padding=1) if is_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] as [B, C, 2 H, 2 W]."""
        x = changed(x, "up")
        out: Tensor = x if self.conv is None else self.conv(x)
        return out


class Parts(nn.ModuleList):
    """What is done between two joints of the U-Net, one after the other."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, C, H, W] with the embedding ``e`` [B, E]."""
        part: Callable[..., Tensor]
        for part in self:
            x = part(x, e) if isinstance(part, ResBlock) else part(x)
        return x


def changed(x: Tensor, change: Literal["up", "down"]) -> Tensor:
    """Pixels repeated, or the mean of four."""
    return avg_pool2d(x, 2) if change == "down" else interpolate(x, scale_factor=2, mode="nearest")


def zeroed(layer: Layer) -> Layer:
    """The layer, which begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
