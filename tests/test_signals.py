"""A signal reaches whoever waits for the core: its long loops look for one at least every 100 ms."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from merged_diffusion import _core

AFTER = 0.02  # seconds of this process until the signal comes: what others do on the machine does not count
LATE = 0.2  # seconds until it is answered, twice what is promised: an array is copied before the loop

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals")


class AlarmError(Exception):
    """Raised by the handler."""


@contextmanager
def alarm() -> Iterator[None]:
    """A signal after a while, whose handler raises."""

    def ring(number: int, frame: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def decoding() -> Callable[[], object]:
    # All of 65536 levels count where the noise is strong: 4 s of exponentials.
    z, pixels = np.zeros((1, 8192)), np.zeros((1, 8192), dtype=np.uint16)
    return lambda: _core.decoder_log_likelihood(z, pixels, 12.0, 65536)


def filling() -> Callable[[], object]:
    names = np.arange(64, dtype=np.uint64)
    out = np.empty((64, 1 << 20), dtype=np.float32)  # 0.8 s; pages that are not reached cost nothing
    return lambda: _core.fill_truncated_normal(out, 3.0, 0, names, names)


def inverting() -> Callable[[], object]:
    p = np.full(1 << 24, 0.01)  # 0.5 s
    return lambda: _core.normal_quantile(p)


@pytest.mark.parametrize("prepare", [decoding, filling, inverting])
def test_long_loop_ends_soon_after_a_signal(prepare: Callable[[], Callable[[], object]]) -> None:
    work = prepare()
    threads = _core.threads()
    _core.set_threads(1)
    begin = time.process_time()
    try:
        with pytest.raises(AlarmError), alarm():
            work()
    finally:
        _core.set_threads(threads)
    assert time.process_time() - begin < AFTER + LATE
