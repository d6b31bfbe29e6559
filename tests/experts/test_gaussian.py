"""The oracles against definitions: scores by autograd, traces by Jacobians, densities by quadrature."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert, merged_log_density

SHAPE = (1, 2, 3)
DIM = 6
GAMMAS = [-13.3, -5.0, 0.0, 8.764]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(), dtype=torch.float64)


def diagonal() -> GaussianExpert:
    return GaussianExpert(SHAPE, variance=torch.linspace(0.01, 1.5, DIM).view(SHAPE), mean=0.2)


def dense() -> GaussianExpert:
    root = normal(DIM, DIM)
    return GaussianExpert(SHAPE, covariance=root @ root.T / DIM + 1e-3 * torch.eye(DIM), mean=-0.1)


def mixture() -> GaussianMixtureExpert:
    weights = torch.tensor([0.2, 0.5, 0.3])
    return GaussianMixtureExpert(0.5 * normal(3, *SHAPE), variance=0.02, weights=weights)


def images() -> GaussianMixtureExpert:
    return GaussianMixtureExpert(normal(4, *SHAPE), variance=0.0, name="images")


ORACLES = [diagonal, dense, mixture, images]


def states(gamma: float) -> tuple[Tensor, Tensor]:
    """Noised states at all scales of the clock; gamma [B]."""
    alpha, sigma = _core.alpha(gamma), _core.sigma(gamma)
    x, eps = 0.7 * normal(7, *SHAPE), normal(14, *SHAPE)[7:]
    return alpha * x + sigma * eps, torch.full((7,), gamma, dtype=torch.float64)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("oracle", ORACLES)
def test_eps_hat_is_minus_sigma_times_the_score(oracle, gamma: float) -> None:
    expert = oracle()
    z, at = states(gamma)
    z.requires_grad_()
    (score,) = torch.autograd.grad(expert.log_density(z, at).sum(), z)
    # eps_hat is as large as |z|/sigma, 1e3 at gamma = -13.3.
    torch.testing.assert_close(expert(z, at), -_core.sigma(gamma) * score, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("oracle", ORACLES)
def test_trace_is_that_of_the_jacobian(oracle, gamma: float) -> None:
    expert = oracle()
    z, at = states(gamma)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: expert(row, at[i : i + 1]).flatten(), z[i : i + 1]
        )
        exact = jacobian.view(DIM, DIM).trace()
        torch.testing.assert_close(expert.trace(z, at)[i], exact, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_density_is_the_multivariate_normal(gamma: float) -> None:
    root = normal(DIM, DIM)
    covariance = root @ root.T / DIM + 1e-3 * torch.eye(DIM, dtype=torch.float64)
    expert = GaussianExpert(SHAPE, covariance=covariance, mean=-0.1)
    alpha, variance = _core.alpha(gamma), _core.sigma_squared(gamma)
    noised = alpha**2 * covariance + variance * torch.eye(DIM, dtype=torch.float64)
    law = MultivariateNormal(torch.full((DIM,), -0.1 * alpha, dtype=torch.float64), noised)
    z, at = states(gamma)
    torch.testing.assert_close(expert.log_density(z, at), law.log_prob(z.flatten(1)), rtol=1e-11, atol=1e-9)


def test_diagonal_and_dense_agree_on_a_diagonal_covariance() -> None:
    variance = torch.linspace(0.01, 1.5, DIM, dtype=torch.float64)
    one = GaussianExpert(SHAPE, variance=variance.view(SHAPE), mean=0.3)
    other = GaussianExpert(SHAPE, covariance=variance.diag(), mean=0.3)
    for gamma in GAMMAS:
        z, at = states(gamma)
        torch.testing.assert_close(one(z, at), other(z, at), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(one.trace(z, at), other.trace(z, at), rtol=1e-13, atol=0)
        torch.testing.assert_close(one.log_density(z, at), other.log_density(z, at), rtol=1e-13, atol=1e-13)


def test_a_mixture_of_one_is_a_gaussian() -> None:
    mean = normal(1, *SHAPE)
    one = GaussianMixtureExpert(mean, variance=0.3, weights=torch.tensor([5.0]))
    other = GaussianExpert(SHAPE, variance=0.3, mean=mean[0])
    for gamma in GAMMAS:
        z, at = states(gamma)
        for f, g in [(one, other), (one.trace, other.trace), (one.log_density, other.log_density)]:
            torch.testing.assert_close(f(z, at), g(z, at), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("oracle", [mixture, images])
def test_density_of_a_mixture_integrates_to_one(oracle) -> None:
    """One coordinate, by the rule of rectangles: exact to rounding for a density this smooth."""
    source = oracle()
    means = source.get_buffer("_means").view(torch.float64)[:, :1].view(-1, 1, 1, 1)
    expert = GaussianMixtureExpert(means, variance=0.02)
    z = torch.linspace(-6, 6, 4001, dtype=torch.float64).view(-1, 1, 1, 1)
    density = expert.log_density(z, torch.full((4001,), -4.0, dtype=torch.float64)).exp()
    assert float(density.sum() * 12 / 4000) == pytest.approx(1, abs=1e-12)


def test_stored_images_are_recalled_at_low_noise() -> None:
    expert = images()
    x = expert.get_buffer("_means").view(torch.float64).view(4, *SHAPE)
    eps, at = normal(4, *SHAPE), torch.full((4,), -13.3, dtype=torch.float64)
    z = _core.alpha(-13.3) * x + _core.sigma(-13.3) * eps
    # The rounding of z, 1e-16, over sigma = 1.3e-3.
    torch.testing.assert_close(expert(z, at), eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("oracle", [diagonal, dense])
def test_flow_solves_the_probability_flow(oracle) -> None:
    """dz/dgamma = -sigma^2 z/2 + sigma eps_hat/2, by central differences of the closed form."""
    expert = oracle()
    for gamma in (-12.0, -3.0, 4.0):
        z, at = states(gamma)
        h = 1e-4
        slope = (expert.flow(z, gamma, gamma + h) - expert.flow(z, gamma, gamma - h)) / (2 * h)
        drift = -0.5 * _core.sigma_squared(gamma) * z + 0.5 * _core.sigma(gamma) * expert(z, at)
        torch.testing.assert_close(slope, drift, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("oracle", [diagonal, dense])
def test_flow_carries_the_density(oracle) -> None:
    expert = oracle()
    z, start = states(-13.3)
    end = torch.full_like(start, 8.764)
    moved = expert.flow(z, -13.3, 8.764)
    by_flow = expert.log_density(moved, end) + expert.flow_log_det(-13.3, 8.764)
    torch.testing.assert_close(by_flow, expert.log_density(z, start), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(expert.flow(moved, 8.764, -13.3), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("switch", [-12.0, -4.0, 3.0])
def test_two_merged_gaussians_are_a_gaussian(switch: float) -> None:
    """sigma^2(g_max) v_q(g_eta)/v_q(g_max) v_l(g_min)/v_l(g_eta): mathematics, section 8."""
    low, high = -13.3, 8.764
    likelihood = GaussianExpert(SHAPE, variance=torch.linspace(0.1, 1.0, DIM).view(SHAPE))
    quality = GaussianExpert(SHAPE, variance=torch.linspace(0.8, 0.05, DIM).view(SHAPE))
    v_l, v_q = likelihood.noised_variance, quality.noised_variance
    variance = _core.sigma_squared(high) * v_q(switch) / v_q(high) * v_l(low) / v_l(switch)
    z, _ = states(low)
    exact = -0.5 * (z.flatten(1).square() / variance + variance.log() + math.log(2 * math.pi)).sum(1)
    found = merged_log_density(z, [(likelihood, low, switch), (quality, switch, high)])
    torch.testing.assert_close(found, exact, rtol=1e-13, atol=1e-11)


def test_sample_has_the_law_it_names() -> None:
    expert = dense()
    at = torch.full((20_000,), -2.0, dtype=torch.float64)
    z = expert.sample(torch.randn(20_000, *SHAPE, generator=generator(), dtype=torch.float64), at)
    # E of the log density is minus the entropy; its standard error is sqrt(d/2)/sqrt(N).
    entropy = 0.5 * (expert.noised_variance(-2.0).log() + math.log(2 * math.pi) + 1).sum()
    assert float(expert.log_density(z, at).mean() + entropy) == pytest.approx(
        0, abs=4 * math.sqrt(DIM / 2 / 20_000)
    )


@pytest.mark.parametrize("oracle", ORACLES)
def test_oracles_are_experts_that_keep_dtype_and_constants(oracle) -> None:
    expert = oracle()
    assert isinstance(expert, Expert)
    assert not any(module.training for module in expert.modules())
    z, at = states(-13.3)
    exact = expert(z, at)
    expert.to(torch.float32)
    assert expert(z.float(), at).dtype == torch.float32
    assert torch.equal(expert(z, at), exact)
    # Of seven rows, as before: one row alone may be summed in another order.
    others = torch.arange(7).view(-1, 1, 1, 1) != 2
    assert torch.equal(expert(torch.where(others, -3 * z, z), at)[2], exact[2])


@pytest.mark.parametrize("oracle", ORACLES)
def test_float32_states_lose_only_their_own_rounding(oracle) -> None:
    expert = oracle()
    z, at = (values.detach() for values in states(-13.3))
    rounded = z.float()
    torch.testing.assert_close(expert(rounded, at), expert(rounded.double(), at).float(), rtol=0, atol=0)


def test_impossible_laws_are_refused() -> None:
    eye = torch.eye(DIM)
    for facts in [
        {},
        {"variance": 1.0, "covariance": eye},
        {"variance": -1.0},
        {"variance": math.nan},
        {"covariance": eye[:3]},
        {"covariance": eye + torch.eye(DIM).roll(1, 0)},
        {"covariance": -eye},
    ]:
        with pytest.raises(UsageError):
            GaussianExpert(SHAPE, **facts)
    with pytest.raises(UsageError):
        GaussianExpert(SHAPE, variance=1.0, gamma_range=(5.0, -13.3))
    with pytest.raises(UsageError, match=r"\[K, C, H, W\]"):
        GaussianMixtureExpert(torch.zeros(3, 4), variance=1.0)
    with pytest.raises(UsageError, match="weights"):
        GaussianMixtureExpert(torch.zeros(3, *SHAPE), variance=1.0, weights=torch.tensor([1.0, 0.0, 1.0]))
