"""The path's correction is applied as far as a finer tolerance confirms it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.likelihood.path_evidence import (
    ASSUMED,
    LEFT_OUT,
    PathEvidence,
    path_evidence,
    unmeasured,
)
from merged_diffusion.merge import as_model

RANGE = (-13.3, 5.0)
DIM = 12
# J is the same everywhere, so one fixed probe has the error of the path that the trace has.
FIXED = Options(
    dequantise="none", probes=md.Probes(kind="fixed"), machine=md.Machine(dtype="float64"), path=ASSUMED
)
USUAL = md.Adams()
TIGHT = md.Adams(1e-5, 0.1)  # a three hundredth of its tolerance, and of its error
FINER = md.Adams(USUAL.tol / 4, USUAL.h_max / 4**0.25)


class Linear(torch.nn.Module):
    """eps_hat of a dense Gaussian and ``turn`` sigma A z, A antisymmetric: no gradient, the same trace."""

    name, levels, image_shape, conditional, pixels = "turning", 256, (3, 2, 2), False, "centred"
    gamma_range = RANGE

    def __init__(self, gaussian, turn):
        super().__init__()
        self.gaussian, self.turn = gaussian, turn
        one = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.a = one - one.T
        self.eval()

    def forward(self, z, gamma, cond=None):
        sigma = torch.sigmoid(gamma).sqrt().to(z.dtype).view(-1, 1, 1, 1)
        turned = (z.flatten(1) @ self.a.to(z.dtype)).view_as(z)
        return self.gaussian(z, gamma) + self.turn * sigma * turned


@pytest.fixture(scope="module")
def dense():
    covariance = 0.1 * torch.eye(DIM, dtype=torch.float64) + 0.05
    return md.GaussianExpert((3, 2, 2), covariance=covariance, gamma_range=RANGE)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).normal(0, 0.35, (24, 3, 2, 2))


def parts(expert, points, solver):
    """L without its correction, and the correction, in nats."""
    found = score_points(as_model(expert), points, replace(FIXED, solver=solver))
    correction = found.terms_nats["path_correction"]
    return found.log_density_nats - correction, correction


def evidence(expert, points):
    return path_evidence(*(parts(expert, points[:16], solver) for solver in (USUAL, FINER)))


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def test_beta_and_its_error_are_those_of_the_regression_through_zero():
    rng = np.random.default_rng(1)
    coarse, fine = rng.normal(size=(2, 9)), rng.normal(size=(2, 9))
    coarse[0, 4] = np.nan  # an image that failed
    found = path_evidence((coarse[0], coarse[1]), (fine[0], fine[1]))
    kept = np.delete(np.arange(9), 4)
    x, y = (coarse[1] - fine[1])[kept, None], (fine[0] - coarse[0])[kept]

    def slope(rows):
        return np.linalg.lstsq(x[rows], y[rows], rcond=None)[0][0]

    without = np.array([slope(np.delete(np.arange(8), i)) for i in range(8)])
    assert found.n == 8
    assert found.beta == pytest.approx(slope(np.arange(8)), rel=5e-3)  # three digits are kept
    assert found.se == pytest.approx(np.sqrt(7 / 8 * np.sum((without - without.mean()) ** 2)), rel=5e-3)
    left = y - found.share * x[:, 0]
    assert (found.rms, found.ratio) == pytest.approx((rms(left), rms(left) / rms(x)), rel=5e-3)


@pytest.mark.parametrize(
    ("beta", "se", "share"),
    [(0.9, 0.1, 0.9), (1.4, 0.1, 1.0), (0.9, 0.21, 0.0), (0.5, 0.0, 0.0), (1.0, None, 0.0), (-1.0, 0.1, 0.0)],
)
def test_what_is_surely_above_a_half_is_applied_and_at_most_all(beta, se, share):
    found = PathEvidence(beta, se, 0.5, 0.2, 16)
    assert found.share == share
    np.testing.assert_allclose(found.error(np.array([-1.0, 0.1])), [0.5, 0.2])
    # The error stated of a path is 0.2 at least: a correction of less than a tenth of it is left alone.
    np.testing.assert_allclose(found.applied(np.array([-1.0, 0.019, 0.021])), [-share, 0, 0.021 * share])


def test_few_images_and_paths_without_an_error_confirm_nothing():
    some = np.array([1.0, 2.0])
    assert path_evidence((some, some), (2 * some, 0 * some)).se is None
    nothing = np.zeros(5)
    assert path_evidence((nothing, nothing), (nothing + 1, nothing)) == PathEvidence(0.0, None, 0.0, 1.0, 5)


def test_a_gaussians_correction_is_confirmed_and_takes_most_of_its_error(dense, points):
    truth, _ = parts(dense, points, TIGHT)
    found = evidence(dense, points)
    assert found.share > 0.5
    length, correction = parts(dense, points, USUAL)
    applied = score_points(as_model(dense), points, replace(FIXED, path=found))
    np.testing.assert_allclose(applied.terms_nats["path_correction"], found.applied(correction), rtol=1e-12)
    assert rms(truth - applied.log_density_nats) < rms(truth - length) / 5
    np.testing.assert_allclose(applied.path_error, found.error(correction))


def test_a_field_that_is_no_gradient_is_not_corrected(dense, points):
    """What the formula says is wrong there: taken at its word it makes numbers worse."""
    turning = Linear(dense, 3.0)
    truth, _ = parts(turning, points, TIGHT)
    length, correction = parts(turning, points, USUAL)
    found = evidence(turning, points)
    assert rms(truth - length - correction) > 1.1 * rms(truth - length)
    assert found.share == 0
    left = score_points(as_model(turning), points, replace(FIXED, path=found))
    assert (left.terms_nats["path_correction"] == 0).all()
    # No less than what is wrong, to the third of it that is left at the finer tolerance.
    assert rms(left.path_error) > 0.6 * rms(truth - length)


class Rough(md.GaussianExpert):
    """Its base is a closed form, and it is none."""

    def forward(self, z, gamma, cond=None):
        return super().forward(z, gamma, cond) + torch.sin(20 * z) / 20


class Told(Rough):
    """What overrides nothing more is as its base, unless it says something else."""

    is_closed_form = True


def test_what_changes_the_noise_predictor_of_a_closed_form_is_none_unless_it_says_so():
    class Same(md.GaussianExpert):
        def extra_repr(self):
            return ""

    class Below(Rough):
        pass

    told = [kind.is_closed_form for kind in (Same, Rough, Below, Told)]
    assert told == [True, False, False, True]


def test_nothing_measured_is_as_the_formula_says_of_closed_forms_up_to_a_tolerance(dense):
    closed, other = md.GaussianExpert((1, 2, 2), variance=0.5), Linear(dense, 0.0)
    for solver, expected in ((USUAL, ASSUMED), (md.Adams(tol=0.03), LEFT_OUT), (md.Dopri5(), None)):
        assert unmeasured(solver, [closed, closed]) == expected
    for experts in ([other], [closed, other], [Rough((1, 2, 2), variance=0.5)]):
        assert unmeasured(USUAL, experts) == LEFT_OUT
        assert unmeasured(md.Dopri5(), experts) is None
