"""Error function and normal quantile against sixty digits of decimal arithmetic, and scipy."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import special

from merged_diffusion import _core

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")

# Both sides of every split of AS 241, and tails that only the smaller probability can name.
PROBABILITIES = np.concatenate(
    [
        np.linspace(0.0005, 0.9995, 999),
        np.array([0.075, 0.925])[:, None].repeat(2, 1).ravel() + np.array([-1, 1, -1, 1]) * 1e-12,
        np.exp(-25.0) * (1 + np.array([-1e-9, 1e-9])),
        10.0 ** -np.linspace(1, 307, 62),
        1 - 10.0 ** -np.linspace(1, 15, 57),
    ]
)


def exact_error(x: float, p: float) -> float:
    """Relative error of x as the quantile of p: one Newton step, (Phi(x) - p)/(x phi(x)).

    Phi(x) = 1/2 + phi(x) sum_k x^(2k+1)/(2k+1)!!; far out, where the 1/2 would drown it, 1 - Phi(x) is
    Laplace's continued fraction.
    """
    with localcontext() as context:
        context.prec = 60
        value = Decimal(x)
        density = (-value * value / 2).exp() / (2 * PI).sqrt()
        if abs(x) < 6:
            term = total = value
            k = 1
            while abs(term) > abs(total).scaleb(-context.prec):
                k += 2
                term = term * value * value / k
                total += term
            return float((Decimal("0.5") + density * total - Decimal(p)) / (density * value))
        fraction = abs(value)
        for n in range(400, 0, -1):
            fraction = abs(value) + n / fraction
        return float((density / fraction - Decimal(min(p, 1 - p))) / (density * abs(value)))


def test_erf_is_within_two_units_of_scipys() -> None:
    x = np.concatenate([np.linspace(-7, 7, 4001), 10.0 ** -np.linspace(0, 300, 301)])
    np.testing.assert_allclose(_core.erf(x), special.erf(x), rtol=2 * np.finfo(float).eps, atol=0)


def test_quantile_has_a_relative_error_below_1e_15() -> None:
    for p in PROBABILITIES[PROBABILITIES != 0.5]:
        x = _core.normal_quantile(float(p))
        assert abs(exact_error(x, float(p))) < 1e-15, p


def test_quantile_agrees_with_scipys() -> None:
    found = _core.normal_quantile(PROBABILITIES)
    np.testing.assert_allclose(found, special.ndtri(PROBABILITIES), rtol=4e-15, atol=1e-16)


def test_quantile_is_odd_about_the_median() -> None:
    p = np.arange(1, 2**12) / 2**13
    assert np.array_equal(_core.normal_quantile(p), -_core.normal_quantile(1 - p))
    assert _core.normal_quantile(0.5) == 0


def test_quantile_is_infinite_at_the_ends_and_nothing_beyond() -> None:
    assert [_core.normal_quantile(p) for p in (0.0, 1.0)] == [-math.inf, math.inf]
    assert all(math.isnan(_core.normal_quantile(p)) for p in (-0.1, 1.1, math.nan))


def test_arrays_keep_their_shape_and_float32_is_refused() -> None:
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    assert _core.erf(x).shape == (3, 4)
    assert _core.erf(x.T)[1, 2] == _core.erf(float(x[2, 1]))
    with pytest.raises(TypeError, match="float64"):
        _core.erf(x.astype(np.float32))
