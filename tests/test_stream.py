"""Named streams: the cipher, the four laws on top of it, and what a row may depend on."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

PURPOSES = {"dequantisation": 1, "probe": 2, "start": 3, "training": 4, "sampling": 5, "decoding": 6}
TAU = 3.0187
WORD = st.integers(0, 2**64 - 1)

Fill = Callable[[npt.NDArray[Any], int, npt.NDArray[np.uint64], npt.NDArray[np.uint64]], None]
FILLS: dict[str, Fill] = {
    "truncated normal": lambda out, seed, images, draws: _core.fill_truncated_normal(
        out, TAU, seed, images, draws
    ),
    "normal": lambda out, seed, images, draws: _core.fill_normal(out, seed, "start", images, draws),
    "uniform": lambda out, seed, images, draws: _core.fill_uniform(
        out, -2.0, 3.0, seed, "training", images, draws
    ),
}


def words(*values: int) -> npt.NDArray[np.uint64]:
    return np.array(values, np.uint64)


def keystream(seed: int, purpose: int, image: int, draw: int, node: int, blocks: int) -> bytes:
    """ChaCha8 as Bernstein (2008) writes it, in Python integers."""
    key = np.frombuffer(b"".join(w.to_bytes(8, "little") for w in (seed, purpose, image, draw)), "<u4")
    out = b""
    for counter in range(blocks):
        ends = np.frombuffer(counter.to_bytes(8, "little") + node.to_bytes(8, "little"), "<u4")
        start = np.concatenate([np.frombuffer(b"expand 32-byte k", "<u4"), key, ends]).astype(np.uint32)
        x = start.copy()

        def quarter(a: int, b: int, c: int, d: int, x: npt.NDArray[np.uint32] = x) -> None:
            for i, j, k, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[i] += x[j]
                x[k] ^= x[i]
                x[k] = (x[k] << np.uint32(turn)) | (x[k] >> np.uint32(32 - turn))

        with np.errstate(over="ignore"):
            for _ in range(4):
                for column in range(4):
                    quarter(*(column + 4 * row for row in range(4)))
                for column in range(4):
                    quarter(*((column + row) % 4 + 4 * row for row in range(4)))
            out += (x + start).astype("<u4").tobytes()
    return out


@given(WORD, WORD, WORD, WORD)
def test_signs_are_the_keystream_of_their_name(seed: int, image: int, draw: int, node: int) -> None:
    out = np.empty((1, 100), np.uint8)
    _core.fill_signs(out, seed, words(image), words(draw), words(node))
    assert out.tobytes() == keystream(seed, PURPOSES["probe"], image, draw, node, 2)[:100]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_uniforms_are_the_upper_52_bits_of_their_words_and_a_half(purpose: str) -> None:
    out = np.empty((1, 300))
    _core.fill_uniform(out, 0.0, 1.0, 5, purpose, words(6), words(7))
    upper = np.frombuffer(keystream(5, PURPOSES[purpose], 6, 7, 0, 38), "<u8")[:300] >> np.uint64(12)
    assert np.array_equal(out[0], (upper + 0.5) * 2.0**-52)


def test_normal_laws_are_their_quantiles_at_those_uniforms() -> None:
    images, draws = np.arange(20, dtype=np.uint64), np.full(20, 3, np.uint64)
    uniform, normal, truncated = (np.empty((20, 3000)) for _ in range(3))
    _core.fill_uniform(uniform, 0.0, 1.0, 1, "dequantisation", images, draws)
    _core.fill_normal(normal, 1, "dequantisation", images, draws)
    assert np.array_equal(normal, _core.normal_quantile(uniform))
    for tau in (0.01, 1.0, TAU, 8.0):
        _core.fill_truncated_normal(truncated, tau, 1, images, draws)
        assert np.array_equal(truncated, _core.TruncatedNormal(tau).quantile(uniform))


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_float32_is_float64_rounded(fill: Fill) -> None:
    images = np.arange(100, dtype=np.uint64)
    wide, narrow = np.empty((100, 3072)), np.empty((100, 3072), np.float32)
    fill(wide, 0, images, images)
    fill(narrow, 0, images, images)
    # The ratios of float32 are 5e-10 off, 1% of half a unit: one value in a hundred rounds the other way.
    units = np.abs(narrow - wide.astype(np.float32)) / np.spacing(np.abs(narrow))
    assert units.max() <= 1
    assert (units > 0).mean() < 0.02


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_depends_on_its_name_alone(fill: Fill, dtype: type) -> None:
    rng = np.random.default_rng(0)
    images, draws = rng.integers(0, 2**63, (2, 40)).astype(np.uint64)
    together = np.empty((40, 1000), dtype)
    fill(together, 9, images, draws)
    order = rng.permutation(40)
    for width in (1, 255, 257, 1000):
        shuffled = np.empty((40, width), dtype)
        fill(shuffled, 9, images[order], draws[order])
        assert np.array_equal(shuffled, together[order, :width])
    again = np.empty_like(together)
    fill(again, 9, images, draws)
    assert np.array_equal(again, together)


def test_no_two_names_share_their_numbers() -> None:
    rows = []
    for purpose in PURPOSES:
        for name in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 2**32, 0), (0, 0, 2**63)):
            out = np.empty((1, 64))
            _core.fill_uniform(out, 0.0, 1.0, name[0], purpose, words(name[1]), words(name[2]))
            rows.append(out[0])
    assert np.unique(np.concatenate(rows)).size == 64 * len(rows)


def test_threads_change_nothing() -> None:
    threads = _core.threads()
    images = np.arange(33, dtype=np.uint64)
    found = []
    try:
        for n in (1, 2, 3):
            _core.set_threads(n)
            out, signs = np.empty((33, 501), np.float32), np.empty((33, 63), np.uint8)
            _core.fill_truncated_normal(out, TAU, 0, images, images)
            _core.fill_signs(signs, 0, images, images, images)
            found.append(out.tobytes() + signs.tobytes())
    finally:
        _core.set_threads(threads)
    assert found[0] == found[1] == found[2]


def test_more_rows_than_one_part_are_all_filled() -> None:
    images = np.arange(3000, dtype=np.uint64)
    out = np.full((3000, 1000), np.nan, np.float32)
    _core.fill_normal(out, 0, "start", images, images)
    assert np.isfinite(out).all()
    alone = np.empty((1, 1000), np.float32)
    _core.fill_normal(alone, 0, "start", images[-1:], images[-1:])
    assert np.array_equal(out[-1], alone[0])


@pytest.mark.parametrize("tau", [1e-3, 0.1, TAU, 0.3])
def test_no_float32_lies_beyond_tau(tau: float) -> None:
    images = np.arange(500, dtype=np.uint64)
    out = np.empty((500, 2000), np.float32)
    _core.fill_truncated_normal(out, tau, 0, images, images)
    assert np.abs(out.astype(np.float64)).max() <= tau


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_stay_off_their_ends(dtype: type) -> None:
    # Between 2^24 and 2^24 + 4 float32 has one number, and half the roundings would reach an end.
    out = np.empty((1, 4000), dtype)
    _core.fill_uniform(out, 2.0**24, 2.0**24 + 4, 0, "start", words(0), words(0))
    assert out.min() > 2.0**24
    assert out.max() < 2.0**24 + 4


def test_empty_arrays_are_filled() -> None:
    none = np.empty(0, np.uint64)
    _core.fill_normal(np.empty((0, 5)), 0, "start", none, none)
    _core.fill_normal(np.empty((1, 0)), 0, "start", words(1), words(1))


@pytest.mark.parametrize(
    "interval", [(1.0, 1.0), (1.0, 0.0), (0.0, math.inf), (math.nan, 1.0), (1.0, 1 + 1e-12)]
)
def test_intervals_without_room_are_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="must be finite, lower end first, with room for a float32"):
        _core.fill_uniform(np.empty((1, 2)), *interval, 0, "start", words(0), words(0))


def test_unknown_purposes_are_refused() -> None:
    with pytest.raises(UsageError, match='purpose = "noise" is not dequantisation, probe, start, training'):
        _core.fill_normal(np.empty((1, 2)), 0, "noise", words(0), words(0))


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_arrays_that_do_not_fit_are_refused(fill: Fill) -> None:
    with pytest.raises(UsageError, match="images holds 1 values where 2 are needed"):
        fill(np.empty((2, 3)), 0, words(0), words(0, 1))
    with pytest.raises(UsageError, match="draws holds 3 values where 2 are needed"):
        fill(np.empty((2, 3)), 0, words(0, 1), words(0, 1, 2))
    with pytest.raises(TypeError, match="images must be an array of uint64"):
        fill(np.empty((1, 3)), 0, np.zeros(1, np.int64), words(0))
    for out in (np.empty(3), np.empty((1, 3), np.float16), np.empty((1, 3, 1))):
        with pytest.raises(TypeError, match=r"out must be an array of float32 or float64 \[N, d\]"):
            fill(out, 0, words(0), words(0))
    for out in (np.empty((1, 6))[:, ::2], np.empty((3, 2)).T):
        with pytest.raises(TypeError, match="out must be C-contiguous"):
            fill(out, 0, words(*range(len(out))), words(*range(len(out))))


def test_signs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"out must be an array of uint8 \[N, ceil\(d/8\)\]"):
        _core.fill_signs(np.empty((1, 3)), 0, words(0), words(0), words(0))
    with pytest.raises(UsageError, match="nodes holds 2 values where 1 are needed"):
        _core.fill_signs(np.empty((1, 3), np.uint8), 0, words(0), words(0), words(0, 1))


def test_read_only_arrays_are_left_alone() -> None:
    out = np.zeros((1, 3))
    out.flags.writeable = False
    with pytest.raises(TypeError):
        _core.fill_normal(out, 0, "start", words(0), words(0))
    assert not out.any()
