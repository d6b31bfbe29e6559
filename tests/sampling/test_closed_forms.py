"""Samplers of Gaussian experts, where every answer is known (`experts/gaussian.py`).

The probability flow of two merged Gaussians multiplies each coordinate by sqrt(v(end)/v(start)), leg by leg;
an ancestral step is linear, so that its law is a recursion of variances.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Machine, Place
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.samplers import Ancestral, Dpmpp2m, Heun
from merged_diffusion.sampling import draw, grids
from merged_diffusion.sampling.ancestral import Coefficients, ancestral, in_charge
from merged_diffusion.sampling.heun import heun
from merged_diffusion.sampling.multistep import method_of, multistep
from merged_diffusion.sampling.network import Network
from merged_diffusion.sampling.ode import integrate

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)
GENERATOR = torch.Generator().manual_seed(0)
ROTATION = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=GENERATOR))[0]


def covariance(*variances):
    return ROTATION @ torch.diag(torch.tensor(variances, dtype=torch.float64)) @ ROTATION.T


LIKELIHOOD = GaussianExpert(SHAPE, covariance=covariance(0.002, 0.02, 0.4, 0.9), gamma_range=(-8.0, 4.0))
QUALITY = GaussianExpert(SHAPE, covariance=covariance(0.003, 0.015, 0.5, 0.7), gamma_range=(-7.0, 6.0))


def merged(gamma=-4.5):
    return MergedModel(LIKELIHOOD, QUALITY, Threshold.gamma(gamma))


def basis():
    """Four starts along the axes [4, C, H, W]: a linear map of them shows its matrix."""
    return torch.eye(4, dtype=torch.float64).view(4, *SHAPE)


def flowed(model, z):
    """What the exact flows of all legs make of z."""
    for leg in model.legs(toward="data"):
        z = leg.expert.flow(z, leg.start, leg.end)
    return z


def by_ode(model, steps):
    ends = {}
    starts = basis().reshape(4, 4).numpy()
    keys = np.arange(4, dtype=np.uint64)
    integrate(
        model.legs(toward="data"), Items(keys), keys, starts.__getitem__,
        shape=SHAPE, place=Place(CPU, torch.float64, 4), solver=Dopri5(), arrived=ends.__setitem__,
        finished=lambda outcome: None, steps=steps,
    )  # fmt: skip
    return torch.from_numpy(np.stack([ends[key] for key in range(4)])).view(4, *SHAPE)


def laid(sampler, legs):
    return grids.by_legs(grids.nodes(sampler, legs[0].start, legs[-1].end), legs)


def heuns(legs, network, steps):
    grid = laid(Heun(steps), legs)
    return heun(basis(), legs, network, lambda _: torch.zeros(1), grid, steps=steps)


def by_heun(model, steps):
    return heuns(model.legs(toward="data"), Network(CPU, torch.float64), steps)


def by_dpmpp(model, steps, network=None):
    legs, how = model.legs(toward="data"), Dpmpp2m(steps)
    return multistep(basis(), legs, network or Network(CPU, torch.float64), laid(how, legs), method_of(how))


@pytest.mark.parametrize(
    ("sampler", "order", "steps"),
    [(by_ode, 5, (16, 32, 64)), (by_heun, 2, (64, 128, 256)), (by_dpmpp, 2, (64, 128, 256))],
)
@pytest.mark.parametrize("gamma", [-4.5, -1.0])  # nodes of the uniform grids: like first steps
def test_order_is_kept_across_the_switch(sampler, order, steps, gamma):
    model = merged(gamma)
    exact = flowed(model, basis())
    errors = [float((sampler(model, n) - exact).abs().max()) for n in steps]
    observed = [math.log2(a / b) for a, b in pairwise(errors)]
    assert observed[-1] == pytest.approx(order, abs=0.15)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("sampler", [by_ode, by_heun, by_dpmpp])
def test_covariance_is_that_of_the_merged_flow(sampler):
    model = merged()
    legs = model.legs(toward="data")
    start = _core.sigma_squared(legs[0].start)
    maps = [z.view(4, 4) for z in (sampler(model, 400), flowed(model, basis()))]
    found, exact = (start * z.T @ z for z in maps)
    # 400 steps of a method of order 2: its errors there are 2e-5 (the test above).
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4 if sampler is not by_ode else 1e-9)


def test_nodes_of_a_grid_do_not_crowd_at_the_switch():
    # gamma_eta on a node of the uniform grid but for rounding: no step of an ulp, no evaluation more.
    model = merged(gamma=-8.0 + 14.0 * 0.3)
    network = Network(CPU, torch.float64)
    by_dpmpp(model, 10, network)
    assert sum(network.calls.values()) == 10


def test_quality_expert_alone_goes_on_to_no_noise_as_edm_does():
    network = Network(CPU, torch.float64)
    legs = as_model(QUALITY, role="quality").legs(toward="data")
    heuns(legs, network, 18)
    assert network.calls["quality"] == 35
    zero = MergedModel(LIKELIHOOD, QUALITY, Threshold.eta(0.0)).legs(toward="data")
    heuns(zero, network, 18)
    assert network.calls["quality"] == 70
    network = Network(CPU, torch.float64)
    heuns(merged().legs(toward="data"), network, 18)
    assert sum(network.calls.values()) == 2 * 18  # 17 steps and one more for the switch


@pytest.mark.parametrize("steps", [7, 64])
def test_ancestral_law_is_its_recursion_of_variances(steps):
    model = MergedModel(
        GaussianExpert(SHAPE, variance=0.1, gamma_range=(-8.0, 4.0)),
        GaussianExpert(SHAPE, variance=0.4, gamma_range=(-7.0, 6.0)),
        Threshold.gamma(-1.3),
    )
    legs = model.legs(toward="data")
    # The gain of the start and of every step's noise, one at a time.
    ones, zeros = torch.ones(1, *SHAPE, dtype=torch.float64), torch.zeros(1, *SHAPE, dtype=torch.float64)
    gammas = grids.nodes(Ancestral(steps), legs[0].start, legs[-1].end)
    gains = [ancestral(ones, legs, Network(CPU, torch.float64), lambda _: zeros, gammas)]
    for only in range(steps):
        noise = lambda number, only=only: ones if number == only else zeros  # noqa: E731
        gains.append(ancestral(zeros, legs, Network(CPU, torch.float64), noise, gammas))
    found = sum(float(gain[0, 0, 0, 0]) ** 2 for gain in gains)
    expected = 1.0
    gammas = np.linspace(6.0, -8.0, steps + 1)
    for t, s in pairwise(gammas):
        s2 = 0.1 if t <= -1.3 else 0.4
        alpha, sigma = (lambda g: 1 / math.sqrt(1 + math.exp(g))), (lambda g: 1 / math.sqrt(1 + math.exp(-g)))
        c = -math.expm1(s - t)
        v = alpha(t) ** 2 * s2 + sigma(t) ** 2
        # eps_hat = sigma z/v, and the kernel's own mean and variance.
        gain = alpha(s) / alpha(t) * (1 - c * sigma(t) ** 2 / v)
        expected = gain**2 * expected + sigma(s) ** 2 * c
    assert found == pytest.approx(expected, rel=1e-10)


def test_ancestral_law_tends_to_its_limit():
    # V(end) = v(end) + c^2 (V(start) - v(start)), c = alpha(start)/alpha(end) v(end)/v(start), leg by leg.
    likelihood = GaussianExpert(SHAPE, variance=0.1, gamma_range=(-8.0, 4.0))
    quality = GaussianExpert(SHAPE, variance=0.4, gamma_range=(-7.0, 6.0))
    legs = MergedModel(likelihood, quality, Threshold.gamma(-1.3)).legs(toward="data")
    limit = 1.0
    for leg in legs:
        v0, v1 = (float(leg.expert.noised_variance(g)[0, 0]) for g in (leg.start, leg.end))
        c = _core.alpha(leg.start) / _core.alpha(leg.end) * v1 / v0
        limit = v1 + c**2 * (limit - v0)

    def variance(steps):
        v = 1.0
        gammas = np.linspace(legs[0].start, legs[-1].end, steps + 1)
        for t, s in pairwise(gammas):
            step = Coefficients.of(t, s)
            variance_t = float(in_charge(legs, t).expert.noised_variance(t)[0, 0])
            gain = step.scale * (1 - step.shrink * _core.sigma(t) / variance_t)
            v = gain**2 * v + step.std**2
        return v

    errors = [abs(variance(n) / limit - 1) for n in (500, 2000, 8000)]
    assert errors[-1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)  # first order in 1/T


def test_drawn_start_has_the_variance_that_a_likelihood_ends_with():
    expert = GaussianExpert((1, 16, 16), variance=0.3, gamma_range=(-8.0, 1.0))
    found = draw(
        expert, np.arange(64), latents=True, sampler=Dpmpp2m(steps=64), machine=Machine(dtype="float64")
    )
    v0, v1 = (float(expert.noised_variance(g)[0, 0]) for g in (1.0, -8.0))
    expected = _core.sigma_squared(1.0) * v1 / v0
    n = found.latents.size
    assert found.latents.var() == pytest.approx(expected, rel=5 * math.sqrt(2 / n) + 1e-3)


@pytest.mark.parametrize(("s_min", "s_max"), [(0.0, math.inf), (0.1, 5.0), (0.0, 5.0), (1.0, math.inf)])
def test_churn_is_in_every_step_of_heun_also_the_first_and_the_last(s_min, s_max):
    """Against algorithm 2 of Karras et al. 2022 in its own letters, for a Gaussian of variance 0.3."""
    variance, steps, churn, s_noise = 0.3, 6, 20.0, 1.01
    low, high = 0.002, 80.0
    expert = GaussianExpert(SHAPE, variance=variance, gamma_range=(2 * math.log(low), 2 * math.log(high)))
    drawn = np.random.default_rng(5).standard_normal((steps + 1, 3, *SHAPE))

    def denoised(x, t):
        return x * variance / (variance + t**2)

    i = np.arange(steps)
    rho = 7
    t = np.append((high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0)
    gammas = np.where((s_min <= t[:-1]) & (t[:-1] <= s_max), min(churn / steps, 2**0.5 - 1), 0.0)
    x = drawn[-1] * high
    for i in range(steps):
        hat = t[i] + gammas[i] * t[i]
        x_hat = x + np.sqrt(hat**2 - t[i] ** 2) * s_noise * drawn[i]
        d = (x_hat - denoised(x_hat, hat)) / hat
        x = x_hat + (t[i + 1] - hat) * d
        if t[i + 1] != 0:
            d_next = (x - denoised(x, t[i + 1])) / t[i + 1]
            x = x_hat + (t[i + 1] - hat) * (d / 2 + d_next / 2)

    legs = as_model(expert, role="quality").legs(toward="data")
    found = heun(
        torch.from_numpy(drawn[-1] * high) * _core.alpha(2 * math.log(high)),
        legs,
        Network(CPU, torch.float64),
        lambda number: torch.from_numpy(drawn[number]),
        laid(Heun(steps), legs),
        steps=steps,
        s_churn=churn,
        s_min=s_min,
        s_max=s_max,
        s_noise=s_noise,
    )
    # float64; s is gone through exp and log of gamma, at |gamma| < 14: a few 1e-15 of x, below 1e3.
    np.testing.assert_allclose(found.numpy(), x, rtol=1e-11, atol=1e-12)
