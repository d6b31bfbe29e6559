"""Experts whose networks run compiled, by ``torch.compile``."""

from __future__ import annotations

import copy
from typing import cast

from torch import nn

from merged_diffusion.experts.base import Expert


def compiled(expert: Expert, *, backend: str = "inductor") -> Expert:
    """The same expert, its network compiled at the first call; the one given stays as it was.

    The two share their weights. What an expert does round its network stays as it is written, in float64
    where it matters; an expert that holds no torch module has nothing to compile and is returned.
    """
    if not isinstance(expert, nn.Module) or not any(True for _ in expert.children()):
        return expert
    twin = copy.copy(expert)
    twin._modules = {name: _compiled(part, backend) for name, part in expert._modules.items()}
    return cast("Expert", twin)


def _compiled(network: nn.Module | None, backend: str) -> nn.Module | None:
    if network is None:
        return None
    twin = copy.copy(network)
    # Every call has the same number of rows, so shapes are constants.
    twin.compile(dynamic=False, backend=backend)
    return twin
