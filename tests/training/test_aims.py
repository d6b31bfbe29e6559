"""Equation 9: each named weight against its own formula, laws against their densities, what is learned."""

import math

import numpy as np
import pytest
import torch
from tests.bound.gaussian_terms import gaussian_diffusion

from merged_diffusion.bound import terms
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import alpha, edm_sigma, per_image, sigma
from merged_diffusion.training.aims import Aim, eps_errors
from merged_diffusion.training.gamma_laws import Pieces, Uniform, spread_times
from merged_diffusion.training.importance import CELLS, LEAST_ROWS, LossByCell
from merged_diffusion.training.learned_ends import LearnedEnds, ends_of, prior_nats, reconstruction_nats
from merged_diffusion.training.loss_weights import NAMES, Numbers, named
from merged_diffusion.training.objectives import quality_loss

RANGE = (-9.0, 6.0)
NUMBERS = Numbers(data_std=0.7, p_mean=-1.0, p_std=1.3, sigmoid_bias=1.5, p2_power=0.7, snr_cap=3.0)
TINY = {"type": "mlp", "width": 8, "blocks": 1, "dropout": 0.0}
VDM_UNET = {
    "architecture": "vdm-unet",
    "embedding_dim": 8,
    "n_blocks": 1,
    "norm_groups": 4,
    "dropout_prob": 0.0,
}
DDPMPP = {
    "architecture": "ddpmpp", "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1,
    "attn_resolutions": [], "dropout": 0.0, "augment_dim": 9, "label_dim": 3,
}  # fmt: skip


def made(kind, network=None, size=4):
    shape = {"image_shape": (3, size, size), "levels": 256, "gamma_range": RANGE}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "edm":
            expert = EdmExpert("e", network or TINY, data_std=0.7, **shape)
        else:
            periods = (2,) if network is None else ()
            expert = VdmExpert("v", network or TINY, periods=periods, **shape)
        for p in expert.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
    return expert.double().eval()


def rows(n=6, size=4):
    generator = torch.Generator().manual_seed(1)
    x, eps = torch.randn(2, n, 3, size, size, dtype=torch.float64, generator=generator)
    return x.clamp(-1, 1), eps


def published(name, x, eps, gamma, eps_hat):
    """The published loss in its own words, from eps_hat alone; what it is over our share of it."""
    at = [per_image(v, x) for v in (alpha(gamma), sigma(gamma), edm_sigma(gamma))]
    a, sd, s = at
    z = a * x + sd * eps
    x_hat = (z - sd * eps_hat) / a
    snr = (a / sd) ** 2
    if name == "uniform":  # the bound in x: 1/2 SNR |x - x_hat|^2 dgamma over the width
        return snr * (x - x_hat) ** 2
    if name == "edm":  # F of D = c_skip y + c_out F
        r2 = s**2 + 0.49
        y = x + s * eps
        f, f_hat = ((v - 0.49 / r2 * y) / (s * 0.7 / r2.sqrt()) for v in (x, x_hat))
        return (f - f_hat) ** 2
    if name == "simple":
        return (eps - eps_hat) ** 2
    if name == "sigmoid":  # in x: e^b sigmoid(log SNR - b)
        return math.exp(1.5) * torch.sigmoid(snr.log() - 1.5) * (x - x_hat) ** 2
    if name == "p2":
        return (eps - eps_hat) ** 2 / (1 + snr) ** 0.7
    if name == "min-snr":  # in v, v = alpha eps - sigma x
        v, v_hat = a * eps - sd * x, a * eps_hat - sd * x_hat
        return snr.clamp(max=3.0) / (snr + 1) * (v - v_hat) ** 2
    t = s / (1 + s)  # x_t = (1 - t) x + t eps, of which u = eps - x; eps_hat and x_hat at the same x_t
    return ((eps - x) - (eps_hat - x_hat)) ** 2 + 0 * t


