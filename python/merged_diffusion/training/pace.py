"""How fast a training goes, when it will be done, and how often a snapshot may be written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SAVE_SECONDS: Final = 30.0
SAVE_SHARE: Final = 0.02  # of the time, at most, for snapshots that nothing but the clock asks for


class Pace:
    """The clock of one part of a training, from its first step on.

    The rate is that of all steps but the first, in which kernels are chosen and networks compiled, with
    reports and snapshots among them: what is left of a training has those, too.
    """

    def __init__(self, step: int, batch: int, earlier: float) -> None:
        self._step, self._batch, self._earlier = step, batch, earlier
        self._began = self._saved = time.monotonic()
        self._measured: float | None = None
        self._cost = 0.0

    def stepped(self) -> None:
        """A step was made."""
        if self._measured is None:
            self._measured = time.monotonic()

    def images_per_second(self, step: int) -> float:
        """By the steps of this part up to ``step``; 0 where there was one at most."""
        done = step - self._step - 1
        if done < 1 or self._measured is None:
            return 0.0
        return done * self._batch / max(time.monotonic() - self._measured, 1e-9)

    @property
    def seconds(self) -> float:
        """Of this part and the earlier ones."""
        return self._earlier + time.monotonic() - self._began

    def may_save(self) -> bool:
        """Whether the last snapshot is long enough ago, by what it took."""
        return time.monotonic() - self._saved > max(SAVE_SECONDS, self._cost / SAVE_SHARE)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Round the writing of a snapshot."""
        before = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._cost = self._saved - before
