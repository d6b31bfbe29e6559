"""Experts made ready for many calls: fenced, on one device, of one dtype, and found sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.arithmetic import in_precision
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.denoising import ROWS as EXAMPLES
from merged_diffusion.experts.fence import fenced
from merged_diffusion.ode.devices import on_threads
from merged_diffusion.ode.machine import Place

Asked = Iterable[tuple[Expert, tuple[float, float]]]
"""Experts, and the gammas that each is asked over."""


@contextmanager
def prepared(
    asked: Asked,
    place: Place,
    shape: tuple[int, ...],
    *,
    labels: npt.NDArray[np.int64] | None = None,
    examples: npt.NDArray[np.float64] | None = None,
    takes_products: bool = True,
    accept: Accept | None = None,
) -> Iterator[None]:
    """Experts that are `frozen` and that `check_expert` found sound, under the fence's settings of torch.

    ``examples`` [N, C, H, W] in the model's space are what they should denoise; ``accept`` says what is let
    pass.
    """
    asked, accept = list(asked), Accept() if accept is None else accept
    with ready((expert for expert, _ in asked), place):
        for number, (expert, over) in enumerate(asked):
            check_expert(
                expert,
                cast("tuple[int, int, int]", shape),
                device=place.device,
                dtype=place.dtype,
                cond=None if labels is None else torch.as_tensor(labels[:EXAMPLES], device=place.device),
                over=over,
                images=None if examples is None else torch.as_tensor(examples[:EXAMPLES], device="cpu"),
                takes_products=takes_products,
                batch_coupled=accept.batch_coupled,
                accept_gradient=() if accept.gradient is None else (accept.gradient,),
                number=number,
                precision=place.precision,
            )
        yield


@contextmanager
def ready(experts: Iterable[Expert], place: Place) -> Iterator[None]:
    """The same of experts that nobody looks at."""
    with (
        fenced(),
        on_threads(place.threads),
        frozen(experts, device=place.device, dtype=place.dtype),
        in_precision(place.precision),
    ):
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
