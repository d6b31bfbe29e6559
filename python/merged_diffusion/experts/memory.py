"""Rows of a network call, halved for good where the memory does not suffice: one mechanism for all loops.

What ran out is told by the exception's type; torch's allocator of the host has none, only words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from merged_diffusion.errors import ResourceError

if TYPE_CHECKING:
    import torch

FEWER: Final = "give a smaller --batch-size, or take a smaller network or another device"
SMALLER: Final = "use a smaller network, another device, or fewer probes"
# Of RuntimeErrors: the allocators of the host on Linux and Windows, of mps, and libraries of cuda.
WORDS: Final = (
    *("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory"),
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device did not suffice, so that fewer rows may fit."""
    if isinstance(error, (MemoryError, ResourceError)):  # ours is the core's, for its buffers
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


class Rows:
    """``number`` of rows on ``device``, halved down to ``least``; ``hint`` says what to do below that."""

    def __init__(
        self, number: int, device: torch.device | str, *, least: int = 1, hint: str = SMALLER
    ) -> None:
        self.number = number
        self._device = str(device)
        self._least = least
        self._hint = hint
        self._was_halved = False

    @contextmanager
    def attempt(self) -> Iterator[int]:
        """The ``number`` of rows for a try in a loop: where memory runs out, the next has half of them.

        Raises
        ------
        ResourceError
            The memory does not suffice for ``least`` rows.
        """
        if self._was_halved:  # only now: the exception's frames held the tensors of the attempt
            self._was_halved = False
            _free()
        try:
            yield self.number
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if self.number // 2 < self._least:
                raise self._lack() from error
            self.number //= 2
            self._was_halved = True

    def _lack(self) -> ResourceError:
        rows = "one row" if self.number == 1 else f"{self.number} rows"
        return ResourceError(
            f"the memory of {self._device} does not suffice for a network call of {rows}",
            hint=self._hint,
            device=self._device,
            rows=self.number,
        )


def _free() -> None:
    """Give back what torch keeps of a device's memory for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
