"""Laws of the streams at 10^7 draws of each of ten seeds: distribution, moments, tails, independence.

Every statistic gives a p-value under the law's own hypothesis; its distribution is known at this size
(Kolmogorov's, or a normal one by the central limit theorem). Each must exceed 1e-4. Only the correlations
between names that differ in one word are looked at once more, on images not used before, where p must exceed
1e-2: of these thirty one fell below at first (purposes, seed 2, 5.7e-5; on 10^8 fresh draws it has p = 0.91).
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

from merged_diffusion import _core

pytestmark = pytest.mark.slow

ROWS, DIM = 3256, 3072
SIZE = ROWS * DIM
SEEDS = range(10)
LEAST, LEAST_OF_A_SECOND_LOOK = 1e-4, 1e-2
TAU = 3.0187

Values = npt.NDArray[np.float64]


def two_sided(mean: float, expected: float, variance: float, count: int) -> float:
    return float(special.erfc(abs(mean - expected) / math.sqrt(2 * variance / count)))


def kolmogorov(uniform: Values) -> float:
    rank = np.arange(uniform.size + 1) / uniform.size
    ordered = np.sort(uniform)
    distance = max((rank[1:] - ordered).max(), (ordered - rank[:-1]).max())
    return float(stats.kstwobign.sf(math.sqrt(uniform.size) * distance))


def moments(x: Values, even: dict[int, float]) -> Iterator[tuple[str, float]]:
    """Means of x to x^4 against exact ones: the odd vanish, ``even`` gives E x^2 to E x^8."""
    for k in (1, 2, 3, 4):
        expected = even.get(k, 0.0)
        yield f"moment {k}", two_sided(float((x**k).mean()), expected, even[2 * k] - expected**2, x.size)


def tails(uniform: Values) -> Iterator[tuple[str, float]]:
    for level in (1e-2, 1e-4, 1e-6):
        for side, found in (("lower", uniform < level), ("upper", uniform > 1 - level)):
            yield f"{side} {level}", stats.binomtest(int(found.sum()), uniform.size, level).pvalue


def correlations(x: Values, variance: float) -> Iterator[tuple[str, float]]:
    """Products of entries at a lag: within a row, and of the same entry of neighbouring images."""
    flat = x.ravel()
    # 1, 2: neighbours; 8, 32: words of a block of the cipher and of its buffer; 256: ours.
    for lag in (1, 2, 8, 32, 256, DIM):
        products = float(flat[:-lag] @ flat[lag:]) / (x.size - lag)
        yield f"lag {lag}", two_sided(products, 0.0, variance**2, x.size - lag)
    total = x.sum(axis=1)
    yield "rows", stats.kstest(total / math.sqrt(DIM * variance), "norm").pvalue
    # Squares: a dependence of scale leaves the products alone.
    squares = flat * flat - variance
    spread = float((squares * squares).mean())
    yield "squares", two_sided(float(squares[:-1] @ squares[1:]) / (x.size - 1), 0.0, spread**2, x.size - 1)


def truncated_moments() -> dict[int, float]:
    """E x^k of the truncated normal law by parts: m_k = (k - 1) m_{k-2} - 2 tau^(k-1) phi(tau)/Z."""
    edge = 2 * TAU * math.exp(-0.5 * TAU**2) / math.sqrt(2 * math.pi) / math.erf(TAU / math.sqrt(2))
    even = {0: 1.0}
    for k in (2, 4, 6, 8):
        even[k] = (k - 1) * even[k - 2] - TAU ** (k - 2) * edge
    return even


def names(first: int, draw: int = 0) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    return np.arange(first, first + ROWS, dtype=np.uint64), np.full(ROWS, draw, np.uint64)


def truncated(seed: int, first: int, draw: int = 0) -> Values:
    out = np.empty((ROWS, DIM))
    _core.fill_truncated_normal(out, TAU, seed, *names(first, draw))
    return out


def normal(seed: int, first: int, purpose: str = "start") -> Values:
    out = np.empty((ROWS, DIM))
    _core.fill_normal(out, seed, purpose, *names(first))
    return out


def uniform(seed: int, first: int) -> Values:
    out = np.empty((ROWS, DIM))
    _core.fill_uniform(out, -1.0, 1.0, seed, "training", *names(first))
    return out


def signs(seed: int, first: int, node: int) -> npt.NDArray[np.uint8]:
    packed = np.empty((ROWS, DIM // 8), np.uint8)
    _core.fill_signs(packed, seed, *names(first), np.full(ROWS, node, np.uint64))
    return np.unpackbits(packed, axis=-1, bitorder="little")


def suspects(statistics: Iterator[tuple[str, float]], least: float = LEAST) -> dict[str, float]:
    """What a p-value speaks against."""
    return {name: p for name, p in statistics if not p > least}


def law(x: Values, p: Values, even: dict[int, float]) -> Iterator[tuple[str, float]]:
    """Of values x [ROWS, DIM], p their distribution function, by an implementation that is not ours."""
    yield "kolmogorov", kolmogorov(p.ravel())
    yield from moments(x, even)
    yield from tails(p)
    yield from correlations(x, even[2])


@pytest.mark.parametrize("seed", SEEDS)
def test_truncated_normal_law(seed: int) -> None:
    below = special.ndtr(-TAU)

    x = truncated(seed, 0)
    assert not suspects(law(x, (special.ndtr(x) - below) / (1 - 2 * below), truncated_moments()))


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_law(seed: int) -> None:
    x = normal(seed, 0)
    assert not suspects(law(x, special.ndtr(x), {2: 1.0, 4: 3.0, 6: 15.0, 8: 105.0}))


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_law(seed: int) -> None:
    x = uniform(seed, 0)
    assert not suspects(law(x, 0.5 * (x + 1), {k: 1 / (k + 1) for k in (2, 4, 6, 8)}))


@pytest.mark.parametrize("seed", SEEDS)
def test_names_that_differ_in_one_word_are_uncorrelated(seed: int) -> None:
    variance = truncated_moments()[2]

    def statistics(first: int) -> Iterator[tuple[str, float]]:
        x = truncated(seed, first)
        for name, other in (("draw", truncated(seed, first, 1)), ("seed", truncated(seed + 1, first))):
            yield name, two_sided(float((x * other).mean()), 0.0, variance**2, SIZE)
        a, b = normal(seed, first, "start"), normal(seed, first, "training")
        yield "purpose", two_sided(float((a * b).mean()), 0.0, 1.0, SIZE)

    if first_look := suspects(statistics(0)):
        second = suspects(statistics(ROWS), LEAST_OF_A_SECOND_LOOK)
        assert not first_look.keys() & second.keys()


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_are_fair_and_uncorrelated_between_entries_images_and_nodes(seed: int) -> None:
    def statistics() -> Iterator[tuple[str, float]]:
        bits = signs(seed, 0, 0)
        yield "fair", two_sided(2.0 * float(bits.mean()) - 1, 0.0, 1.0, SIZE)
        for bit in range(8):
            part = bits[:, bit::8]
            yield f"bit {bit}", two_sided(2.0 * float(part.mean()) - 1, 0.0, 1.0, part.size)
        pairs = {"images": (bits[:-1], bits[1:]), "nodes": (bits, signs(seed, 0, 1))}
        pairs |= {f"lag {lag}": (bits[:, :-lag], bits[:, lag:]) for lag in (1, 2, 8, 64, 512)}
        for name, (a, b) in pairs.items():
            yield name, two_sided(2.0 * float((a == b).mean()) - 1, 0.0, 1.0, a.size)

    assert not suspects(statistics())
