"""Ctrl-C and SIGTERM.

Both raise where the program is; the solver lets them through unchanged, and since a record is one write, the
log ends at a record boundary. SIGTERM leaves at once with 143; a training
writes its snapshot before (`training.stopping`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGTERM_CODE: Final = 128 + signal.SIGTERM


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the handler's signature
    raise SystemExit(SIGTERM_CODE)


@contextmanager
def handled() -> Iterator[None]:
    """SIGTERM as an exception, SIGINT as KeyboardInterrupt even where a shell's ``&`` had it ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, _terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
