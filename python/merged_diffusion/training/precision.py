"""In which numbers a network is trained: ``float32``, ``float64``, ``tf32``, ``bf16`` or ``fp16``.

Weights, means and moments are float32 in all but ``float64``. ``tf32`` rounds the factors of products on
NVIDIA's matrix units; ``bf16`` and ``fp16`` compute layers under autocast, the latter with a loss that is
scaled so that small gradients are not lost (Micikevicius et al. 2018, section 3.2).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.fence import products_in_tf32


def check_precision(precision: str, device: torch.device, *, learned_ends: bool = False) -> None:
    """`UsageError` where the device has no such numbers; ``learned_ends`` need float64."""
    if learned_ends and device.type == "mps":
        raise UsageError(
            "learned_ends on mps, which has no float64, in which ends are computed",
            hint="use --device cpu, or state gamma_range and leave learned_ends out",
        )
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            f"precision 'tf32' on {device}: those are numbers of NVIDIA's GPUs", hint="use float32, or bf16"
        )
    if precision == "float64" and device.type == "mps":
        raise UsageError("precision 'float64' on mps, which has none", hint="use float32, or --device cpu")
    if precision in ("bf16", "fp16") and device.type == "mps":
        raise UsageError(f"precision {precision!r} on mps is not offered", hint="use float32")


def dtype_of(precision: str) -> torch.dtype:
    """Of the weights."""
    return torch.float64 if precision == "float64" else torch.float32


def products(precision: str) -> AbstractContextManager[object]:
    """Products of float32 as ``tf32``, where that is the precision."""
    return products_in_tf32() if precision == "tf32" else nullcontext()


def layers(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast, for ``bf16`` and ``fp16``."""
    if precision not in ("bf16", "fp16"):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What scales the loss; it does nothing but for ``fp16``."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
