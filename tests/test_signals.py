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


def decoding_one_value() -> Callable[[], object]:
    # All levels of one value count: a minute of exponentials.
    z, pixels = np.zeros((1, 1)), np.zeros((1, 1), dtype=np.uint8)
    return lambda: _core.decoder_log_likelihood(z, pixels, 60.0, 2**31 - 1)


def filling_one_row() -> Callable[[], object]:
    name = np.zeros(1, dtype=np.uint64)
    out = np.empty((1, 1 << 27), dtype=np.float32)  # 2 s; pages that are not reached cost nothing
    return lambda: _core.fill_normal(out, 0, "start", name, name)


def clustering() -> Callable[[], object]:
    values = np.zeros(1 << 21)  # 1 s of a map
    clusters = np.arange(1 << 21) * 7919 % (1 << 21)
    return lambda: _core.clustered_error(values, clusters)


def filling() -> Callable[[], object]:
    names = np.arange(64, dtype=np.uint64)
    out = np.empty((64, 1 << 20), dtype=np.float32)  # 0.8 s; pages that are not reached cost nothing
    return lambda: _core.fill_truncated_normal(out, 3.0, 0, names, names)


def inverting() -> Callable[[], object]:
    p = np.full(1 << 24, 0.01)  # 0.5 s
    return lambda: _core.normal_quantile(p)


@pytest.mark.parametrize(
    "prepare", [decoding, decoding_one_value, filling, filling_one_row, inverting, clustering]
)
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


SIZES = 1 << 17  # values: beyond this many a thread of its own adds them up


def test_sums_over_many_values_are_those_over_few() -> None:
    """A thread that a signal may leave to itself changes no bit of what it computes."""
    values = np.sin(np.arange(float(SIZES)))
    assert _core.bits_per_dim(values, 3)[7] == _core.bits_per_dim(values[7], 3)
    few = [_core.end_density(part, 1.0, 3) for part in np.split(values, 4)]
    assert np.array_equal(_core.end_density(values, 1.0, 3), np.concatenate(few))
    mean, _ = _core.mean_and_error(np.full(SIZES, 0.1))
    assert mean == 0.1


def test_a_long_row_is_filled_like_a_short_one() -> None:
    name = np.zeros(1, dtype=np.uint64)
    long, short = np.empty((1, (1 << 22) + 5)), np.empty((1, 1 << 22))
    for out in (long, short):
        _core.fill_normal(out, 3, "start", name, name)
    assert np.array_equal(long[:, : 1 << 22], short)
    alone = np.empty((1, (1 << 22) + 5), dtype=np.float32)
    _core.fill_uniform(alone, 0.0, 1.0, 3, "start", name, name)
    assert len(np.unique(alone[0, -1000:])) > 900
