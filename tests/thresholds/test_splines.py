"""Integral weights: exact for cubics at unequal nodes, and scipy's not-a-knot spline."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from merged_diffusion.thresholds.splines import integral_weights

NODES = np.array([-2.0, -1.1, -0.9, 0.4, 1.7, 2.0])


def test_cubics_are_integrated_exactly():
    ends = np.linspace(-2, 2, 17)
    found = integral_weights(NODES, ends) @ (3 * NODES**3 - NODES + 2)

    def primitive(x):
        return 0.75 * x**4 - x**2 / 2 + 2 * x

    np.testing.assert_allclose(found, primitive(ends) - primitive(-2.0), rtol=0, atol=1e-12)


def test_the_spline_is_scipys():
    values, ends = np.sin(3 * NODES), np.linspace(-2, 2, 9)
    expected = [CubicSpline(NODES, values).integrate(-2, end) for end in ends]
    np.testing.assert_allclose(integral_weights(NODES, ends) @ values, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_few_nodes_are_joined_by_straight_lines(n):
    nodes = NODES[:n]
    values = np.arange(n) ** 2 * 1.0
    assert integral_weights(nodes, nodes[-1:])[0] @ values == pytest.approx(np.trapezoid(values, nodes))
    middle = np.array([nodes[:2].mean()])
    assert integral_weights(nodes, middle)[0] @ values == pytest.approx(np.diff(nodes)[0] / 2 * 0.25)
