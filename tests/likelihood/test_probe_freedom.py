"""How well the noise of probes is known: degrees of freedom, and intervals by Student's t."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.stats import t as student

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.probe_error import HeavyTails, Parts

TIMES = np.sort(np.concatenate([np.linspace(-13, -9, 25), np.linspace(-8.9, 5, 30), [-13.3]]))


def simulated(rng, times, n_probes, n_draws):
    """(error of half the integral, variance, doubt) of draws whose noise is 3 to 30 in size along a leg."""
    size = 3 + 27 * np.exp(-(((times + 8) / 2) ** 2))
    smooth = 100 * np.tanh(times / 4)
    weights = CubicSpline(times, np.eye(len(times))).integrate(times[0], times[-1])
    truth = 0.5 * weights @ smooth
    found = []
    for _ in range(n_draws):
        q = [smooth + size * rng.standard_normal(len(times)) for _ in range(n_probes)]
        parts, doubt = _core.probe_variances(times, q)
        value = 0.5 * weights @ np.mean(q, axis=0)
        found.append((value - truth, parts.sum(), doubt))
    return np.array(found).T


@pytest.mark.parametrize("n_probes", [1, 2, 4])
def test_student_intervals_hold_as_often_as_they_say(n_probes):
    error, variance, doubt = simulated(np.random.default_rng(0), TIMES, n_probes, 2000)
    reach = student.ppf(0.975, variance**2 / doubt)
    assert 0.935 < np.mean(np.abs(error) <= reach * np.sqrt(variance)) < 0.965


def test_few_nodes_leave_a_wide_interval():
    """Of eight nodes the noise is hardly known: the normal law would hold too seldom."""
    times = np.linspace(-3, 3, 8)
    error, variance, doubt = simulated(np.random.default_rng(0), times, 1, 3000)
    freedom = variance**2 / doubt
    assert np.median(freedom) < 6
    assert np.quantile(freedom, 0.01) > 1  # a variance that is small by chance is known no worse
    assert np.mean(np.abs(error) <= 1.96 * np.sqrt(variance)) < 0.9
    assert 0.92 < np.mean(np.abs(error) <= student.ppf(0.975, freedom) * np.sqrt(variance)) < 0.98


@pytest.fixture(scope="module")
def gaussian():
    expert = md.GaussianExpert(
        (1, 2, 2), covariance=0.1 * torch.eye(4, dtype=torch.float64) + 0.05, gamma_range=(-13.3, 5.0)
    )
    return expert, np.random.default_rng(1).integers(64, 192, (3, 1, 2, 2), dtype=np.uint8)


def test_probes_along_a_path_leave_one_degree_less_than_there_are(gaussian):
    expert, images = gaussian
    found = md.log_likelihood(expert, images, solver=md.Dopri5(), probes=md.Probes(5, "gaussian"))
    np.testing.assert_allclose(found.freedom, 4)
    low, high = found.interval(0.9).T
    np.testing.assert_allclose((high - low) / 2, student.ppf(0.95, 4) * found.se_probe)
    np.testing.assert_allclose((high + low) / 2, found.values)


def test_an_exact_trace_has_an_interval_of_no_width(gaussian):
    expert, images = gaussian
    found = md.log_likelihood(expert, images, probes=md.Probes(kind="exact"))
    assert [record.freedom for record in found] == [None] * 3
    np.testing.assert_array_equal(found.interval(), np.stack([found.values] * 2, axis=1))
    assert found.estimate().freedom is None


def test_of_a_mean_freedoms_are_joined_by_their_variances(gaussian):
    expert, images = gaussian
    found = md.log_likelihood(expert, images)
    variances = found.se_probe**2
    expected = variances.sum() ** 2 / (variances**2 / found.freedom).sum()
    mean = found.estimate()
    assert math.isclose(mean.freedom, expected)
    assert mean.freedom > found.freedom.max() or np.ptp(found.freedom) > 1
    assert found.to_dict()["freedom"].tolist() == found.freedom.tolist()


def test_one_probe_that_is_fixed_tells_no_interval(gaussian):
    expert, images = gaussian
    assert np.isnan(md.log_likelihood(expert, images, solver=md.Dopri5()).interval()).all()


@pytest.mark.parametrize("level", [0, 1, -0.5, 95])
def test_a_level_is_a_probability(gaussian, level):
    expert, images = gaussian
    found = md.log_likelihood(expert, images)
    with pytest.raises(UsageError, match="probability between 0 and 1"):
        found.interval(level)


def noises(expert, images):
    """What the probes add to each draw's bound [N, R, K], in nats."""
    probed, exact = (
        md.log_likelihood(
            expert,
            images,
            importance=4,
            repeats=2,
            solver=md.Dopri5(1e-7, 1e-7),
            probes=probes,
            machine=md.Machine(dtype="float64"),
        )
        for probes in (md.Probes(), md.Probes(kind="exact"))
    )
    return np.array([a.draws for a in probed]).reshape(-1, 2, 4) - np.array([b.draws for b in exact]).reshape(
        -1, 2, 4
    )


def test_draws_that_a_bound_weights_have_the_same_noise(gaussian):
    """Else the greatest bound is the luckiest one; of a Gaussian the noise does not depend on the draw."""
    found = noises(*gaussian)
    assert np.abs(found).max() > 0.1
    assert np.ptp(found, axis=2).max() < 1e-3
    assert np.abs(np.diff(found[:, :, 0], axis=1)).max() > 0.1  # repeats are independent


def test_shared_noise_adds_up_by_its_errors_and_that_of_repeats_by_variances():
    one, two = Parts(np.array([4.0]), 1, 8.0), Parts(np.array([1.0]), 1, 0.5)
    weights = np.array([0.25, 0.25, 0.25, 0.25])
    shared = HeavyTails().error([one, two, one, two], weights, sharing=2)
    assert math.isclose(shared.se**2, 2 * (0.25 * 2 + 0.25 * 1) ** 2)
    assert math.isclose(shared.freedom, 2 * 2)  # each has 2 degrees
    alone = HeavyTails().error([one, two], np.array([0.5, 0.5]))
    assert math.isclose(alone.se**2, 0.25 * 4 + 0.25)
    assert math.isclose(alone.freedom, (0.25 * 5) ** 2 / (0.25**2 * 8.5))


def test_a_probe_that_all_draws_share_is_told_as_heavy():
    one = Parts(np.array([9.0] + 39 * [0.01]), 40, 1.0)
    tails = HeavyTails()
    tails.error([one] * 4, np.full(4, 0.25), sharing=4)
    with pytest.warns(UserWarning, match="96% of the variance of all probes"):
        tails.warn()


def test_records_without_a_freedom_leave_the_mean_without_one(gaussian):
    expert, images = gaussian
    found = md.log_likelihood(expert, images)
    older = replace(found, records=tuple(replace(record, freedom=None) for record in found))
    assert older.estimate().freedom is None
    assert older.estimate().se_probe == found.estimate().se_probe
    assert np.isnan(older.interval()).all()
