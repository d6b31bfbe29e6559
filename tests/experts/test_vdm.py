"""The likelihood expert: what goes into its network, and what comes out."""

import math

import pytest
import torch

from merged_diffusion.experts.vdm import VdmExpert

TABLE = {"type": "unet", "channels": [8, 16], "dropout": 0.1}


def expert(**changes):
    torch.manual_seed(0)
    settings = {
        "image_shape": (1, 8, 8), "levels": 17, "gamma_range": (-7.876, 5.0), "periods": [1, 2],
    } | changes  # fmt: skip
    return VdmExpert("toy", TABLE, **settings).eval()


def test_untrained_expert_returns_z():
    z = torch.randn(2, 1, 8, 8)
    assert torch.equal(expert()(z, torch.tensor([-7.0, 4.0]).double()), z)


def test_network_sees_its_own_range_as_zero_to_one():
    seen = []
    toy = expert()
    toy.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    toy(torch.randn(3, 1, 8, 8), torch.tensor([-7.876, (5 - 7.876) / 2, 5.0], dtype=torch.float64))
    torch.testing.assert_close(seen[0], torch.tensor([0.0, 0.5, 1.0]))


def test_features_repeat_with_their_period_in_grey_levels():
    toy = expert().double()
    z = torch.rand(1, 1, 8, 8).double()
    gamma = torch.tensor([-7.876]).double()
    one_level, two_levels = (toy.features(z + 2 * n / 17, gamma) for n in (1, 2))
    here = toy.features(z, gamma)
    torch.testing.assert_close(one_level[:, 1:3], here[:, 1:3], rtol=0, atol=1e-5)  # period 1
    torch.testing.assert_close(one_level[:, 3:5], -here[:, 3:5], rtol=0, atol=1e-5)  # period 2, half of it
    torch.testing.assert_close(two_levels[:, 3:5], here[:, 3:5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("gamma", [-7.876, -5.0, 0.0, 5.0])
def test_features_are_damped_by_the_noise(gamma):
    toy = expert()
    at = torch.tensor([gamma]).double()
    sine, cosine = toy.features(torch.rand(1, 1, 8, 8), at)[:, 1:3].double().split(1, dim=1)
    spread = 1 / math.sqrt(1 + math.exp(-gamma))
    damping = math.exp(-((17 * math.pi * spread) ** 2) / 8)
    torch.testing.assert_close(sine**2 + cosine**2, torch.full_like(sine, damping**2), rtol=1e-4, atol=1e-12)


class Straight(torch.nn.Module):
    """What a perfect network of i-DODE's schedule SP predicts of pixels N(mean, variance).

    Of z = alpha x + sigma eps with sigma = sigmoid(gamma/2), alpha = 1 - sigma (theirs, not ours):
    E[eps | z] = sigma (z - alpha mean)/q and E[x | z] = mean + alpha variance (z - alpha mean)/q,
    q = alpha^2 variance + sigma^2.
    """

    def __init__(self, predicts, mean, variance, ends):
        super().__init__()
        self.predicts, self.mean, self.variance, self.ends = predicts, mean, variance, ends

    def forward(self, z, t):
        gamma = (self.ends[0] + t * (self.ends[1] - self.ends[0])).view(-1, 1, 1, 1)
        sigma = torch.sigmoid(gamma / 2)
        alpha = 1 - sigma
        part = (z - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        if self.predicts == "eps":
            return sigma * part
        return (sigma * part - self.mean - alpha * self.variance * part) / math.sqrt(2)


@pytest.mark.parametrize("predicts", ["eps", "velocity"])
def test_perfect_network_of_the_straight_path_gives_the_exact_noise(predicts):
    mean, variance, ends = 0.2, 0.3, (-13.3, 5.0)
    toy = expert(predicts=predicts, input="sp", gamma_range=ends).double()
    toy.model, toy.time_range = Straight(predicts, mean, variance, ends), ends
    gamma = torch.linspace(*ends, 9, dtype=torch.float64)
    z = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma2 = torch.sigmoid(gamma).view(-1, 1, 1, 1)
    alpha2 = 1 - sigma2
    exact = sigma2.sqrt() * (z - alpha2.sqrt() * mean) / (alpha2 * variance + sigma2)
    # The velocity adds sqrt(2) alpha' F to z', which cancel down to eps_hat of about sigma |z|/variance.
    torch.testing.assert_close(toy(z, gamma), exact, rtol=0, atol=1e-11)
