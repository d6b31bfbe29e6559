"""VLB(eta) from profiles: the closed form of Gaussian experts, its own standard errors, the crossing."""

import numpy as np
import pytest
from tests.bound.gaussian_terms import gaussian_diffusion, gaussian_loss

from merged_diffusion.bound import Profile, loss_profile
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.ode.machine import Machine
from merged_diffusion.thresholds.eta_curves import Curve, Profiles, gammas_of, likelihood_curve

SHAPE, DIM, LEVELS = (1, 2, 3), 6, 17
RANGES = {"likelihood": (-7.876, 5.0), "quality": (-7.006, 8.764)}
MERGED = (-7.876, 8.764)
VARIANCE = {"likelihood": 0.3, "quality": 0.6}
ETA = np.linspace(0.0523, 0.7738, 40)
GAMMA = gammas_of(ETA, MERGED, (-7.006, 5.0))


def images(n):
    pixels = np.random.RandomState(3).randint(0, LEVELS, (n, *SHAPE)).astype(np.uint8)
    return make_data("random", "test", pixels, LEVELS)


def grid(role, spacing):
    low, high = RANGES[role]
    return np.linspace(low, high, int((high - low) / spacing))


def closed(data, spacing):
    """Profiles without noise, image by image."""
    x = pixel_values(data.images, LEVELS).reshape(len(data), -1)
    found = {}
    for role in RANGES:
        gammas = grid(role, spacing)
        losses = [gaussian_loss(x, np.zeros(DIM), np.full(DIM, VARIANCE[role]), g) for g in gammas]
        found[role] = Profile(gammas, np.stack(losses, axis=1))
    return Profiles(found["likelihood"], found["quality"], DIM)


def exact(data):
    """Diffusion terms in bits/dim [N, E]."""
    x = pixel_values(data.images, LEVELS).reshape(len(data), -1)
    spans = {"likelihood": lambda g: (MERGED[0], g), "quality": lambda g: (g, MERGED[1])}
    nats = [
        sum(
            gaussian_diffusion(x, np.zeros(DIM), np.full(DIM, VARIANCE[role]), *spans[role](gamma))
            for role in RANGES
        )
        for gamma in GAMMA
    ]
    return np.stack(nats, axis=1) / (DIM * np.log(2))


def test_closed_profiles_give_the_bound_at_every_eta_to_1e_6():
    data = images(50)
    found = closed(data, 0.25).curve(ETA, GAMMA, rest_nats=3.0)
    expected = exact(data).mean(axis=0) + 3.0 / (DIM * np.log(2))
    np.testing.assert_allclose(found.value, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.se, exact(data).std(axis=0, ddof=1) / np.sqrt(50), rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
def test_sampled_profiles_are_within_three_of_their_standard_errors(stride):
    data = images(800)
    experts = {
        role: GaussianExpert(SHAPE, variance=VARIANCE[role], gamma_range=ends, levels=LEVELS)
        for role, ends in RANGES.items()
    }
    sampled = [
        loss_profile(
            experts[role],
            data,
            grid(role, 0.35),
            stride=stride,
            machine=Machine(dtype="float64", batch_size=512),
        )
        for role in RANGES
    ]
    found = Profiles(*sampled, DIM).curve(ETA, GAMMA)
    assert (np.abs(found.value - exact(data).mean(axis=0)) < 3 * found.se).all()
    away = found.difference - (exact(data) - exact(data)[:, [found.best]]).mean(axis=0)
    # The largest of 40 differences that hang together: four errors in place of three.
    assert (np.abs(away) <= 4 * found.se_difference + 1e-12).all()


def test_the_bound_is_least_where_the_profiles_cross():
    # The one knows the variance of the data, the other their mean, which counts at high noise.
    data, facts = images(2000), {"likelihood": (0.3, 0.33), "quality": (0.0, 0.8)}
    x = pixel_values(data.images, LEVELS).reshape(len(data), -1)

    def losses(role, gammas):
        mean, variance = (np.full(DIM, value) for value in facts[role])
        return np.stack([gaussian_loss(x, mean, variance, g) for g in gammas], axis=1)

    made = [Profile(grid(role, 0.25), losses(role, grid(role, 0.25))) for role in RANGES]
    eta = np.linspace(0.0523, 0.7738, 721)
    gamma = gammas_of(eta, MERGED, (-7.006, 5.0))
    profiles = Profiles(*made, DIM)
    best = profiles.curve(eta, gamma).best
    gap = (losses("likelihood", gamma) - losses("quality", gamma)).mean(axis=0)
    crossing = int(np.flatnonzero(np.diff(np.sign(gap)) > 0)[0])
    assert 0 < crossing < 720
    assert abs(best - crossing) <= 1
    low, high = profiles.crossing_interval(eta, gamma)
    assert low < eta[best] < high
    assert high - low < 0.3


def test_indistinguishable_is_what_two_paired_errors_hold():
    eta = np.linspace(0, 1, 5)
    base = np.random.RandomState(0).normal(size=100)
    base -= base.mean()
    noise = np.tile([1.0, -1.0], 50)
    # Images differ by far more than thresholds do; only paired differences see that.
    bits = 50 * base[:, None] + np.array([0.5, 0.1, 0.0, 0.15, 0.4]) + noise[:, None] * [1, 1, 0, 1, 1]
    found = likelihood_curve(eta, bits)
    assert found.best == 2
    np.testing.assert_allclose(found.se_difference[[0, 2]], [np.sqrt(100 / 99) / 10, 0], atol=1e-9)
    assert found.indistinguishable == (0.25, 0.75)


def test_errors_of_clustered_images_are_wider():
    eta = np.array([0.2, 0.4])
    bits = np.repeat(np.random.RandomState(1).normal(size=(20, 2)), 5, axis=0)
    alone, grouped = (likelihood_curve(eta, bits, c) for c in (None, np.repeat(np.arange(20), 5)))
    ratio = grouped.se / alone.se
    np.testing.assert_allclose(ratio, np.sqrt(5 * (20 / 19) / (100 / 99)), rtol=1e-9)
    assert isinstance(grouped, Curve)
