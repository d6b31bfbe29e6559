"""Experts made ready for many calls: fenced, on one device, of one dtype, parameters without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import fenced


@contextmanager
def prepared(experts: Iterable[Expert], *, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Experts that are `frozen`, under the fence's settings of torch."""
    with fenced(), frozen(experts, device=device, dtype=dtype):
        yield


@contextmanager
def frozen(experts: Iterable[Expert], *, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Experts that are torch modules on the device, in the dtype, without gradients of parameters.

    At the end they have the very tensors again that they had: float64 weights are not rounded for good. Any
    other callable looks after itself.
    """
    modules = list({id(e): e for e in experts if isinstance(e, nn.Module)}.values())
    owners = {id(owner): owner for module in modules for owner in module.modules()}.values()
    weights = [(p, p.data, p.requires_grad) for module in modules for p in module.parameters()]
    buffers = [(owner, name, b) for owner in owners for name, b in owner.named_buffers(recurse=False)]
    try:
        for module in modules:
            module.to(device=device, dtype=dtype)
        for parameter, _, _ in weights:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, data, is_trained in weights:
            parameter.data = data
            parameter.requires_grad_(is_trained)
        for owner, name, buffer in buffers:
            setattr(owner, name, buffer)
