"""Rows of a network call where nobody says."""

from __future__ import annotations

from typing import Final

import torch

ROWS_STEP: Final = 16  # on two threads a row's bits depended on its neighbours with 5 rows, never with 16
CPU_ROWS: Final = 64
CPU_DRAWN: Final = 16
DEVICE_ROWS: Final = 256
SHARED_ROWS: Final = 256  # images that share their steps, as in the paper's pipeline


def scoring_rows(n_images: int, device: torch.device | str, *, shared: bool = False) -> int:
    """The smallest multiple of 16 that holds all, at most what suits the device.

    Images that share their steps are a block of `SHARED_ROWS`.
    """
    if shared:
        return min(SHARED_ROWS, n_images)
    if n_images < ROWS_STEP:
        return max(n_images, 1)
    suits = CPU_ROWS if torch.device(device).type == "cpu" else DEVICE_ROWS
    return min(-(-n_images // ROWS_STEP) * ROWS_STEP, suits)


def drawing_rows(device: torch.device) -> int:
    """Rows while images are drawn.

    They do not follow the number of images: another number of rows would change the last bits of a picture
    that is drawn alone.
    """
    return CPU_DRAWN if device.type == "cpu" else DEVICE_ROWS
