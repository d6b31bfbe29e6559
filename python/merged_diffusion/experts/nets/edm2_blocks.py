"""Layers that keep magnitudes, and the residual block of EDM2 made of them (Karras et al. 2024).

Activations stay of size about 1 without group norms and biases. Every row w of weights is used as w over its
own length (eq. 47), whatever is stored, and a vector v of n entries, a pixel's channels or a head's, is
normalised as v/(1e-4 + |v|/sqrt n). Two of size 1 are mixed, or joined, to one of size 1 again:

    mix(a, b; t) = ((1 - t) a + t b)/sqrt((1 - t)^2 + t^2)                                        (eq. 88)
    join(a, b; t) = sqrt((n_a + n_b)/((1 - t)^2 + t^2)) [(1 - t) a/sqrt n_a, t b/sqrt n_b]        (eq. 103)
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, linear, scaled_dot_product_attention, silu

from merged_diffusion.errors import CheckpointError
from merged_diffusion.schedules import as_input, widened

NORM_EPS: Final = 1e-4
SMALLEST: Final = 1e-30  # mean square that counts; its root is nothing beside NORM_EPS
SILU_SIZE: Final = 0.596  # root mean square of silu of a standard normal number (eq. 81)
Way = Literal["enc", "dec"]
Resample = Literal["up", "down"] | None


class Weights(nn.Module):
    """A linear map, or with a ``kernel`` a convolution, whose rows of weights have length 1; no bias."""

    def __init__(self, c_in: int, c_out: int, kernel: int | None = None) -> None:
        super().__init__()
        shape = (c_out, c_in, kernel, kernel) if kernel else (c_out, c_in)
        # Not `normal_`: for parameters without storage torch would load its compiler, two seconds of it.
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape)))
        self.padding = kernel // 2 if kernel else None

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """``x`` [B, c_in] or [B, c_in, H, W], the result times ``gain``: one number, or [B, c_out]."""
        # The result is divided, not the rows: no copy of all weights is made, nor kept for a gradient.
        scale = gain / self.lengths()
        if self.padding is None:
            return linear(x, self.weight) * scale
        return conv2d(x, self.weight, padding=self.padding) * scale[..., None, None]

    def lengths(self) -> Tensor:
        """Of the rows of weights [c_out], and a little more, so that a row of zeros is none of NaN."""
        rows = self.weight.flatten(1)
        lengths: Tensor = torch.linalg.vector_norm(rows, dim=1) + NORM_EPS * math.sqrt(rows.shape[1])
        return lengths


class Fourier(nn.Module):
    """sqrt(2) cos(f_i u + phase_i) (eq. 75), f (2 pi included) and phases drawn once, part of the state."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        turn = 2 * math.pi
        # Beyond four standard deviations there would be one of n = 16 000.
        freqs = nn.init.trunc_normal_(torch.empty(n), std=turn, a=-4 * turn, b=4 * turn)
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", nn.init.uniform_(torch.empty(n), 0, turn))

    def forward(self, u: Tensor, like: Tensor) -> Tensor:
        """The features [B, n] of ``u`` [B], in the dtype and on the device of ``like``.

        Differs from the public code: phases are formed in float64.
        """
        phases = widened(u)[:, None] * widened(self.freqs) + widened(self.phases)
        return as_input(math.sqrt(2) * phases.cos(), like)


class Block(nn.Module):
    """A residual block on the way down (``enc``) or up (``dec``), with attention where there are heads."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        way: Way,
        *,
        e: int,
        channels_per_head: int,
        dropout: float,
        res_balance: float,
        attn_balance: float,
        clip_act: float,
        attention: bool = False,
        resample: Resample = None,
    ) -> None:
        super().__init__()
        self.way, self.resample = way, resample
        self.res_balance, self.attn_balance, self.clip_act = res_balance, attn_balance, clip_act
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = Weights(c_out if way == "enc" else c_in, c_out, 3)
        self.emb_linear = Weights(e, c_out)
        # No parameters, so no name of its own among the public keys.
        self.dropout = nn.Dropout(dropout)
        self.conv_res1 = Weights(c_out, c_out, 3)
        self.conv_skip = Weights(c_in, c_out, 1) if c_in != c_out else None
        # None where there are fewer channels than one head has, even if attention is asked for.
        self.heads = c_out // channels_per_head if attention else 0
        if self.heads and c_out % self.heads:
            raise CheckpointError(
                f"[network] a layer of {c_out} channels cannot be split into {self.heads} heads",
                hint=f"channels_per_head = {channels_per_head} does not belong to these channels",
                found=c_out,
            )
        self.attn_qkv = Weights(c_out, 3 * c_out, 1) if self.heads else None
        self.attn_proj = Weights(c_out, c_out, 1) if self.heads else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` [B, c_in, H, W] with the embedding ``e`` [B, E]."""
        if self.resample == "down":
            x = avg_pool2d(x, 2)
        elif self.resample == "up":
            x = interpolate(x, scale_factor=2)
        if self.way == "enc":
            x = normalised(x if self.conv_skip is None else self.conv_skip(x))
        h = unit_silu(self.conv_res0(unit_silu(x), 1 + self.emb_linear(e, self.emb_gain)))
        if self.way == "dec" and self.conv_skip is not None:
            x = self.conv_skip(x)
        ours, theirs = shares(self.res_balance)
        x = torch.add(self.conv_res1(self.dropout(h), theirs), x, alpha=ours)
        if self.attn_qkv is not None and self.attn_proj is not None:
            ours, theirs = shares(self.attn_balance)
            x = torch.add(self.attn_proj(self.attended(self.attn_qkv(x)), theirs), x, alpha=ours)
        return x.clip(-self.clip_act, self.clip_act)

    def attended(self, qkv: Tensor) -> Tensor:
        """Attention over the pixels of ``qkv`` [B, 3 C, H, W], a channel's q, k and v neighbours."""
        n, c, height, width = qkv.shape
        split = qkv.view(n, self.heads, -1, 3, height * width).permute(3, 0, 1, 4, 2)
        # Channels next to each other: else the fast kernels of attention are out of reach.
        q, k, v = normalised(split.contiguous(), dim=4).unbind(0)
        mixed = scaled_dot_product_attention(q, k, v)
        return mixed.transpose(2, 3).reshape(n, c // 3, height, width)


def normalised(x: Tensor, dim: int = 1) -> Tensor:
    """``x`` over its root mean square along ``dim``."""
    # Not `vector_norm`, which takes ten times as long along an inner dimension; the square root of nothing
    # has no gradient.
    size = x.square().mean(dim, keepdim=True).clamp_min(SMALLEST).sqrt()
    return x / (NORM_EPS + size)


def unit_silu(x: Tensor) -> Tensor:
    """Silu of ``x``, of size 1 where ``x`` is normal of size 1."""
    return silu(x) / SILU_SIZE


def shares(t: float) -> tuple[float, float]:
    """What each of two is multiplied by where they are mixed."""
    return (1 - t) / math.hypot(1 - t, t), t / math.hypot(1 - t, t)


def joined(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The channels of ``a`` and ``b``, each [B, *, H, W], with equal say where t = 1/2."""
    ours, theirs = shares(t)
    n_a, n_b = a.shape[1], b.shape[1]
    whole = math.sqrt(n_a + n_b)
    return torch.cat([a * (whole * ours / math.sqrt(n_a)), b * (whole * theirs / math.sqrt(n_b))], dim=1)
