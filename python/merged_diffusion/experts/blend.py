"""Two experts at once: eps_hat = w eps_L + (1 - w) eps_Q, w(gamma) a gate's.

A product of the mixture is the mixture of the products, so one backward pass through both networks serves the
trace. Both are asked whatever w is: where it is 0 or 1 a model has legs of one expert alone.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert, ImageShape, Pixels
from merged_diffusion.experts.fence import ask
from merged_diffusion.soft_gate import Gate


class Blend:
    """The ``likelihood`` and the ``quality`` expert, of ``centred`` pixels, under a gate."""

    pixels: Pixels = "centred"
    is_coupled: Final = False

    def __init__(self, likelihood: Expert, quality: Expert, gate: Gate) -> None:
        self.parts = likelihood, quality
        self.gate = gate
        self.name = f"{likelihood.name} and {quality.name}"
        lows, highs = zip(likelihood.gamma_range, quality.gamma_range, strict=True)
        self.gamma_range: tuple[float, float] = max(lows), min(highs)
        self.levels = likelihood.levels
        axes = zip(likelihood.image_shape, quality.image_shape, strict=True)
        channels, height, width = (one if one is not None else other for one, other in axes)
        self.image_shape: ImageShape = channels, height, width
        self.conditional = likelihood.conditional or quality.conditional

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] of z [B, C, H, W] at gamma [B]."""
        likelihood, quality = self.parts
        grad = torch.is_grad_enabled()
        w = self.gate(gamma)
        one = ask(likelihood, z, gamma, cond, grad=grad)
        two = ask(quality, z, gamma, cond, grad=grad)
        return schedules.per_image(w, one) * one + schedules.per_image(1 - w, two) * two


def check_gate(gate: Gate, likelihood: Expert, quality: Expert) -> None:
    """Refuse a gate that asks an expert where it was not trained."""
    (low, top), (bottom, high) = likelihood.gamma_range, quality.gamma_range
    for expert, is_wrong, word in (
        (quality, bottom > low and gate.start < bottom, f"from {gate.start:g} on"),
        (likelihood, top < high and gate.end > top, f"up to {gate.end:g}"),
    ):
        if is_wrong:
            trained = expert.gamma_range
            raise UsageError(
                f"the gate asks expert {expert.name} {word} in gamma, and it was trained on {trained[0]:g} "
                f"to {trained[1]:g}",
                hint="md.fit_gate fits a gate that suits both experts",
                expert=expert.name,
                expected=list(trained),
                found=[gate.start, gate.end],
            )
