"""By what the weights of an expert are known: one hash over all of them."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from merged_diffusion.experts.base import Expert


def weights_sha256(expert: Expert) -> str | None:
    """SHA-256 over names, types, shapes and bytes of parameters and buffers; None for other callables."""
    tensors = expert.state_dict() if isinstance(expert, nn.Module) else {}
    if not tensors:
        return None
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