@pytest.mark.parametrize("kind", ["vdm", "edm"])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_weight_is_that_of_its_published_formula(name, kind):
    expert = made(kind)
    x, eps = rows()
    weight = named(name, RANGE, NUMBERS)
    aim = Aim.of(weight, RANGE)
    told = aim.draw(len(x), torch.Generator().manual_seed(3))
    ours, _ = aim.losses(expert, x, eps, told)
    z = per_image(alpha(told.gamma), x) * x + per_image(sigma(told.gamma), x) * eps
    theirs = published(name, x, eps, told.gamma, expert(z, told.gamma))
    parameters = list(expert.parameters())
    for one, other in zip(
        torch.autograd.grad(ours.mean(), parameters),
        torch.autograd.grad(theirs.mean(), parameters),
        strict=True,
    ):
        # x_hat loses digits at low noise: 1/SNR = 1e-4 of 1e-16, squared weights 1e4.
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("network", [VDM_UNET, DDPMPP])
def test_full_size_networks_have_the_same_losses(network):
    kind = "vdm" if network is VDM_UNET else "edm"
    expert = made(kind, network)
    x, eps = rows()
    gamma = torch.linspace(-8, 5, 6).double()
    z = per_image(alpha(gamma), x) * x + per_image(sigma(gamma), x) * eps
    direct = (expert(z, gamma) - eps).square().flatten(1).mean(1)
    torch.testing.assert_close(eps_errors(expert, x, eps, gamma), direct, rtol=1e-9, atol=0)


def test_edm_s_share_makes_the_loss_of_f():
    expert, (x, eps) = made("edm"), rows()
    aim = Aim.of(named("edm", RANGE, NUMBERS), RANGE)
    told = aim.draw(6, torch.Generator().manual_seed(2))
    losses, _ = aim.losses(expert, x, eps, told)
    torch.testing.assert_close(losses.mean(), quality_loss(expert, x, eps, told.gamma))


def integral(values, gamma):
    return float(torch.trapezoid(values, gamma))


@pytest.mark.parametrize("name", NAMES)
def test_a_law_has_its_density_and_its_quantiles(name):
    law = named(name, RANGE, NUMBERS).law
    # Twelve standard deviations of gamma on either side of EDM's law; the others end with the range.
    low, high = (-2 - 12 * 2.6, -2 + 12 * 2.6) if name == "edm" else RANGE
    gamma = torch.linspace(low, high, 40_001).double()
    assert integral(law.density(gamma), gamma) == pytest.approx(1, abs=1e-6)
    for t in (0.03, 0.5, 0.9):
        below = torch.linspace(low, float(law.quantile(torch.tensor([t]).double())), 40_001).double()
        assert integral(law.density(below), below) == pytest.approx(t, abs=1e-6)


def test_a_share_that_is_uniform_is_part_of_the_law():
    law = named("edm", RANGE, Numbers(p_uniform=0.25)).law
    gamma = law.quantile(spread_times(torch.tensor(0.3).double(), 4000))
    # Of the uniform quarter a third lies below -4; of the normal rest (ln s, mean -1.2, sd 1.2) a share.
    below = 0.25 / 3 + 0.75 * 0.5 * (1 + math.erf((-2 + 1.2) / 1.2 / math.sqrt(2)))
    assert float((gamma < -4).double().mean()) == pytest.approx(below, abs=2 / 4000)


@pytest.mark.parametrize("name", NAMES)
def test_the_law_changes_no_mean(name):
    """w/p l averaged over p is the same under the published law, a uniform one and a learned one."""
    weight = named(name, RANGE, NUMBERS)
    profile = LossByCell(weight, RANGE)
    generator = torch.Generator().manual_seed(5)
    seen = RANGE[0] + 15 * torch.rand(4000, dtype=torch.float64, generator=generator)
    profile.learn(seen, torch.sigmoid(-seen))

    def loss(gamma):  # of a smooth denoiser, and nothing outside the range, which EDM's law leaves
        inside = (gamma > RANGE[0]) & (gamma < RANGE[1])
        return torch.sigmoid(-gamma) * (1.5 + torch.sin(gamma)) * inside

    n = 200_000
    times = spread_times(torch.tensor(0.5).double(), n)
    found = []
    for law in (weight.law, Uniform(RANGE), profile.law()):
        gamma = law.quantile(times)
        found.append(float((weight.under(law, gamma) * loss(gamma)).mean()))
    assert found[1] == pytest.approx(found[0], rel=2e-4)
    assert found[2] == pytest.approx(found[0], rel=2e-4)


