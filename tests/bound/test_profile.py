"""Loss profiles: the expectation of Gaussian experts, paired noise, combs of gammas, errors."""

import numpy as np
import pytest
from tests.bound.gaussian_terms import gaussian_loss

from merged_diffusion.bound import loss_profile
from merged_diffusion.bound.profile import error_of
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.ode.machine import Machine

SHAPE, DIM, LEVELS, RANGE = (1, 2, 3), 6, 17, (-7.876, 8.764)
GRID = np.linspace(*RANGE, 24)


def expert(variance=0.4, kind=GaussianExpert):
    return kind(SHAPE, variance=variance, gamma_range=RANGE, levels=LEVELS)


def images(n):
    pixels = np.random.RandomState(0).randint(0, LEVELS, (n, *SHAPE)).astype(np.uint8)
    return make_data("random", "test", pixels, LEVELS)


def expected(data, variance=0.4):
    x = pixel_values(data.images, LEVELS).reshape(len(data), -1)
    losses = [gaussian_loss(x, np.zeros(DIM), np.full(DIM, variance), g) for g in GRID]
    return np.stack(losses, axis=1)


@pytest.mark.parametrize("stride", [1, 4])
def test_profile_is_the_expected_loss_within_its_error(stride):
    data = images(600)
    found = loss_profile(expert(), data, GRID, stride=stride, machine=Machine(dtype="float64"))
    # One image set for both: only the noise of eps is left, less than the error over images.
    away = np.nanmean(found.per_image - expected(data), axis=0)
    assert (np.abs(away) < 4 * found.se).all()
    assert found.evaluations == 600 * len(GRID) // stride
    assert (found.n > 0).all()


def test_experts_of_a_pair_meet_the_same_noise():
    data = images(20)
    one, two = (
        loss_profile(expert(), data, GRID[4:], first=4, machine=Machine(dtype="float64")) for _ in range(2)
    )
    np.testing.assert_array_equal(one.per_image, two.per_image)
    whole = loss_profile(expert(), data, GRID, machine=Machine(dtype="float64"))
    np.testing.assert_array_equal(whole.per_image[:, 4:], one.per_image)
    other = loss_profile(expert(), data, GRID[4:], machine=Machine(dtype="float64"))
    assert (other.per_image != one.per_image).all()


def test_a_comb_asks_a_part_of_what_the_whole_grid_asks():
    data = images(9)
    whole, comb = (
        loss_profile(expert(), data, GRID, stride=s, machine=Machine(dtype="float64")) for s in (1, 3)
    )
    known = comb.is_known
    np.testing.assert_array_equal(comb.per_image[known], whole.per_image[known])
    assert (known.sum(axis=1) == 8).all()
    part = loss_profile(expert(), data, GRID[5:], first=5, stride=3, machine=Machine(dtype="float64"))
    np.testing.assert_array_equal(part.per_image, comb.per_image[:, 5:])


def test_errors_of_clusters_are_those_of_their_sums():
    influence = np.array([[1.0], [2.0], [-3.0], [0.5]])
    assert error_of(influence, None)[0] == pytest.approx(np.sqrt((1 + 4 + 9 + 0.25) * 4 / 3))
    clustered = error_of(influence, np.array([5, 5, 7, 7]))
    assert clustered[0] == pytest.approx(np.sqrt((9 + 6.25) * 2))
    assert np.isnan(error_of(influence, np.zeros(4, dtype=np.int64))[0])


class Broken(GaussianExpert):
    def forward(self, z, gamma, cond=None):
        return super().forward(z, gamma, cond) / (gamma < 3).view(-1, 1, 1, 1).to(z)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="do not increase"):
        loss_profile(expert(), images(2), [0.0, 0.0])
    with pytest.raises(UsageError, match="leave"):
        loss_profile(expert(), images(2), [-20.0, 0.0])
    with pytest.raises(UsageError, match="stride = 0"):
        loss_profile(expert(), images(2), GRID, stride=0)
    with pytest.raises(SolveError, match="not finite at gamma"):
        loss_profile(expert(kind=Broken), images(2), GRID)
