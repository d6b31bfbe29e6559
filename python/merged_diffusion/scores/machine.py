"""Where networks run: device, type of numbers, and rows of a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from merged_diffusion import methods
from merged_diffusion.errors import UsageError
from merged_diffusion.ode.devices import resolve_device

DTYPES: Final = {"float32": torch.float32, "float64": torch.float64}
ROWS_STEP: Final = 16  # on two threads a row's bits depended on its neighbours with 5 rows, never with 16
CPU_ROWS: Final = 64
CPU_DRAWN: Final = 16
DEVICE_ROWS: Final = 256


@dataclass(frozen=True)
class Machine:
    """Device and type of the networks, and rows of their calls."""

    device: torch.device
    dtype: torch.dtype
    rows: int

    @classmethod
    def of(
        cls, *, device: str, dtype: str, batch_size: int | None, usual: Callable[[torch.device], int]
    ) -> Machine:
        """From their names; `UsageError` for what is not there. ``usual``: rows where nobody says."""
        if dtype not in DTYPES:
            raise UsageError(f"dtype = {dtype!r}, possible are {', '.join(DTYPES)}")
        methods.check_rows(batch_size)
        place = torch.device(resolve_device(device)[0])
        if dtype == "float64" and place.type == "mps":
            raise UsageError(
                f'dtype = "float64", but device = "{device}" has no float64',
                hint='use dtype = "float32", or device = "cpu"',
            )
        return cls(place, DTYPES[dtype], batch_size or usual(place))


def default_batch_size(n_images: int, device: torch.device | str) -> int:
    """Rows of a network call: the smallest multiple of 16 that holds all, at most what suits the device."""
    if n_images < ROWS_STEP:
        return max(n_images, 1)
    suits = CPU_ROWS if torch.device(device).type == "cpu" else DEVICE_ROWS
    return min(-(-n_images // ROWS_STEP) * ROWS_STEP, suits)


def drawing_batch_size(device: torch.device) -> int:
    """Rows while images are drawn.

    They do not follow the number of images: another number of rows would change the last bits of a picture
    that is drawn alone.
    """
    return CPU_DRAWN if device.type == "cpu" else DEVICE_ROWS
