"""Multistep samplers: their orders, diffusers' schedulers on the same grid, evaluations, and grids."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.samplers import Ancestral, Deis, Dpmpp2m, Dpmpp3m, Heun, Ipndm, UniPC
from merged_diffusion.sampling import grids
from merged_diffusion.sampling.multistep import (
    BASHFORTH,
    Multistep,
    exact_moments,
    method_of,
    middle,
    multistep,
)
from merged_diffusion.sampling.network import Network

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)
GENERATOR = torch.Generator().manual_seed(0)
ROTATION = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=GENERATOR))[0]
MULTISTEP = (Dpmpp2m, Dpmpp3m, UniPC, Deis, Ipndm)


def gaussian(*variances, gamma_range):
    covariance = ROTATION @ torch.diag(torch.tensor(variances, dtype=torch.float64)) @ ROTATION.T
    return GaussianExpert(SHAPE, covariance=covariance, gamma_range=gamma_range)


def halved(c, lengths):
    """As DPM-Solver++(3M) was published: half of the second moment."""
    if len(lengths) < 3:
        return middle(c, lengths)
    back = -np.cumsum([0.0, *lengths[1:]]) / lengths[0]
    moments = exact_moments(c, 3) * [1, 1, 0.5]
    return np.linalg.solve(np.vander(back, increasing=True).T, moments).tolist()


PUBLISHED_3M = Multistep("x0", 3, halved)
BASIS = torch.eye(4, dtype=torch.float64).view(4, *SHAPE)


def along(model, method, gammas, z=BASIS, network=None):
    legs = model.legs(toward="data")
    return multistep(z, legs, network or Network(CPU, torch.float64), grids.by_legs(gammas, legs), method)


def orders(model, method, grid, steps):
    """What is observed from number to number of steps, against the exact flow of all legs."""
    end = BASIS
    for leg in model.legs(toward="data"):
        end = leg.expert.flow(end, leg.start, leg.end)
    errors = [float((along(model, method, grid(n)) - end).abs().max()) for n in steps]
    finer = zip(pairwise(errors), pairwise(steps), strict=True)
    return [math.log(a / b) / math.log(q / p) for (a, b), (p, q) in finer]


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (method_of(Dpmpp2m()), 2),
        (method_of(Dpmpp3m()), 3),
        (PUBLISHED_3M, 2),
        (
            method_of(UniPC(order=2)),
            3,
        ),  # UniC raises the order of UniP by one (Zhao et al. 2023, theorem 3.1)
        (method_of(UniPC(order=3)), 4),
        (method_of(Deis(order=2)), 2),
        (method_of(Deis(order=3)), 3),
        (method_of(Ipndm()), 2),
    ],
)
def test_order_on_a_grid_of_equal_log_snr(method, order):
    # The first steps are of lower order: in the end all methods are of order 2, UniPC of 3. But at
    # gamma = 18 predictions change by exp(-18), and that error, 1e-8, lies below the others' here. The end is
    # where predictions still bend: where they do not, the leading error is the integral of a derivative.
    low, high = -1.0, 18.0
    model = as_model(gaussian(0.05, 0.2, 0.4, 0.9, gamma_range=(low, high)))
    (observed,) = orders(model, method, lambda n: grids.uniform(high, low, n), (256, 512))
    assert observed == pytest.approx(order, abs=0.2)


def test_ipndm_integrates_cubic_noise_where_distances_of_sigma_are_equal():
    for count, weights in enumerate(BASHFORTH, 1):
        for power in range(count):  # the mean of u^power over [0, 1], from values at 0, -1, -2, -3
            found = sum(weight * (-node) ** power for node, weight in enumerate(weights))
            assert found == pytest.approx(1 / (power + 1), abs=1e-14)


@pytest.mark.parametrize("sampler", [Dpmpp3m(), UniPC(order=2), UniPC(order=3), Deis(order=2), Deis(order=3)])
def test_order_two_is_what_a_switch_leaves(sampler):
    # The first step of the second leg is of order 1, UniPC's is corrected: an error of h^2, h^3 once.
    low = gaussian(0.002, 0.02, 0.4, 0.9, gamma_range=(-8.0, 4.0))
    high = gaussian(0.003, 0.015, 0.5, 0.7, gamma_range=(-7.0, 6.0))
    model = MergedModel(low, high, Threshold.gamma(-1.0))  # a node of every grid
    (observed,) = orders(model, method_of(sampler), lambda n: grids.uniform(6.0, -8.0, n), (256, 512))
    # What is predicted after it is off by h^2 in its place, which a later step takes h times: order 3.
    assert observed == pytest.approx(3 if isinstance(sampler, UniPC) else 2, abs=0.25)


def mixture(gamma_range):
    means = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return GaussianMixtureExpert(means, variance=0.05, gamma_range=gamma_range)


def by_diffusers(scheduler, expert, gammas, z):
    """A scheduler of diffusers down a grid; its tables are float32 until they are replaced."""
    alpha, sigma = (torch.from_numpy(np.asarray(of(gammas))) for of in (_core.alpha, _core.sigma))
    scheduler.set_timesteps(len(gammas) - 1)
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = sigma / alpha
    else:  # iPNDM's betas are sigma, and it is told a velocity
        scheduler.betas, scheduler.alphas = sigma, alpha
    scheduler.timesteps = torch.arange(len(gammas) - 1, 0, -1)
    scheduler.set_begin_index(0)
    for number, time in enumerate(scheduler.timesteps):
        eps_hat = expert(z, torch.full((len(z),), float(gammas[number]), dtype=torch.float64))
        told = eps_hat
        if not hasattr(scheduler, "sigmas"):
            told = (eps_hat - sigma[number] * z) / alpha[number]
        z = scheduler.step(told, time, z).prev_sample
    return z


WHOLE = {"final_sigmas_type": "sigma_min", "lower_order_final": False}


@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        ("UniPCMultistepScheduler", method_of(UniPC(order=2)), {**WHOLE, "solver_order": 2}),
        ("UniPCMultistepScheduler", method_of(UniPC(order=3)), {**WHOLE, "solver_order": 3}),
        ("DPMSolverMultistepScheduler", method_of(Dpmpp2m()), {**WHOLE, "solver_order": 2}),
        ("DPMSolverMultistepScheduler", PUBLISHED_3M, {**WHOLE, "solver_order": 3}),
        ("DEISMultistepScheduler", method_of(Deis(order=2)), {"lower_order_final": False, "solver_order": 2}),
        ("DEISMultistepScheduler", method_of(Deis(order=3)), {"lower_order_final": False, "solver_order": 3}),
        ("IPNDMScheduler", method_of(Ipndm()), {}),
    ],
)
@pytest.mark.parametrize("grid", ["logsnr", "edm", "quadratic"])
@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of numpy, in diffusers
def test_steps_are_those_of_diffusers(name, method, options, grid):
    diffusers = pytest.importorskip("diffusers")
    expert = mixture((-8.0, 8.0))
    z = torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gammas = grids.nodes(Dpmpp2m(12, sigmas=grid), 8.0, -8.0)
    theirs = by_diffusers(getattr(diffusers, name)(**options), expert, gammas, z)
    ours = along(as_model(expert), method, gammas, z)
    # DPM-Solver and DEIS round states to float32 at each of 12 steps there: 12 x 6e-8 of |z| < 4, 3e-6.
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=1e-5)


def test_second_moment_is_what_our_third_order_differs_by():
    expert = mixture((-8.0, 8.0))
    gammas = grids.uniform(8.0, -8.0, 12)
    ours, published = (along(as_model(expert), m, gammas) for m in (method_of(Dpmpp3m()), PUBLISHED_3M))
    assert float((ours - published).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", MULTISTEP)
def test_an_evaluation_is_spent_on_every_step_and_one_on_the_switch(kind):
    low = GaussianExpert(SHAPE, variance=0.1, gamma_range=(-8.0, 4.0))
    high = GaussianExpert(SHAPE, variance=0.2, gamma_range=(-7.0, 6.0))
    for model, extra in ((as_model(low), 0), (MergedModel(low, high, Threshold.gamma(-3.3)), 1)):
        network = Network(CPU, torch.float64)
        start, end = reversed(model.gamma_range)
        along(model, method_of(kind()), grids.nodes(kind(steps=9), start, end), network=network)
        assert sum(network.calls.values()) == 9 + extra


def test_exact_moments_are_means_under_an_exponential_weight():
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r, weights = (nodes + 1) / 2, weights / 2
    for c in (-9.0, -2.0, -1.9, -1e-3, 1e-9, 0.4, 2.1, 6.0):
        density = weights * np.exp(c * (1 - r))
        expected = [(density * r**k).sum() / density.sum() for k in range(4)]
        # From |c| = 2 on phi_4 divides roundings of 1e-16 by 2^3, and is 0.04 or less there: 1e-15.
        np.testing.assert_allclose(exact_moments(c, 4), expected, rtol=1e-13)


def test_words_of_a_grid_are_their_definitions():
    high, low, count = 8.0, -8.0, 9
    logsnr, edm, quadratic = (
        grids.nodes(Dpmpp2m(count - 1, sigmas=word), high, low) for word in ("logsnr", "edm", "quadratic")
    )
    np.testing.assert_allclose(np.diff(logsnr), -2.0, rtol=1e-14)
    np.testing.assert_allclose(np.diff(np.exp(edm / 14), 2), 0, atol=1e-14)
    # -2 log alpha is the integral of beta = 0.1 + 19.9 t: alpha^2 = exp(-(9.95 t^2 + 0.1 t)).
    faded = -2 * _core.log_alpha(quadratic)
    t = (np.sqrt(0.01 + 4 * 9.95 * faded) - 0.1) / (2 * 9.95)
    np.testing.assert_allclose(np.diff(np.sqrt(t), 2), 0, atol=1e-12)
    for gammas in (logsnr, edm, quadratic):
        assert (gammas[0], gammas[-1], len(gammas)) == (high, low, count)
    assert len(grids.nodes(Heun(count), high, low)) == count
    assert len(grids.nodes(Ancestral(count), high, low)) == count + 1


def test_numbers_of_a_grid_begin_and_end_with_the_model():
    ends = math.exp(4.0), math.exp(-4.0)
    found = grids.nodes(Deis(2, sigmas=(ends[0] * 1.00001, 1.0, ends[1])), 8.0, -8.0)
    np.testing.assert_allclose(found, [8.0, 0.0, -8.0], atol=1e-14)
    assert (found[0], found[-1]) == (8.0, -8.0)
    for wrong, word in (
        ((80.0, 1.0, ends[1]), "begin at 80"),
        ((ends[0], 1.0), r"end at 1 \(gamma 0.0000\)"),
    ):
        with pytest.raises(UsageError, match=word) as error:
            grids.nodes(Deis(len(wrong) - 1, sigmas=wrong), 8.0, -8.0)
        assert "from 54.59815 to 0.01831564" in str(error.value)