@pytest.mark.parametrize("sampling", ["published", "importance"])
def test_times_are_spread_over_the_whole_batch(sampling):
    """Each of n slices of a law's probability has one gamma, and rows on devices are a cut of them."""
    aim = Aim.of(named("simple", RANGE), RANGE, sampling=sampling)
    seen = torch.linspace(*RANGE, 4000).double()
    if aim.profile is not None:
        aim.profile.learn(seen, torch.sigmoid(-seen))
    told = aim.draw(64, torch.Generator().manual_seed(0))
    fine = torch.linspace(*RANGE, 200_001).double()
    probability = torch.cumulative_trapezoid(aim.law().density(fine), fine)
    place = probability[torch.searchsorted(fine, told.gamma).clamp(max=len(probability) - 1)].sort().values
    torch.testing.assert_close(place.diff(), torch.full((63,), 1 / 64).double(), rtol=0, atol=1e-4)
    devices = [told.rows(torch.arange(first, first + 16)).gamma for first in range(0, 64, 16)]
    assert torch.equal(torch.cat(devices), told.gamma)


def test_importance_starts_uniform_and_goes_where_the_loss_is():
    weight = named("uniform", RANGE)
    profile = LossByCell(weight, RANGE)
    seen = RANGE[0] + 15 * (torch.arange(CELLS * LEAST_ROWS).double() + 0.5) / (CELLS * LEAST_ROWS)
    profile.learn(seen[:-1], torch.ones(len(seen) - 1))
    assert torch.equal(profile.law().shares, torch.full((CELLS,), 1 / CELLS).double())
    profile.learn(seen[-1:], torch.ones(1))
    wanted = torch.where(seen < 0, 4.0, 1.0)
    profile.learn(seen, wanted)
    shares = profile.law().shares
    # The first rows count alike: mean squares (1 + 16)/2 and 1, roots sqrt 8.5 and 1; a tenth is uniform.
    ratio = (shares[0] - 0.1 / CELLS) / (shares[-1] - 0.1 / CELLS)
    assert float(ratio) == pytest.approx(math.sqrt(8.5), rel=1e-12)
    assert float(shares.sum()) == pytest.approx(1)


def test_a_profile_goes_on_from_its_snapshot():
    weight = named("uniform", RANGE)
    one, other = LossByCell(weight, RANGE), LossByCell(weight, RANGE)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(2, 256, dtype=torch.float64, generator=generator) for _ in range(8)]
    for number, (t, error) in enumerate(batches):
        if number == 4:
            other.load(one.state())
        for profile in (one, other) if number >= 4 else (one,):
            profile.learn(RANGE[0] + 15 * t, error)
    assert torch.equal(one.law().shares, other.law().shares)


def test_pieces_meet_their_shares():
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125]).double()
    law = Pieces((0.0, 4.0), shares)
    gamma = law.quantile(spread_times(torch.tensor(0.0).double() + 1e-3, 800))
    counts = torch.histc(gamma, 4, 0, 4)
    torch.testing.assert_close(counts, 800 * shares)


# What a row is told beside its noise.


def test_a_class_is_left_out_of_its_share_of_rows_and_labels_reach_the_network():
    expert, (x, eps) = made("edm", DDPMPP), rows()
    aim = Aim.of(named("edm", RANGE, NUMBERS), RANGE, label_dropout=0.3, augment=0.5)
    many = aim.draw(40_000, torch.Generator().manual_seed(0))
    assert abs(float(many.dropped.double().mean()) - 0.3) < 5 * math.sqrt(0.21 / 40_000)
    told = aim.draw(6, torch.Generator().manual_seed(4))
    cond = torch.tensor([0, 1, 2, 0, 1, 2])
    losses, _ = aim.losses(expert, x, eps, told, cond)
    for row in range(6):
        one = torch.tensor([row])
        label = -1 if told.dropped[row] else int(cond[row])
        plain = Aim.of(named("edm", RANGE, NUMBERS), RANGE, augment=0.5)
        alone, _ = plain.losses(expert, x[one], eps[one], told.rows(one), torch.tensor([label]))
        torch.testing.assert_close(alone[0], losses[row])
    assert any(told.dropped)
    assert not all(told.dropped)


# Learned ends.


