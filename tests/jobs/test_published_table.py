"""Numbers that the paper prints, and constants it implies, through the public functions.

Where the paper's print and the mathematics disagree, the mathematics stands here; docs/equations.md lists
each such place.
"""

import math

import numpy as np
import pytest
import torch
from tests.asked import asked

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.data.images import pixel_values
from merged_diffusion.experts.gaussian import GaussianExpert, merged_log_density

VDM, EDM, MERGED = _core.VDM_RANGE, _core.EDM_RANGE, _core.MERGED_RANGE
DIGITS = (-7.876, 5.0), (-7.006, 8.764)


def half_width(gamma_min: float, levels: int = 256) -> float:
    """tau, half a bin in units of the noise: (2/L)/2 alpha/sigma."""
    return 1 / (levels * _core.edm_sigma(gamma_min))


def test_ranges() -> None:
    assert (VDM, EDM, MERGED) == ((-13.3, 5.0), (-12.43, 8.764), (-13.3, 8.764))
    assert MERGED[1] - MERGED[0] == pytest.approx(22.064, abs=1e-12)
    # Table 4: sigma from 0.002 to 80, alpha = 1; -12.43 and 8.764 are these gammas rounded.
    assert _core.gamma_of_edm_sigma(0.002) == pytest.approx(EDM[0], abs=1e-3)
    assert _core.gamma_of_edm_sigma(80.0) == pytest.approx(EDM[1], abs=1e-3)


def test_eta_grid_of_every_table() -> None:
    grid = _core.eta_grid(VDM, EDM, eta_range=MERGED)
    assert grid == pytest.approx([0.0394307, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.829405], abs=5e-7)
    assert _core.eta_of_gamma(-12.43, MERGED) == pytest.approx(0.0394307, abs=5e-8)
    assert _core.eta_of_gamma(5.0, MERGED) == pytest.approx(0.829405, abs=5e-7)


def test_digits_have_nine_thresholds_and_two_experts() -> None:
    grid = _core.eta_grid(*DIGITS)
    assert len(grid) == 9
    assert (grid[0], grid[-1]) == (pytest.approx(0.0523, abs=5e-5), pytest.approx(0.7738, abs=5e-5))


def test_printed_eta_min_is_the_end_of_the_quality_expert() -> None:
    """The paper's 0.0394307 is gamma = -12.4300010, outside by rounding alone."""
    route = _core.Route.of_pair(VDM, EDM, md.Threshold.eta(0.0394307), eta_range=MERGED)
    assert route.threshold is not None
    assert route.threshold["gamma"] == -12.43
    assert route.snapped_from == pytest.approx(-12.4300010, abs=1e-7)


def test_eta_0_4_in_all_four_words() -> None:
    threshold = _core.Route.of_pair(VDM, EDM, md.Threshold.eta(0.4), eta_range=MERGED).threshold
    assert threshold == pytest.approx(
        {"eta": 0.4, "gamma": -4.4744, "edm_sigma": math.exp(-2.2372), "logsnr": 4.4744}, abs=1e-12
    )


@pytest.mark.parametrize(
    ("gamma_min", "levels", "tau", "mass"),
    [
        (-13.3, 256, "3.018689", "0.9974613"),
        (-12.43, 256, "1.954", "0.9493"),
        (-7.876, 17, "3.02", "0.997"),
    ],
)
def test_truncation_of_the_dequantising_noise(gamma_min: float, levels: int, tau: str, mass: str) -> None:
    """Eq. 16 with its bounds mended: +-tau for eps, not +-1/256; to the digits that are printed."""
    found = half_width(gamma_min, levels)
    assert f"{found:.{len(tau) - 2}f}" == tau
    assert f"{math.exp(_core.TruncatedNormal(found).log_mass):.{len(mass) - 2}f}" == mass


@pytest.mark.parametrize("dim", [1, 192, 3072])
def test_dequantisation_term_of_equation_17(dim: int) -> None:
    """E[log q] is 5.246283157798195 nats per value at gamma = -13.3, and no constant stands beside it."""
    term = _core.dequantisation_constant("truncated-normal", -13.3, 256, dim)
    assert term == pytest.approx(-5.246283157798195 * dim, rel=1e-13)


def test_equation_17_term_by_term() -> None:
    gamma_min, tau = -13.3, half_width(-13.3)
    mass = math.erf(tau / math.sqrt(2))
    term = (
        0.5 * (1 + math.log(2 * math.pi * _core.sigma_squared(gamma_min)))
        + math.log(mass)
        - tau * math.exp(-(tau**2) / 2) / (math.sqrt(2 * math.pi) * mass)
    )
    assert _core.dequantisation_constant("truncated-normal", gamma_min, 256, 1) == pytest.approx(
        term, rel=1e-13
    )


def test_uniform_dequantisation_keeps_log_alpha() -> None:
    """log(2 alpha/L) per value; public code drops log alpha, 2.7e-4 bits/dim on digits."""
    for gamma_min, levels in ((-13.3, 256), (-7.876, 17)):
        term = _core.dequantisation_constant("uniform", gamma_min, levels, 1)
        assert term == pytest.approx(_core.log_alpha(gamma_min) + math.log(2 / levels), rel=1e-13)
    assert -_core.log_alpha(-7.876) / math.log(2) == pytest.approx(2.7e-4, abs=1e-5)


def test_edm_pixels_are_256_255_times_vdm_pixels() -> None:
    v = np.arange(256, dtype=np.uint8)
    centred, ends = pixel_values(v, 256, "centred"), pixel_values(v, 256, "ends")
    assert centred[0] == -255 / 256
    assert ends[0] == -1
    np.testing.assert_allclose(ends, 256 / 255 * centred, rtol=0, atol=1e-15)


def test_prior_of_the_ode_has_the_variance_of_the_noise() -> None:
    """log N(z; 0, sigma^2(gamma_max) I), not N(0, I): the two differ where gamma_max = 5."""
    for gamma_max in (8.764, 5.0):
        variance = _core.sigma_squared(gamma_max)
        exact = -0.5 * (2.5 / variance + 3 * math.log(2 * math.pi * variance))
        assert _core.end_density(np.array([2.5]), gamma_max, 3) == pytest.approx([exact], rel=1e-14)


def test_the_trace_is_added() -> None:
    """Eq. 8 and 13 print a minus: for x ~ N(0, 0.25) it would give -1.880850 at z = 0.37."""
    expert = GaussianExpert(variance=0.25, image_shape=(1, 1, 1), gamma_range=MERGED)
    x = torch.full((1, 1, 1, 1), 0.37, dtype=torch.float64)
    options = {"probe": "exact", "rtol": 1e-9, "atol": 1e-9, "dtype": "float64"}
    found = np.asarray(md.log_density(expert, x, **asked(**options)), dtype=np.float64)
    exact = merged_log_density(x * _core.alpha(MERGED[0]), [(expert, *MERGED)])
    assert found == pytest.approx(exact.numpy(), abs=1e-7)
    assert found == pytest.approx([-0.499592], abs=1e-5)  # the end is not quite N(0, sigma^2)
