"""Seconds of the host on a CPU, of the device's queue on CUDA, without waiting in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Stopwatch:
    """Seconds spent inside `running`: of the host on a CPU, of the device's queue on CUDA."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._queued: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Time what is done, or queued, inside."""
        if device.type == "cuda":
            begin, end = _event(), _event()
            begin.record()
            yield
            end.record()
            self._queued.append((begin, end))
            while self._queued and _is_over(self._queued[0][1]):
                self._read()
            return
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start

    def _read(self) -> None:
        begin, end = self._queued.pop(0)
        self._seconds += begin.elapsed_time(end) / 1e3

    @property
    def seconds(self) -> float:
        """The sum so far; waits for the device, so it is asked for at the end."""
        while self._queued:
            self._queued[0][1].synchronize()
            self._read()
        return self._seconds


def _event() -> torch.cuda.Event:
    import torch  # here: a kept run's profile is read without it

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _is_over(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]
