"""SIGTERM in a training, sent by schedulers a while before they kill: a snapshot, and all processes end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

TERMINATED: Final = 128 + signal.SIGTERM


class TerminatedError(SystemExit):
    """A training that was asked to end, and has written its snapshot."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class Stop:
    """Whether this process was asked to end."""

    is_asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the handler's signature
        """Take note of a signal."""
        self.is_asked = True


@contextmanager
def listening() -> Iterator[Stop]:
    """SIGTERM is noted instead of obeyed; in another thread than the main one nothing is."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
