"""What the spline along the path may miss of a trace, told by a companion that has no part in the value."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import as_model
from merged_diffusion.ode.spread import Spread

USUAL = md.Adams()
BITS = 4 * np.log(2)
POINTS = np.random.default_rng(0).normal(0, np.sqrt(0.1), (6, 1, 2, 2))
DOUBLE = md.Machine(dtype="float64")
ROUGH = "ignore:.*is rough:merged_diffusion.ExpertWarning"


class Wavy(torch.nn.Module):
    """eps_hat of a Gaussian of variance 0.1, and a sin(b z) of every value: its Jacobian is diagonal."""

    name, levels, image_shape, conditional, pixels = "wavy", 256, (1, 2, 2), False, "centred"
    gamma_range = (-13.3, 5.0)

    def __init__(self, a=0.0, b=0.0):
        super().__init__()
        self.a, self.b = a, b
        self.eval()

    def forward(self, z, gamma, cond=None):
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        return square.sqrt() * z / (0.1 * (1 - square) + square) + self.a * torch.sin(self.b * z)


def density(expert, probes, solver=USUAL, points=POINTS):
    options = Options(dequantise="none", probes=probes, solver=solver, machine=DOUBLE)
    return score_points(as_model(expert), points, options)


@pytest.fixture(scope="module")
def dense():
    covariance = 0.1 * torch.eye(12, dtype=torch.float64) + 0.05
    return md.GaussianExpert((3, 2, 2), covariance=covariance, gamma_range=(-13.3, 5.0))


def test_variance_is_that_of_splines_through_every_second_node():
    times = np.cumsum(np.random.default_rng(1).uniform(0.1, 0.9, 24)) - 13
    values = np.sin(3 * times)

    def half(nodes):
        return 0.5 * CubicSpline(times[nodes], values[nodes]).integrate(times[0], times[-1])

    whole = half(np.arange(24))
    even = half(np.r_[0:24:2, 23]) - whole
    odd = half(np.r_[0, 1:24:2]) - whole
    weights = CubicSpline(times, np.eye(24)).integrate(times[0], times[-1])
    left = 0.0
    for node in range(24):
        first = min(max(node - 2, 0), 19)
        near = [i for i in range(first, first + 5) if i != node]
        rows = np.vander(times[near] - times[node], 4)
        shares = np.linalg.solve(rows.T, np.array([0, 0, 0, 1.0]))  # of the cubic through four, at the node
        distance = values[node] - shares @ values[near]
        left += (weights[node] / 2) ** 2 * distance**2 / (1 + shares @ shares)
    assert _core.quadrature_variance(times, values) == pytest.approx(even**2 + odd**2 + left, rel=1e-9)


def test_a_short_leg_tells_nothing():
    assert _core.quadrature_variance(np.arange(3.0), np.zeros(3)) is None
    with pytest.raises(ValueError, match="at every time"):
        _core.quadrature_variance(np.arange(5.0), np.zeros(4))


@pytest.mark.parametrize("probes", [(1,), (3,), (3, "independent"), (1, "fixed"), (1, "exact")])
def test_a_companion_changes_no_bit_of_a_value(dense, probes):
    images = np.random.default_rng(2).integers(0, 256, (3, 3, 2, 2), dtype=np.uint8)
    without = md.log_likelihood(dense, images, probes=md.Probes(*probes))
    found = md.log_likelihood(dense, images, probes=md.Probes(*probes, companion=True))
    assert found.values.tolist() == without.values.tolist()
    for one, two in zip(found, without, strict=True):
        assert (one.terms_nats, one.evaluations, one.steps) == (two.terms_nats, two.evaluations, two.steps)
        assert one.path_error == two.path_error
        assert two.quadrature_error is None
        assert one.quadrature_error > 0


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize("probes", [1, 2, 3])
@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.1, 5.0), (0.01, 50.0), (0.005, 300.0)])
def test_a_diagonal_jacobian_has_no_noise_however_rough(a, b, probes):
    """Also by colour: what the companion saw of each is taken off."""
    found = density(Wavy(a, b), md.Probes(probes, companion=True))
    np.testing.assert_array_equal(found.se_probe, 0)
    if b == 50:  # neighbours alone take the bend for noise
        assert density(Wavy(a, b), md.Probes(probes)).se_probe.min() / BITS > 0.01


def test_a_smooth_trace_of_many_values_has_no_noise():
    """Of 3,072 values the bend of the trace alone counted as 2e-3 bits/dim."""
    expert = md.GaussianExpert((3, 32, 32), variance=0.1, gamma_range=(-13.3, 5.0))
    points = np.random.default_rng(3).normal(0, np.sqrt(0.1), (2, 3, 32, 32))
    bits = 3072 * np.log(2)
    assert density(expert, md.Probes(), points=points).se_probe.min() / bits > 5e-4
    found = density(expert, md.Probes(companion=True), points=points)
    # Each node rounds its sum of 3,072 products by some 1e-13 of it, and weights are at most 1.
    assert found.se_probe.max() / bits < 1e-12
    assert found.quadrature_error.max() / bits < 5e-3


def test_noise_of_a_dense_jacobian_is_told_as_without_a_companion(dense):
    images = np.random.default_rng(4).integers(0, 256, (48, 3, 2, 2), dtype=np.uint8)
    for probes in (1, 3):
        found = md.log_likelihood(dense, images, probes=md.Probes(probes, companion=True))
        one = found.se_probe
        # What it is fixed for: the trace is smooth, however noisy the probes are.
        assert np.mean(found.quadrature_error**2) < 0.1 * np.mean(one**2)
        two = md.log_likelihood(dense, images, probes=md.Probes(probes)).se_probe
        # 48 images of some 5 degrees: each mean square is known to sqrt(2/240) = 9 %, and they are alike.
        assert np.mean(one**2) == pytest.approx(np.mean(two**2), rel=0.2)


@pytest.mark.filterwarnings(ROUGH)
@pytest.mark.parametrize(("a", "b"), [(0.08, 20.0), (0.05, 50.0), (0.01, 100.0), (0.005, 300.0)])
def test_the_error_of_a_rough_trace_is_told(a, b):
    """Against dopri5, which has the trace in its error norm."""
    expert = Wavy(a, b)
    found = density(expert, md.Probes(companion=True), points=POINTS[:3])
    tight = density(expert, md.Probes(kind="exact"), solver=md.Dopri5(1e-6, 1e-6), points=POINTS[:3])
    off = np.abs(found.values - tight.values)
    assert off.max() / BITS > 0.01  # which a se_probe of 0 does not say
    assert np.mean(off < 4 * found.total_error) == 1
    low, high = found.interval(total=True).T
    np.testing.assert_allclose((high - low) / 2, 1.959964 * found.total_error, rtol=1e-5)


def test_a_rough_trace_is_warned_of_and_a_smooth_one_is_not(recwarn):
    density(Wavy(), md.Probes(companion=True))
    assert not recwarn.list
    with pytest.warns(md.ExpertWarning, match="quadrature") as told:
        density(Wavy(0.05, 50.0), md.Probes(companion=True))
    assert told[0].message.about == "rough trace"


def test_total_error_adds_up_and_is_unknown_without_a_companion(dense):
    images = np.random.default_rng(5).integers(0, 256, (2, 3, 2, 2), dtype=np.uint8)
    found = md.log_likelihood(dense, images, probes=md.Probes(companion=True))
    squares = found.se_probe**2 + found.quadrature_error**2 + found.path_error**2
    np.testing.assert_allclose(found.total_error**2, squares)
    wide = np.diff(found.interval(total=True)) / np.diff(found.interval())
    assert (wide > 0.9).all()
    assert np.isnan(md.log_likelihood(dense, images).total_error).all()


def test_an_image_is_told_the_same_whatever_is_beside_it(dense):
    images = np.random.default_rng(6).integers(0, 256, (9, 3, 2, 2), dtype=np.uint8)
    asked = {"probes": md.Probes(2, companion=True), "machine": md.Machine(batch_size=4), "importance": 2}
    whole = md.log_likelihood(dense, images, **asked)
    few = md.log_likelihood(dense, images[[7, 2]], [7, 2], **asked)
    assert [r.as_dict() for r in few] == [whole[i].as_dict() for i in (7, 2)]


def test_draws_of_an_image_are_taken_to_err_alike(dense):
    images = np.random.default_rng(7).integers(0, 256, (1, 3, 2, 2), dtype=np.uint8)
    once, twice = (
        md.log_likelihood(dense, images, repeats=r, probes=md.Probes(companion=True)) for r in (1, 4)
    )
    # Their mean, and not a half of it: of a Gaussian the trace is the same for every draw.
    assert twice.quadrature_error[0] == pytest.approx(once.quadrature_error[0], rel=0.1)


def test_legs_are_told_one_by_one(monkeypatch):
    """A trace that jumps where one expert hands over is missed by neither leg's spline."""
    seen = []
    real = Spread.misfit
    monkeypatch.setattr(Spread, "misfit", lambda self, *given: seen.append(real(self, *given)) or seen[-1])
    low, high = (md.GaussianExpert((1, 2, 2), variance=v, gamma_range=(-13.3, 5.0)) for v in (0.1, 1.0))
    merged = md.MergedModel(low, high, md.Threshold.gamma(-2.0))
    found = density(merged, md.Probes(companion=True), points=POINTS[:1])
    assert len(seen) == 2
    assert found.quadrature_error[0] ** 2 == pytest.approx(sum(seen))
    alone = density(low, md.Probes(companion=True), points=POINTS[:1])
    assert found.quadrature_error[0] < 3 * alone.quadrature_error[0]


def test_dopri5_has_no_companion():
    with pytest.raises(UsageError, match="adams' quadrature"):
        Options(solver=md.Dopri5(), probes=md.Probes(companion=True))
