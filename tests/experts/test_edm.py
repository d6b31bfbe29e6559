"""The quality expert: its eps_hat against the textbook form and against exact answers."""

import pytest
import torch

from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.schedules import alpha, per_image, sigma

TABLE = {"type": "mlp", "width": 16, "blocks": 1, "dropout": 0.0}
GAMMAS = [-12.43, -6.0, 0.0, 4.0, 8.764]


def expert(data_std=0.7):
    torch.manual_seed(0)
    return EdmExpert(
        "toy", TABLE, image_shape=(1, 4, 4), levels=256, gamma_range=(-12.43, 8.764), data_std=data_std
    ).eval()


def denoised(toy, y, s):
    """D of Karras et al. 2022, table 1, in float64."""
    s_d = toy.data_std
    r2 = s**2 + s_d**2
    raw = toy.raw(y / per_image(r2.sqrt(), y), s)
    return per_image(s_d**2 / r2, y) * y + per_image(s * s_d / r2.sqrt(), y) * raw


@pytest.mark.parametrize("gamma", GAMMAS)
def test_eps_hat_is_the_textbook_form(gamma):
    toy = expert().double()
    for p in toy.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    z, at = torch.randn(3, 1, 4, 4).double(), torch.full((3,), gamma, dtype=torch.float64)
    a, b = per_image(alpha(at), z), per_image(sigma(at), z)
    textbook = (z - a * denoised(toy, z / a, (at / 2).exp())) / b
    torch.testing.assert_close(toy(z, at), textbook, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_untrained_expert_is_the_gaussian_one(gamma):
    """F = 0 is the posterior mean of N(0, s_d^2): eps_hat = sigma z/(alpha^2 s_d^2 + sigma^2)."""
    toy = expert(0.5)
    z, at = torch.randn(2, 1, 4, 4), torch.full((2,), gamma, dtype=torch.float64)
    exact = z * per_image(sigma(at) / (alpha(at) ** 2 * 0.25 + sigma(at) ** 2), z)
    torch.testing.assert_close(toy(z, at), exact)


def test_float32_keeps_its_digits_at_low_noise():
    """The form without cancellation: 3e-8 where the textbook form loses 5e-5."""
    toy = expert()
    for p in toy.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    z, at = torch.randn(4, 1, 4, 4), torch.full((4,), -13.3, dtype=torch.float64)
    single = toy(z, at)
    double = toy.double()(z.double(), at)
    assert (single - double).abs().max() < 2e-6


def test_noise_level_of_the_network_spans_zero_to_one():
    seen = []
    toy = expert()
    toy.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    toy(torch.randn(2, 1, 4, 4), torch.tensor([-12.43, 8.764]).double())
    assert seen[0].min() > -0.05
    assert seen[0].max() < 1.05