def test_learned_ends_give_the_terms_of_the_bound():
    """Prior and reconstruction against `bound.terms`, which are held by closed forms."""
    levels = 16
    v = torch.randint(0, levels, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    x = 2 * (v.double() + 0.5) / levels - 1
    flat = x.flatten(1).numpy()
    prior = prior_nats(x, torch.tensor(1.3)).numpy() * 16
    np.testing.assert_allclose(prior, terms.prior(flat, float(np.float32(1.3))), rtol=1e-12)
    noise = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gamma_min = torch.tensor(-5.0).double()
    found = reconstruction_nats(x, noise, gamma_min, levels, torch.zeros(3).double()) * 16
    pixels = v.flatten(1).numpy().astype(np.uint8)
    expected = terms.reconstruction(flat, pixels, noise.numpy(), -5.0, levels)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_some_values_of_an_image_stand_for_all():
    """Of 48 values 12 at equal distances from a random start: each with probability one quarter."""
    x = (2 * (torch.arange(48).double() + 0.5) / 64 - 1).view(1, 3, 4, 4)
    gamma_min = torch.tensor(-4.0).double()
    noise = torch.zeros(1, 12)
    starts = (torch.arange(48).double() + 0.5) / 48
    parts = [float(reconstruction_nats(x, noise, gamma_min, 64, s.view(1))) for s in starts]
    whole = float(reconstruction_nats(x, torch.zeros(1, 48), gamma_min, 64, torch.zeros(1).double()))
    assert np.mean(parts) == pytest.approx(whole, rel=1e-12)


def test_the_ends_follow_the_gradient_of_the_bound():
    """Of Gaussian data and its exact expert the bound is known: its derivatives in both ends, too."""
    variance, levels = 0.3, 32

    class Exact(VdmExpert):
        def forward(self, z, gamma, cond=None):
            v = alpha(gamma) ** 2 * variance + sigma(gamma) ** 2
            return z * per_image(sigma(gamma) / v, z)

    expert = Exact("v", TINY, image_shape=(3, 8, 8), levels=levels, gamma_range=(-2.0, 1.0), periods=(1,))
    expert.add_module("ends", LearnedEnds((-2.0, 1.0)))
    aim = Aim.of(named("uniform", (-2.0, 1.0)), (-2.0, 1.0), learns_ends=True)
    n = 600
    generator = torch.Generator().manual_seed(0)
    x = math.sqrt(variance) * torch.randn(n, 3, 8, 8, generator=generator)
    x = (2 * ((x.clamp(-1, 1 - 1e-6) + 1) / 2 * levels).floor() + 1) / levels - 1
    eps = torch.randn(n, 3, 8, 8, generator=generator)
    ends = expert.ends
    found = []
    for rows_ in torch.arange(n).split(50):
        losses, _ = aim.losses(expert, x[rows_], eps[rows_], aim.draw(50, generator))
        found.append(torch.stack(torch.autograd.grad(losses.mean(), [ends.b, ends.w])))
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / math.sqrt(len(found))

    def bound(b, w):  # nats per value, reconstruction by quadrature over the noise
        flat = x[:64].flatten(1).numpy().astype(float)
        mean, spread = np.zeros(192), np.full(192, variance)
        diffusion = gaussian_diffusion(flat, mean, spread, b, b + w).mean() / 192
        prior = terms.prior(flat, b + w).mean() / 192
        noise, weights = np.polynomial.hermite_e.hermegauss(40)
        pixels = ((flat[:1, :64] + 1) * levels / 2 - 0.5).round().astype(np.uint8)
        recon = sum(
            weight * terms.reconstruction(flat[:1, :64], pixels, np.full((1, 64), z), b, levels)[0]
            for z, weight in zip(noise, weights / weights.sum(), strict=True)
        )
        return diffusion + prior + recon / 64

    h = 1e-3
    expected_b = (bound(-2 + h, 3) - bound(-2 - h, 3)) / (2 * h)
    expected_w = (bound(-2, 3 + h) - bound(-2, 3 - h)) / (2 * h)
    for got, spread, wanted in zip(mean, error, (expected_b, expected_w), strict=True):
        assert float(spread) < 0.005  # each term's own derivative is about 0.3: they nearly cancel here
        assert abs(float(got) - wanted) < 4.5 * float(spread)
    assert ends_of(ends.b.detach(), ends.w.detach()) == (-2.0, 1.0)
