"""Several experts at once: eps_hat = sum_i w_i eps_i, w(gamma) a gate's.

A product of the mixture is the mixture of the products, so one backward pass through all networks serves the
trace. All are asked whatever w is: where a share is 0 a model has legs without that expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert, ImageShape, Pixels
from merged_diffusion.experts.fence import ask
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.soft_gate import Gate

NEAR: Final = 1e-9  # in gamma: as far as a knot's rounding may be off the end of a range


class Blend:
    """Experts of ``centred`` pixels under a gate; ``columns`` are their numbers in it, all by default."""

    pixels: Pixels = "centred"
    is_coupled: Final = False

    def __init__(
        self, parts: Sequence[Expert], gate: Gate | SimplexGate, columns: Sequence[int] | None = None
    ) -> None:
        self.parts = tuple(parts)
        self.gate = gate
        self.columns = tuple(range(len(self.parts)) if columns is None else columns)
        self.name = " and ".join(expert.name for expert in self.parts)
        lows, highs = zip(*(expert.gamma_range for expert in self.parts), strict=True)
        self.gamma_range: tuple[float, float] = max(lows), min(highs)
        self.levels = self.parts[0].levels
        axes = zip(*(expert.image_shape for expert in self.parts), strict=True)
        channels, height, width = (next((n for n in sizes if n is not None), None) for sizes in axes)
        self.image_shape: ImageShape = channels, height, width
        self.conditional = any(expert.conditional for expert in self.parts)

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] of z [B, C, H, W] at gamma [B]."""
        grad = torch.is_grad_enabled()
        shares = self.gate.each(gamma)
        found = [ask(expert, z, gamma, cond, grad=grad) for expert in self.parts]
        terms = [
            schedules.per_image(shares[:, column], one) * one
            for column, one in zip(self.columns, found, strict=True)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


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


def pieces(gate: SimplexGate, experts: Sequence[Expert]) -> list[tuple[tuple[int, ...], float, float]]:
    """Which experts a gate asks from where to where, within the range that they have together.

    Raises
    ------
    UsageError
        It is one of another number of experts, leaves a part of the range out, or asks an expert where it was
        not trained.
    """
    if gate.n_experts != len(experts):
        raise UsageError(f"the gate is one of {gate.n_experts} experts, and {len(experts)} are given")
    ends = [end for expert in experts for end in expert.gamma_range]
    low, high = min(ends), max(ends)
    if gate.start > low + NEAR or gate.end < high - NEAR:
        raise UsageError(
            f"the gate says nothing outside gamma {gate.start:g} to {gate.end:g}, and the experts range from "
            f"{low:g} to {high:g}"
        )

    def snapped(gamma: float) -> float:
        return next((end for end in ends if abs(end - gamma) <= NEAR), gamma)

    found = []
    for who, start, end in gate.asked():
        start, end = max(snapped(start), low), min(snapped(end), high)
        if start >= end:
            continue
        for number in who:
            first, last = experts[number].gamma_range
            if start < first or end > last:
                raise UsageError(
                    f"the gate asks expert {experts[number].name} from {start:g} to {end:g} in gamma, and it "
                    f"was trained on {first:g} to {last:g}",
                    hint="md.fit_gate_of fits a gate that suits all experts",
                    expert=experts[number].name,
                    expected=[first, last],
                    found=[start, end],
                )
        found.append((who, start, end))
    return found
