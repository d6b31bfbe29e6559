"""In which numbers a network is trained: ``float32``, ``float64``, ``tf32``, ``bf16`` or ``fp16``.

Weights, means and moments are float32 in all but ``float64``. ``tf32`` rounds the factors of products on
NVIDIA's matrix units; ``bf16`` and ``fp16`` compute layers under autocast, the latter with a loss that is
scaled so that small gradients are not lost (Micikevicius et al. 2018, section 3.2).
"""

from __future__ import annotations

import torch

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.arithmetic import check_numbers, layers, products

__all__ = ["check_precision", "dtype_of", "layers", "loss_scaler", "products"]


def check_precision(precision: str, device: torch.device, *, learned_ends: bool = False) -> None:
    """`UsageError` where the device has no such numbers; ``learned_ends`` need float64."""
    if learned_ends and device.type == "mps":
        raise UsageError(
            "learned_ends on mps, which has no float64, in which ends are computed",
            hint="use --device cpu, or state gamma_range and leave learned_ends out",
        )
    check_numbers(precision, device)


def dtype_of(precision: str) -> torch.dtype:
    """Of the weights."""
    return torch.float64 if precision == "float64" else torch.float32


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What scales the loss; it does nothing but for ``fp16``."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
