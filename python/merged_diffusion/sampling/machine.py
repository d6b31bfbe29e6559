"""Where networks run while images are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from merged_diffusion import methods
from merged_diffusion.errors import UsageError
from merged_diffusion.ode.devices import resolve_device

DTYPES: Final = {"float32": torch.float32, "float64": torch.float64}
# Rows do not follow the number of images, as they do for likelihoods: another number of rows would change the
# last bits of a picture that is drawn alone.
CPU_ROWS: Final = 16
DEVICE_ROWS: Final = 256


@dataclass(frozen=True)
class Machine:
    """Device and type of the networks, and rows of their calls."""

    device: torch.device
    dtype: torch.dtype
    rows: int

    @classmethod
    def of(cls, *, device: str, dtype: str, batch_size: int | None) -> Machine:
        """From their names; `UsageError` for what is not there."""
        if dtype not in DTYPES:
            raise UsageError(f"dtype = {dtype!r}, possible are {', '.join(DTYPES)}")
        methods.check_rows(batch_size)
        place = torch.device(resolve_device(device)[0])
        if dtype == "float64" and place.type == "mps":
            raise UsageError(
                f'dtype = "float64", but device = "{device}" has no float64',
                hint='use dtype = "float32", or device = "cpu"',
            )
        return cls(place, DTYPES[dtype], batch_size or default_rows(place))


def default_rows(device: torch.device) -> int:
    """Rows of a network call where nobody says."""
    return CPU_ROWS if device.type == "cpu" else DEVICE_ROWS
