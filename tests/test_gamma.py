"""The clock of the core against forty digits of decimal arithmetic."""

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

CLOCK = np.linspace(-60, 60, 241)
RANGES = [_core.VDM_RANGE, _core.EDM_RANGE, _core.MERGED_RANGE]

EXACT: dict[str, Callable[[Decimal], Decimal]] = {
    "alpha": lambda g: 1 / (1 + g.exp()).sqrt(),
    "sigma": lambda g: 1 / (1 + (-g).exp()).sqrt(),
    "sigma_squared": lambda g: 1 / (1 + (-g).exp()),
    "log_alpha": lambda g: -(1 + g.exp()).ln() / 2,
    "log_sigma": lambda g: -(1 + (-g).exp()).ln() / 2,
    "edm_sigma": lambda g: (g / 2).exp(),
}


@pytest.mark.parametrize("name", EXACT)
def test_relative_error_is_below_1e_15_over_the_whole_clock(name: str) -> None:
    found = getattr(_core, name)(CLOCK)
    with localcontext() as context:
        context.prec = 70  # log(1 + exp(-60)) loses 26 of them
        for gamma, value in zip(CLOCK, found, strict=True):
            exact = EXACT[name](Decimal(float(gamma)))
            assert abs(Decimal(float(value)) / exact - 1) < Decimal("1e-15"), gamma


@pytest.mark.parametrize("name", [*EXACT, "log_snr"])
def test_arrays_of_any_shape_agree_with_floats(name: str) -> None:
    f = getattr(_core, name)
    for shape in [(), (0,), (3,), (2, 3, 4)]:
        gamma = np.random.default_rng(0).uniform(-20, 20, shape)
        out = f(gamma)
        assert out.shape == shape
        assert out.dtype == np.float64
        np.testing.assert_array_equal(out.ravel(), [f(float(g)) for g in gamma.ravel()])
    strided = np.linspace(-5, 5, 12).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(f(strided), f(strided.copy()))
    assert isinstance(f(0.5), float)


def test_other_dtypes_are_refused_not_converted() -> None:
    with pytest.raises(TypeError, match="float64"):
        _core.alpha(np.zeros(3, dtype=np.float32))
    with pytest.raises(TypeError):
        _core.alpha("0.5")


@pytest.mark.parametrize("gamma_range", RANGES)
@given(eta=st.floats(0, 1))
def test_eta_and_gamma_are_inverse(gamma_range: tuple[float, float], eta: float) -> None:
    gamma = _core.gamma_of_eta(eta, gamma_range)
    assert gamma_range[0] <= gamma <= gamma_range[1]
    # A rounding of gamma, at most 13.3 * 1.1e-16, over the width of 18 and more; and one of eta.
    assert abs(_core.eta_of_gamma(gamma, gamma_range) - eta) < 1e-15


@pytest.mark.parametrize("gamma_range", RANGES)
def test_eta_zero_and_one_are_the_ends_to_the_last_bit(gamma_range: tuple[float, float]) -> None:
    assert (_core.gamma_of_eta(0.0, gamma_range), _core.gamma_of_eta(1.0, gamma_range)) == gamma_range


def test_the_papers_constants() -> None:
    assert _core.VDM_RANGE == (-13.3, 5.0)
    assert _core.EDM_RANGE == (-12.43, 8.764)
    assert _core.MERGED_RANGE == (-13.3, 8.764)
    assert _core.eta_of_gamma(-12.43, _core.MERGED_RANGE) == pytest.approx(0.0394307, abs=5e-8)
    assert _core.eta_of_gamma(5.0, _core.MERGED_RANGE) == pytest.approx(0.829405, abs=5e-7)


@given(gamma=st.floats(-60, 60))
def test_noise_level_and_gamma_are_inverse(gamma: float) -> None:
    assert _core.gamma_of_edm_sigma(_core.edm_sigma(gamma)) == pytest.approx(gamma, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_noise_level_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="edm_sigma"):
        _core.gamma_of_edm_sigma(bad)
    with pytest.raises(UsageError, match="edm_sigma"):
        _core.gamma_of_edm_sigma(np.array([1.0, bad]))


@pytest.mark.parametrize("ends", [(5.0, -13.3), (1.0, 1.0), (np.nan, 1.0), (0.0, np.nan), (-np.inf, 0.0)])
def test_gamma_min_above_gamma_max_nan_or_inf_is_a_usage_error_with_both_values(
    ends: tuple[float, float],
) -> None:
    with pytest.raises(UsageError, match=r"gamma range \[.*, .*\]"):
        _core.gamma_range(*ends)


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan])
def test_eta_below_0_above_1_or_nan_is_a_usage_error(bad: float) -> None:
    with pytest.raises(UsageError, match=r"eta = .* lies outside \[0, 1\]"):
        _core.Threshold.eta(bad)


def test_thresholds_of_other_kinds_are_checked_when_made() -> None:
    for make in (_core.Threshold.gamma, _core.Threshold.logsnr, _core.Threshold.edm_sigma):
        for bad in (np.nan, np.inf):
            with pytest.raises(UsageError):
                make(bad)
    with pytest.raises(UsageError, match='"middle"'):
        _core.Threshold.eta("middle")


def test_thresholds_are_values() -> None:
    threshold = _core.Threshold
    assert threshold.eta(0.4) == threshold.eta(0.4)
    assert threshold.eta(0.4) != threshold.gamma(0.4)
    assert hash(threshold.eta(0.0)) == hash(threshold.eta(-0.0))
    assert repr(threshold.eta("min")) == "Threshold.eta('min')"
    assert (threshold.logsnr(3).kind, threshold.logsnr(3).value) == ("logsnr", 3.0)
