"""From the host to a device without waiting: what is known beforehand costs no synchronisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def placed(array: np.ndarray[Any, Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """An array as a tensor on a device, in its own dtype or ``dtype``."""
    tensor = torch.from_numpy(array)
    if dtype is not None:
        tensor = tensor.to(dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # a copy from pageable memory waits
    return tensor.to(device, non_blocking=True)
