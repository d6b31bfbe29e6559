"""Rows of a network call, halved for good where the memory does not suffice: one mechanism for all loops.

What ran out is told by the exception's type; torch's allocator of the host has none, only words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import torch
from torch import Tensor

from merged_diffusion.errors import ResourceError, UsageError
from merged_diffusion.experts.base import Expert

T = TypeVar("T")

MOST_ROWS: Final = 1 << 16  # as many problems as one solve holds: more rows could never be filled
SMALLER: Final = "use a smaller network, another device, or fewer probes"
# Of RuntimeErrors: the allocators of the host on Linux and Windows, of mps, and libraries of cuda.
WORDS: Final = (
    *("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device did not suffice, so that fewer rows may fit."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


def check_rows(rows: int | None, name: str = "batch_size") -> None:
    """Refuse rows that no call can have.

    Raises
    ------
    UsageError
    """
    if rows is not None and not 1 <= rows <= MOST_ROWS:
        raise UsageError(
            f"{name} = {rows}: 1 to {MOST_ROWS} rows of a network call are allowed",
            hint="leave it out for what suits the device",
            found=rows,
            most=MOST_ROWS,
        )


class Rows:
    """``number`` of rows on ``device``, halved down to ``least``; ``hint`` says what to do below that."""

    def __init__(
        self, number: int, device: torch.device | str, *, least: int = 1, hint: str = SMALLER
    ) -> None:
        self.number = number
        self._device = str(device)
        self._least = least
        self._hint = hint

    def fit(self, work: Callable[[int], T]) -> T:
        """What ``work`` gives for the number of rows, tried again with half of them while memory runs out.

        Raises
        ------
        ResourceError
            The memory does not suffice for ``least`` rows.
        """
        while True:
            try:
                return work(self.number)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.number // 2 < self._least:
                    raise self._lack() from error
            # Here nothing of the attempt is held any more: the exception's frames held its tensors.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.number //= 2

    def _lack(self) -> ResourceError:
        rows = "one row" if self.number == 1 else f"{self.number} rows"
        return ResourceError(
            f"the memory of {self._device} does not suffice for a network call of {rows}",
            hint=self._hint,
            device=self._device,
            rows=self.number,
        )


def asked_in_parts(expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None) -> object:
    """The answer to z [B, C, H, W]; in halves, down to one row, where the memory does not suffice."""
    try:
        return expert(z, gamma, cond)
    except Exception as error:
        if len(z) == 1 or not is_out_of_memory(error):
            raise
    half = len(z) // 2
    parts = [
        asked_in_parts(expert, z[rows], gamma[rows], None if cond is None else cond[rows])
        for rows in (slice(half), slice(half, None))
    ]
    return torch.cat([cast(Tensor, part) for part in parts])
