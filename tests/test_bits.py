"""Bits of the core against quadrature, scipy and the formulas written out in numpy."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, special, stats

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

Floats = npt.NDArray[np.float64]

KINDS = ["truncated-normal", "uniform", "decoder", "none"]
TERMS = ["end_density", "trace", "path_correction", "dequantisation", "importance"]


def floats(n: int, bound: float = 1e4) -> st.SearchStrategy[Floats]:
    return hnp.arrays(np.float64, n, elements=st.floats(-bound, bound))


# ---- end density


@pytest.mark.parametrize("gamma_max", [5.0, 8.764])
def test_end_density_is_scipys_normal(gamma_max: float) -> None:
    z = np.random.default_rng(0).normal(size=(4, 3072))
    found = _core.end_density((z**2).sum(1), gamma_max, 3072)
    expected = stats.norm(scale=_core.sigma(gamma_max)).logpdf(z).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# ---- dequantisation


def test_the_papers_expectation_of_log_q() -> None:
    assert -_core.dequantisation_constant("truncated-normal", -13.3, 256, 1) == pytest.approx(
        5.246283157798195, rel=1e-15
    )
    one = _core.dequantisation_constant("truncated-normal", -13.3, 256, 1)
    assert _core.dequantisation_constant("truncated-normal", -13.3, 256, 3072) == pytest.approx(3072 * one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("gamma_min", "levels"), [(-13.3, 256), (-12.43, 256), (-5.0, 17), (-2.0, 4), (2.0, 2)]
)
def test_constant_is_the_expectation_of_per_draw(kind: str, gamma_min: float, levels: int) -> None:
    tau = math.exp(-gamma_min / 2) / levels
    law = stats.truncnorm(-tau, tau) if kind == "truncated-normal" else stats.norm()
    end = min(tau, 12.0) if kind == "truncated-normal" else 12.0

    def weighted(eps: float) -> float:
        square = np.array([eps**2])
        return float(law.pdf(eps) * _core.dequantisation_per_draw(kind, gamma_min, levels, 1, square)[0])

    expected, _ = integrate.quad(weighted, -end, end, epsabs=1e-13, epsrel=1e-13)
    found = _core.dequantisation_constant(kind, gamma_min, levels, 1)
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_per_draw_is_the_density_of_the_law() -> None:
    gamma, levels = -3.0, 8
    alpha, sigma = _core.alpha(gamma), _core.sigma(gamma)
    tau = alpha / (levels * sigma)
    eps = np.random.default_rng(1).uniform(-tau, tau, size=(5, 6))
    square = (eps**2).sum(1)
    laws = {
        "truncated-normal": stats.truncnorm(-tau, tau, scale=sigma),
        "uniform": stats.uniform(-alpha / levels, 2 * alpha / levels),
        "decoder": stats.norm(scale=sigma),
    }
    for kind, law in laws.items():
        found = _core.dequantisation_per_draw(kind, gamma, levels, 6, square)
        np.testing.assert_allclose(found, -law.logpdf(sigma * eps).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(
        _core.dequantisation_per_draw("none", gamma, levels, 6, square), np.zeros(5)
    )


def test_unknown_kinds_and_empty_counts_are_refused() -> None:
    with pytest.raises(UsageError, match='dequantise = "variational" is not truncated-normal, uniform'):
        _core.dequantisation_constant("variational", -13.3, 256, 1)
    with pytest.raises(UsageError, match="levels must be at least 1"):
        _core.dequantisation_constant("uniform", -13.3, 0, 1)
    with pytest.raises(UsageError, match="dim must be at least 1"):
        _core.end_density(np.ones(1), 5.0, 0)
    with pytest.raises(UsageError, match="length of square must be at least 1"):
        _core.dequantisation_per_draw("none", -13.3, 256, 1, np.ones(0))
    with pytest.raises(UsageError, match="half-width"):
        _core.dequantisation_constant("truncated-normal", math.nan, 256, 1)


# ---- decoder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@given(gamma=st.floats(-15, 5), levels=st.integers(1, 256), seed=st.integers(0, 2**32))
def test_decoder_is_a_softmax_over_the_levels(dtype: type, gamma: float, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = _core.alpha(gamma)
    z = alpha * rng.uniform(-1.2, 1.2, size=(3, 5))
    pixels: npt.NDArray[np.uint8] = rng.integers(0, levels, size=(3, 5)).astype(dtype)
    centres = 2 * (np.arange(levels) + 0.5) / levels - 1
    logits = -0.5 * np.exp(-gamma) * (z[..., None] / alpha - centres) ** 2
    log_p = special.log_softmax(logits, axis=-1)
    expected = np.take_along_axis(log_p, pixels[..., None].astype(int), -1).sum((1, 2))
    found = _core.decoder_log_likelihood(z, pixels, gamma, levels)
    # The logits themselves are rounded to 1e-16 of their size, here at most exp(15) 2.2^2/2.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14 * np.abs(logits).max() + 1e-12)


@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("gamma", [-13.3, -5.0, 3.0])
def test_decoder_probabilities_of_all_pixel_values_sum_to_one(levels: int, gamma: float) -> None:
    z = np.repeat(np.random.default_rng(2).normal(size=(1, 1)), levels, axis=0)
    pixels = np.arange(levels, dtype=np.uint8)[:, None]
    log_p = _core.decoder_log_likelihood(z, pixels, gamma, levels)
    assert special.logsumexp(log_p) == pytest.approx(0, abs=1e-12)


def test_sixteen_bit_levels_sum_to_one() -> None:
    pixels = np.arange(65536, dtype=np.uint16)[:, None]
    log_p = _core.decoder_log_likelihood(np.full(pixels.shape, 0.1234), pixels, -13.3, 65536)
    assert special.logsumexp(log_p) == pytest.approx(0, abs=1e-10)


def test_decoder_checks_its_arrays() -> None:
    z, pixels = np.zeros((2, 6)), np.zeros((2, 6), dtype=np.uint8)
    with pytest.raises(UsageError, match="a row of pixels holds 4 values where 6 are needed"):
        _core.decoder_log_likelihood(z, pixels.reshape(3, 4), -5.0, 4)
    with pytest.raises(UsageError, match="pixels holds 6 values where 12 are needed"):
        _core.decoder_log_likelihood(z, pixels[:1], -5.0, 4)
    with pytest.raises(UsageError, match="pixel value 4 is not below levels = 4"):
        _core.decoder_log_likelihood(z, pixels + np.uint8(4), -5.0, 4)
    with pytest.raises(UsageError, match="length of z"):
        _core.decoder_log_likelihood(z[:0], pixels[:0], -5.0, 4)
    with pytest.raises(TypeError):
        _core.decoder_log_likelihood(z, pixels.astype(np.int64), -5.0, 4)


# ---- terms


@given(data=st.data(), repeats=st.integers(1, 4), importance=st.integers(1, 6))
def test_terms_add_up_to_log_p(data: st.DataObject, repeats: int, importance: int) -> None:
    n = repeats * importance
    end, trace, path, dequantisation = (data.draw(floats(n)) for _ in range(4))
    terms = _core.image_terms(end, trace, path, dequantisation, importance)
    assert list(terms) == TERMS
    bounds = (end + trace + path + dequantisation).reshape(repeats, importance)
    log_p = special.logsumexp(bounds, axis=1) - math.log(importance)
    assert math.fsum(terms.values()) == pytest.approx(log_p.mean(), rel=1e-13, abs=1e-10)
    assert terms["end_density"] == pytest.approx(math.fsum(end) / n, rel=1e-15, abs=1e-300)
    assert terms["trace"] == pytest.approx(math.fsum(trace) / n, rel=1e-15, abs=1e-300)
    assert terms["dequantisation"] == pytest.approx(math.fsum(dequantisation) / n, rel=1e-15, abs=1e-300)
    assert terms["importance"] == pytest.approx((log_p - bounds.mean(1)).mean(), rel=1e-12, abs=1e-10)
    assert terms["importance"] >= -1e-12
    assert terms["path_correction"] == pytest.approx(math.fsum(path) / n, rel=1e-15, abs=1e-300)


@given(value=st.floats(-1e300, 1e300), importance=st.integers(1, 40))
def test_equal_draws_gain_nothing(value: float, importance: int) -> None:
    draws, zeros = np.full(importance, value), np.zeros(importance)
    assert _core.image_terms(draws, zeros, zeros, zeros, importance)["importance"] == 0


@given(draws=floats(12))
def test_one_draw_gains_nothing(draws: Floats) -> None:
    assert _core.image_terms(draws, draws, draws, draws, 1)["importance"] == 0


def test_order_of_draws_within_a_repeat_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    arrays = rng.normal(-1e4, 3, size=(4, 4, 5))
    within = rng.permuted(np.tile(np.arange(5), (4, 1)), axis=1)
    shuffled = np.take_along_axis(arrays, np.broadcast_to(within, arrays.shape), -1)
    one = _core.image_terms(*(a.ravel() for a in arrays), 5)
    two = _core.image_terms(*(a.ravel() for a in shuffled), 5)
    assert one == pytest.approx(two, rel=1e-14, abs=1e-12)


def test_a_gain_keeps_its_digits_beside_a_large_density() -> None:
    # Draws 1e-3 apart gain var/2 = 1e-6/8, fewer than the ulp of 1e13 by themselves.
    draws = np.array([1e9, 1e9 + 2**-10])
    gain = _core.image_terms(draws, *np.zeros((3, 2)), 2)["importance"]
    assert gain == pytest.approx(2**-20 / 8, rel=1e-5)


@pytest.mark.parametrize(
    ("lengths", "importance", "message"),
    [
        ((4, 4, 4, 4), 0, "importance must be at least 1"),
        ((0, 0, 0, 0), 1, "length of end_density must be at least 1"),
        ((3, 3, 3, 3), 2, "end_density holds 3 values where 4 are needed"),
        ((4, 3, 4, 4), 2, "trace holds 3 values where 4 are needed"),
        ((4, 4, 3, 4), 2, "path_correction holds 3 values where 4 are needed"),
        ((4, 4, 4, 5), 2, "dequantisation holds 5 values where 4 are needed"),
    ],
)
def test_terms_check_their_lengths(lengths: tuple[int, int, int, int], importance: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _core.image_terms(*(np.zeros(n) for n in lengths), importance)


# ---- bits and errors


def test_bits_per_dim_of_floats_and_arrays() -> None:
    assert _core.bits_per_dim(-3072 * math.log(2), 3072) == 1
    nats = np.array([[-1.0, 2.0], [0.0, np.nan]])
    np.testing.assert_array_equal(_core.bits_per_dim(nats, 7), -nats / (7 * math.log(2)))
    with pytest.raises(TypeError, match="float64"):
        _core.bits_per_dim(nats.astype(np.float32), 7)


@given(values=st.integers(2, 50).flatmap(floats))
def test_mean_and_error_are_scipys(values: Floats) -> None:
    mean, se = _core.mean_and_error(values)
    assert mean == pytest.approx(math.fsum(values) / len(values), rel=1e-15, abs=1e-300)
    assert se == pytest.approx(stats.sem(values), rel=1e-9, abs=1e-11)


def test_one_value_has_no_error_and_none_no_mean() -> None:
    assert _core.mean_and_error(np.array([2.5])) == (2.5, None)
    with pytest.raises(UsageError, match="length of values must be at least 1"):
        _core.mean_and_error(np.zeros(0))


def test_sums_that_cancel_keep_what_is_small() -> None:
    assert _core.mean_and_error(np.array([1e300, 3.0, -1e300]))[0] == 1
    mean, se = _core.mean_and_error(np.array([1e300, -1e300]))
    assert (mean, se) == (0, pytest.approx(1e300))
    terms = _core.image_terms(np.array([1e300]), np.array([2.0]), np.zeros(1), np.array([-1e300]), 1)
    assert math.fsum(terms.values()) == 2


def literal(values: Floats, clusters: npt.NDArray[np.int64]) -> float | None:
    """Section 8 of the mathematics, word for word."""
    names = np.unique(clusters)
    n, g = len(values), len(names)
    if g == 1:
        return None
    sums = np.array([(values[clusters == name] - values.mean()).sum() for name in names])
    return float(np.sqrt(g / (g - 1) * (sums**2).sum() / n**2))


@given(data=st.data(), n=st.integers(1, 40))
def test_clustered_error_is_the_formula(data: st.DataObject, n: int) -> None:
    values = data.draw(floats(n))
    clusters = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 3)))
    found, expected = _core.clustered_error(values, clusters), literal(values, clusters)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))
    order = data.draw(st.permutations(range(n)))
    shuffled = _core.clustered_error(values[order], clusters[order])
    assert shuffled == (None if found is None else pytest.approx(found, rel=1e-9, abs=1e-9))


@given(values=st.integers(2, 30).flatmap(floats))
def test_clusters_of_one_give_the_plain_error(values: Floats) -> None:
    _, plain = _core.mean_and_error(values)
    own = np.arange(len(values), dtype=np.int64)
    assert _core.clustered_error(values, own) == pytest.approx(plain, rel=1e-12, abs=1e-12)


@given(data=st.data(), n=st.integers(2, 30))
def test_paired_difference_is_mean_and_errors_of_the_differences(data: st.DataObject, n: int) -> None:
    a, b = data.draw(floats(n)), data.draw(floats(n))
    clusters = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))
    mean, se = _core.mean_and_error(a - b)
    assert _core.paired_difference(a, b, None) == {"difference": mean, "se": se, "se_images": se, "n": n}
    assert _core.paired_difference(a, b, clusters) == {
        "difference": mean,
        "se": _core.clustered_error(a - b, clusters),
        "se_images": se,
        "n": n,
    }
    same = _core.paired_difference(a, a)
    assert same == {"difference": 0, "se": 0, "se_images": 0, "n": n}


def test_pairs_check_their_lengths() -> None:
    with pytest.raises(UsageError, match="b holds 2 values where 3 are needed"):
        _core.paired_difference(np.zeros(3), np.zeros(2), None)
    with pytest.raises(UsageError, match="clusters holds 2 values where 3 are needed"):
        _core.paired_difference(np.zeros(3), np.zeros(3), np.zeros(2, dtype=np.int64))
    with pytest.raises(UsageError, match="length of values must be at least 1"):
        _core.paired_difference(np.zeros(0), np.zeros(0), None)


def test_strided_arrays_agree_with_their_copies() -> None:
    values = np.random.default_rng(4).normal(size=20)[::2]
    assert _core.mean_and_error(values) == _core.mean_and_error(values.copy())


@pytest.mark.parametrize(("importance", "expected"), [(1, [0.25] * 4), (2, [0.25, 0.25, 0.05, 0.45])])
def test_weights_of_draws_are_shares_in_their_repeat(importance: int, expected: list[float]) -> None:
    bounds = np.array([-900.0, -900.0, 3.0, 3.0 + np.log(9)])
    np.testing.assert_allclose(_core.draw_weights(bounds, importance), expected, rtol=1e-14)
    with pytest.raises(UsageError, match="bounds"):
        _core.draw_weights(bounds, 3)


def test_independent_errors_of_images_add_in_squares() -> None:
    assert _core.error_of_mean(np.array([3.0, 4.0])) == 2.5
    with pytest.raises(UsageError, match="length of errors"):
        _core.error_of_mean(np.empty(0))
