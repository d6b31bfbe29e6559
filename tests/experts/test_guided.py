"""Guided experts: the guided field of two Gaussians is linear, so that its flow and likelihood are known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import check_posterior

SHAPE = (1, 2, 3)
RANGE = (-8.0, 6.0)
EVERYWHERE = (-math.inf, math.inf)


def gaussian(variance, mean=0.0, gamma_range=RANGE, **words):
    return md.GaussianExpert(SHAPE, variance=variance, mean=mean, gamma_range=gamma_range, **words)


EXPERT, GUIDE = gaussian(0.05, 0.3), gaussian(0.2, -0.1)


def weight_at(weight, gamma, interval):
    """1 outside; inside a polynomial whose value and two derivatives are those of 1 and of the weight."""
    low, high = interval
    u = np.clip(np.minimum(gamma - low, high - gamma), 0, 1)
    return 1 + (weight - 1) * (6 * u**5 - 15 * u**4 + 10 * u**3)


def guided_flow(weight, gamma, end, interval):
    """Gain and offset of the flow of a coordinate from gamma to ``end``, by quadrature of its equation.

    dz/dgamma = -sigma^2 z/2 + sigma eps_hat/2 with eps_hat = w sigma (z - alpha m)/v + (1 - w) that of the
    guide: z' = a z + b. log gain = int a, offset = int b exp(int_s^end a) ds.
    """
    nodes, weights = np.polynomial.legendre.leggauss(24)
    bends = (*interval, interval[0] + 1, interval[1] - 1)
    inner = sorted((g for g in bends if min(gamma, end) < g < max(gamma, end)), reverse=gamma > end)
    cuts = [gamma, *inner, end]
    gain, offset = 1.0, 0.0
    for begin, stop in pairwise(cuts):
        for a, b in pairwise(np.linspace(begin, stop, 65)):

            def field(g):
                w = weight_at(weight, g, interval)
                alpha2, sigma2 = 1 / (1 + np.exp(g)), 1 / (1 + np.exp(-g))
                v, v_g = alpha2 * 0.05 + sigma2, alpha2 * 0.2 + sigma2
                slope = 0.5 * sigma2 * (w / v + (1 - w) / v_g - 1)
                return slope, -0.5 * sigma2 * np.sqrt(alpha2) * (w * 0.3 / v - (1 - w) * 0.1 / v_g)

            half = (b - a) / 2
            at = 0.5 * (a + b) + half * nodes
            slope, force = field(at)
            # The rest of the piece, from each node to its end, by the same rule.
            rest = [np.dot(weights, field(g + (b - g) * (nodes + 1) / 2)[0]) * (b - g) / 2 for g in at]
            own = math.exp(half * np.dot(weights, slope))
            gain, offset = gain * own, offset * own + half * np.dot(weights, force * np.exp(rest))
    return gain, offset


@pytest.mark.parametrize("interval", [None, (-3.0, 2.0)])
@pytest.mark.parametrize("weight", [0.0, 1.7, 3.0])
def test_samples_are_those_of_the_closed_form(weight, interval):
    sampler, machine = md.Ode(md.Dopri5(1e-9, 1e-9)), md.Machine(dtype="float64")
    model = md.Guided(EXPERT, GUIDE, weight, interval=interval)
    found = md.draw(model, range(3), sampler=sampler, latents=True, machine=machine)
    # An expert of the noise itself, eps_hat = sigma z, leaves z where it is, and shows the start.
    start = md.draw(gaussian(1.0), range(3), sampler=sampler, latents=True, machine=machine).latents
    gain, offset = guided_flow(weight, RANGE[1], RANGE[0], interval or EVERYWHERE)
    # Some 100 steps of 1e-9 (1 + |z|), |z| < 4, carried on by a gain below 2.
    np.testing.assert_allclose(found.latents, start * gain + offset, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interval", [None, (-3.0, 2.0)])
def test_likelihood_is_that_of_the_guided_flow(interval):
    weight = 1.7
    model = md.Guided(EXPERT, GUIDE, weight, interval=interval)
    x = np.random.default_rng(0).normal(0.3, 0.2, (4, *SHAPE))
    found = md.log_density(
        model,
        x,
        solver=md.Dopri5(1e-9, 1e-9),
        probes=md.Probes(kind="exact"),
        machine=md.Machine(dtype="float64"),
    )
    gain, offset = guided_flow(weight, *RANGE, interval or EVERYWHERE)
    end, variance = gain * _core.alpha(RANGE[0]) * x + offset, _core.sigma_squared(RANGE[1])
    normal = -0.5 * (end**2 / variance + math.log(2 * math.pi * variance))
    np.testing.assert_allclose(found, (normal + math.log(gain)).sum((1, 2, 3)), rtol=0, atol=1e-6)


def test_adams_meets_no_jump_at_the_ends_of_an_interval():
    # Where the weight jumped this was 0.4 bits/dim; without an interval it is 0.003 at this tolerance.
    x = np.random.default_rng(0).normal(0.3, 0.2, (4, *SHAPE))
    model = md.Guided(EXPERT, GUIDE, 2.5, interval=(-3.0, 2.0))
    exact, machine = md.Probes(kind="exact"), md.Machine(dtype="float64")
    coarse, fine = (
        md.log_density(model, x, solver=solver, probes=exact, machine=machine)
        for solver in (md.Adams(), md.Dopri5(1e-9, 1e-9))
    )
    assert np.abs(coarse - fine).max() / (6 * math.log(2)) < 0.006


def test_likelihood_says_whose_it_is():
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    for weight, words in ((1.5, "bits/dim under the guided flow"), (1.0, "bits/dim")):
        model = md.MergedModel(EXPERT, md.Guided(EXPERT, GUIDE, weight), md.Threshold.gamma(-2.0))
        found = md.log_likelihood(model, images, dequantise="uniform", solver=md.Adams(0.1))
        assert found.unit.replace(" (points without noise under the model noised to gamma_min)", "") == words
        assert found.guided is (weight != 1)


def recording(expert):
    asked = []

    def eps(z, gamma, cond=None):
        asked.append(gamma.clone())
        return expert(z, gamma)

    callable_expert = md.CallableExpert(
        eps, predicts="eps", time="gamma", input="vp", pixels="centred", gamma_range=RANGE, image_shape=SHAPE,
        levels=256,
    )  # fmt: skip
    return callable_expert, asked


def some(n=5):
    z = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return z, torch.tensor([-7.0, -3.0, 0.0, 2.0, 5.0], dtype=torch.float64)[:n]


def test_weight_one_is_the_expert_bit_for_bit():
    z, gamma = some()
    guide, asked = recording(GUIDE)
    assert torch.equal(md.Guided(EXPERT, guide, 1.0)(z, gamma), EXPERT(z, gamma))
    assert asked == []


def test_guide_acts_in_its_interval_alone():
    z, gamma = some()
    guide, asked = recording(GUIDE)
    found = md.Guided(EXPERT, guide, 2.0, interval=(-3.0, 2.0))
    plain, everywhere = EXPERT(z, gamma), md.Guided(EXPERT, GUIDE, 2.0)(z, gamma)
    inside = torch.tensor([False, False, True, False, False])  # its ends are -3 and 2
    assert torch.equal(found(z, gamma)[~inside], plain[~inside])
    assert torch.equal(found(z, gamma)[inside], everywhere[inside])
    asked.clear()
    assert torch.equal(found(z[~inside], gamma[~inside]), plain[~inside])
    assert asked == []


def test_a_row_is_the_same_in_any_company():
    z, gamma = some()
    model = md.Guided(EXPERT, GUIDE, 2.0, interval=(-3.0, 2.0))
    together = model(z, gamma)
    for row in range(len(z)):
        torch.testing.assert_close(
            model(z[row : row + 1], gamma[row : row + 1])[0], together[row], rtol=1e-6, atol=0
        )


class ByClass(torch.nn.Module):
    """Two Gaussian classes; without one, the guide of both."""

    name, gamma_range, pixels, levels, image_shape = "classes", RANGE, "centred", 256, SHAPE
    conditional, label_range, training = True, (-1, 1), False

    def forward(self, z, gamma, cond=None):
        answers = torch.stack([GUIDE(z, gamma), gaussian(0.05, -0.5)(z, gamma), EXPERT(z, gamma)])
        return answers[cond + 1, torch.arange(len(z))]


def test_guide_without_a_class_is_the_same_expert_without_one():
    z, gamma = some()
    labels = torch.tensor([0, 1, 1, 0, 1])
    model, classes = md.Guided(ByClass(), "none-class", 2.5), ByClass()
    without = classes(z, gamma, torch.full((5,), -1))
    expected = without + 2.5 * (classes(z, gamma, labels) - without)
    assert torch.equal(model(z, gamma, labels), expected)
    assert model.conditional


def test_guidance_is_the_quality_experts():
    guided = md.Guided(EXPERT, GUIDE, 2.0)
    with pytest.raises(ExpertError, match="is guided and predicts no mean of the noise: merging it"):
        md.MergedModel(guided, EXPERT, md.Threshold.gamma(-2.0))
    guide, asked = recording(GUIDE)
    model = md.MergedModel(gaussian(0.06), md.Guided(EXPERT, guide, 2.0), md.Threshold.gamma(-2.0))
    found = md.draw(model, range(2), sampler=md.Deis(6))
    assert model.guided
    assert min(float(gamma.min()) for gamma in asked) >= -2.0
    assert found.evaluations["quality"].mean() + found.evaluations["likelihood"].mean() == 7


@pytest.mark.parametrize(
    "refused",
    [
        lambda model: md.variational_bound(model, np.zeros((1, *SHAPE), np.uint8)),
        lambda model: md.loss_profile(model, np.zeros((1, *SHAPE), np.uint8), [-2.0, 0.0]),
        lambda model: md.Guided(model, GUIDE, 2.0),
        lambda model: check_posterior(model, "a gate"),
    ],
)
def test_what_needs_a_denoiser_refuses_a_guided_one(refused):
    with pytest.raises(ExpertError, match="is guided and predicts no mean of the noise"):
        refused(md.Guided(EXPERT, GUIDE, 2.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: md.Guided(EXPERT, GUIDE, -1.0), UsageError, "weight -1.0 is no finite number from 0 up"),
        (lambda: md.Guided(EXPERT, GUIDE, math.nan), UsageError, "weight nan"),
        (lambda: md.Guided(EXPERT, GUIDE, 2.0, interval=(2.0, -3.0)), UsageError, "no pair LOW, HIGH"),
        (lambda: md.Guided(EXPERT, "none-class", 2.0), ExpertError, "takes no class"),
        (
            lambda: md.Guided(EXPERT, gaussian(0.1, gamma_range=(-4.0, 4.0)), 2.0),
            UsageError,
            r"trained at gamma -4 to 4, and is to act at -8 to 6; .*interval = \(-4, 4\)",
        ),
        (
            lambda: md.Guided(EXPERT, md.GaussianExpert((1, 2, 2), variance=1.0, gamma_range=RANGE), 2.0),
            ExpertError,
            "takes images of shape",
        ),
        (lambda: md.Guided(EXPERT, gaussian(0.1, levels=17), 2.0), ExpertError, "takes grey levels 256"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_narrow_guide_acts_in_its_own_range():
    narrow = gaussian(0.2, -0.1, gamma_range=(-4.0, 4.0))
    assert md.Guided(EXPERT, narrow, 2.0, interval=(-4.0, 4.0)).is_guided
