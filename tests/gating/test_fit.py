"""Gates from residual products: what is planted is found, and nothing is scored on what it was fitted to."""

import numpy as np
import pytest
import torch

from merged_diffusion import Gate, GaussianExpert, MergedModel, fit_gate, load_expert, log_likelihood
from merged_diffusion.bound import random_numbers
from merged_diffusion.bound.losses import Losses
from merged_diffusion.data import load_data
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import UsageError
from merged_diffusion.gating.fit import bent, fitted, nearest
from merged_diffusion.gating.gate_choice import one_half
from merged_diffusion.gating.residuals import Shares, measure
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.ode.machine import Machine

PLANTED = Gate(-8.0, 2.0, (0.3, 0.0, 0.0, 0.2, 0.1, 0.0, 0.1, 0.3))
SHAPE = (1, 2, 2)


def shares(w, se=0.0, gamma=None):
    gamma = np.linspace(-7.75, 1.75, 20) if gamma is None else gamma
    return Shares(gamma, w(gamma), np.full(len(gamma), se), np.exp(-0.4 * gamma), 0)


def test_a_planted_gate_is_found():
    found = fitted(shares(PLANTED), -8.0, 2.0)
    # The sum of the shares is held by a row of weight 1e4: it gives way by 1e-8 of what is left.
    assert np.abs(np.array(found.shares) - PLANTED.shares).max() < 1e-6


def test_shares_above_one_are_not_clipped_before_the_fit():
    """Measured 1.4 and 0.6 in turns, their mean is 1; clipped to 1 and 0.6 it would be 0.8."""

    def noisy(gamma):
        w = np.where(gamma < -3, 1.0, 0.0)
        return w + np.where(np.arange(len(gamma)) % 2, 0.4, -0.4) * (gamma < -4)

    gamma = np.linspace(-7.9, 1.9, 99)
    flat = Shares(gamma, noisy(gamma), np.zeros(99), np.ones(99), 0)
    found = fitted(flat, -8.0, 2.0)
    assert found(-5.5) > 0.97


def test_what_is_not_determined_is_shrunk_to_nothing():
    noisy = Shares(
        np.array([-7.0, 1.0]), np.array([0.9, 0.3]), np.array([0.01, 0.3]), np.ones(2), 0
    )  # fmt: skip
    assert noisy.shrunk == pytest.approx([0.9, 0.15], abs=1e-3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fitted(shares(lambda gamma: 0.8 + 0 * gamma), -8.0, 2.0), "have to jump from 1"),
        (lambda: fitted(shares(PLANTED), -8.0, -5.5), "no room to fall smoothly"),
    ],
)
def test_a_gate_that_cannot_be_smooth_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_relatives_of_a_gate():
    middle = np.linspace(-4.9, -1.1, 20)
    # Knots 1 apart follow a plateau but for ripples of the ends' ramps, which are 3 long.
    assert bent(PLANTED, 0.0, 0.0)(middle) == pytest.approx(0.5, abs=0.03)
    assert bent(PLANTED, 1.0, 0.0)(middle) == pytest.approx(PLANTED(middle), abs=1e-6)
    assert (bent(PLANTED, 1.0, 0.7)(middle) > PLANTED(middle)).all()


def test_a_fit_never_has_knots_nearer_than_one():
    for end in (-5.0, -4.1, 1.7, 2.0):
        assert nearest(np.array([-7.0]), np.array([0.5]), np.ones(1), -8.0, end).spacing >= 1


def test_measured_shares_are_those_of_the_residuals():
    """Against the same residuals in numpy, for two Gaussians."""
    pixels = np.random.default_rng(0).integers(0, 16, (5, *SHAPE)).astype(np.uint8)
    data = make_data("some", "train", pixels, 16)
    spreads = 0.2, 0.5
    one, two = (
        GaussianExpert(SHAPE, variance=v, gamma_range=(-8.0, 5.0), levels=16) for v in spreads
    )  # fmt: skip
    place = Machine(dtype="float64", batch_size=4).here(lambda _: 4)
    losses = Losses.of(data, None, 3, place)
    with torch.no_grad():
        found = measure(losses, (one.double(), two.double()), -6.0, -5.5, 4, None)
    x = pixel_values(pixels, 16).reshape(5, 4)
    gain = curvature = 0.0
    for image in range(5):
        for visit in range(4):
            gamma = -6 + 0.5 * (visit + image * (5**0.5 - 1) / 2 % 1) / 4
            eps = np.empty((1, 4))
            name = np.array([image], dtype=np.uint64)
            random_numbers.diffusion_noise(eps, 3, name, random_numbers.profile_draws(np.array([visit])))
            s = 1 / (1 + np.exp(-gamma))
            z = np.sqrt(1 - s) * x[image] + np.sqrt(s) * eps[0]
            left, right = (np.sqrt(s) * z / ((1 - s) * v + s) - eps[0] for v in spreads)
            gain += right @ right - left @ right
            curvature += (left - right) @ (left - right)
    assert found.w == pytest.approx([gain / curvature], rel=1e-6)
    assert found.evaluations == 2 * 5 * 4


def test_a_fitted_gate_knows_its_images_and_its_experts():
    likelihood, quality = load_expert("bundled:digits-vdm"), load_expert("bundled:digits-edm")
    held_back = load_data("digits", "train").select(limit=12)
    options = Options(seed=0, dequantise="decoder")
    gate = fit_gate(likelihood, quality, held_back, exact=2, visits=24, options=options)
    assert (gate.start, gate.end) == (quality.gamma_range[0], -3.0)
    assert set(gate.experts) == {"likelihood", "quality"}
    assert gate.about["family"]["chosen"].startswith("a ")
    model = MergedModel(likelihood, quality, gate=gate)
    with pytest.raises(UsageError, match="12 of these 12 images"):
        log_likelihood(model, held_back, dequantise="decoder")
    half = one_half(likelihood, quality)
    assert half(-1.0) == pytest.approx(0.5, abs=0.02)
