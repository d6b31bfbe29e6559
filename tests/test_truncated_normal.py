"""The truncated normal law against scipy's, and its closed forms."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

# About uniform; a pixel in 16 parts; MuLAN's gamma_min; the VDM's (gamma = -13.3, 256 levels); about normal.
WIDTHS = [0.01, 0.5, 1.95, 3.0187, 8.0]


@pytest.mark.parametrize("tau", WIDTHS[1:])
def test_entropy_and_mass_are_scipys(tau: float) -> None:
    law, theirs = _core.TruncatedNormal(tau), stats.truncnorm(-tau, tau)
    assert law.tau == tau
    assert law.entropy == pytest.approx(float(theirs.entropy()), abs=1e-12)
    assert law.log_mass == pytest.approx(math.log(math.erf(tau / math.sqrt(2))), abs=2e-16)


@pytest.mark.parametrize("tau", WIDTHS)
def test_entropy_is_minus_the_mean_of_the_log_density(tau: float) -> None:
    law = _core.TruncatedNormal(tau)
    mean, _ = integrate.quad(
        lambda x: -math.exp(law.log_density(x)) * law.log_density(x), -tau, tau, epsabs=1e-13, epsrel=1e-12
    )
    assert law.entropy == pytest.approx(mean, abs=1e-11)


@pytest.mark.parametrize("tau", WIDTHS)
def test_density_is_scipys_and_there_is_none_outside(tau: float) -> None:
    law, x = _core.TruncatedNormal(tau), np.linspace(-tau, tau, 401)
    np.testing.assert_allclose(
        law.log_density(x), stats.truncnorm.logpdf(x, -tau, tau), rtol=1e-12, atol=1e-13
    )
    assert law.log_density(np.nextafter(tau, 9)) == law.log_density(-2 * tau) == -math.inf


@pytest.mark.parametrize("tau", WIDTHS)
def test_distribution_function_is_scipys(tau: float) -> None:
    law, x = _core.TruncatedNormal(tau), np.linspace(-1.1 * tau, 1.1 * tau, 401)
    np.testing.assert_allclose(law.cdf(x), stats.truncnorm.cdf(x, -tau, tau), rtol=0, atol=2e-14)
    assert law.cdf(x).min() == 0
    assert law.cdf(x).max() == 1


@pytest.mark.parametrize("tau", WIDTHS)
def test_quantile_is_odd_stays_inside_and_inverts_the_distribution_function(tau: float) -> None:
    law, p = _core.TruncatedNormal(tau), np.arange(1, 2**11) / 2**12
    x = law.quantile(p)
    assert np.array_equal(law.quantile(1 - p), -x)
    np.testing.assert_allclose(law.cdf(x), p, rtol=0, atol=1e-15)
    assert (np.diff(x) > 0).all()
    assert (np.abs(law.quantile(np.array([0.0, 1.0, 5e-324]))) <= tau).all()


def test_quantile_keeps_its_digits_in_both_tails() -> None:
    law = _core.TruncatedNormal(8.0)
    # Phi(-8) = 6e-16: at p = 1e-13 the law is the normal one to 6e-3, at p = 2^-40 the correction is in p.
    below = 0.5 * math.erfc(8 / math.sqrt(2))
    for p in (1e-13, 2.0**-40, 1e-3):
        expected = _core.normal_quantile(below + p * math.exp(law.log_mass))
        assert law.quantile(p) == pytest.approx(expected, rel=1e-15)
    assert law.quantile(1 - 2.0**-40) == -law.quantile(2.0**-40)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_widths_that_are_not_positive_and_finite_are_refused(tau: float) -> None:
    with pytest.raises(UsageError, match=r"half-width tau = .* is not positive and finite"):
        _core.TruncatedNormal(tau)
    with pytest.raises(UsageError, match="half-width"):
        _core.fill_truncated_normal(np.empty((1, 2)), tau, 0, np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def test_repr_names_the_width() -> None:
    assert repr(_core.TruncatedNormal(0.5)) == "TruncatedNormal(0.5)"
