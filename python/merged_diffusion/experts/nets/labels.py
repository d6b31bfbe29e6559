"""Class labels as networks of diffusion models are told them: a row of weights an image, one of them 1."""

from __future__ import annotations

import torch
from torch import Tensor

from merged_diffusion.errors import ExpertError


def class_rows(labels: Tensor | None, n: int, label_dim: int, like: Tensor) -> Tensor:
    """Labels as weights of classes [B, label_dim], in the dtype and on the device of ``like``.

    ``labels`` are classes, int64 [B], -1 for none, or weights [B, label_dim]; None is a row of zeros.

    Raises
    ------
    ExpertError
        Of another shape, or no class of the network.
    """
    if labels is None:
        return like.new_zeros(n, label_dim)
    if labels.is_floating_point():
        if labels.shape != (n, label_dim):
            raise ExpertError(
                f"labels of shape {list(labels.shape)} for {n} images of {label_dim} classes",
                hint=f"give [{n}, {label_dim}], or classes int64 [{n}]",
            )
        return labels.to(like)
    # On a device the values would have to be waited for at every call; they were checked on their way there.
    if labels.device.type == "cpu" and not bool(((labels >= -1) & (labels < label_dim)).all()):
        raise ExpertError(
            f"labels {int(labels.min())} to {int(labels.max())} for {label_dim} classes",
            hint=f"give 0 to {label_dim - 1}, or -1 for no class",
        )
    classes = torch.arange(label_dim, device=labels.device)
    return (labels[:, None] == classes).to(like)
