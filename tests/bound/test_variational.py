"""The variational bound: closed forms of Gaussian experts, invariances, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.asked import asked
from tests.bound.gaussian_terms import gaussian_diffusion, gaussian_loss

from merged_diffusion import _core
from merged_diffusion.bound import terms, variational_bound
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.machine import Machine
from merged_diffusion.pairs import load_pair

RANGES = {"likelihood": (-7.876, 5.0), "quality": (-7.006, 8.764)}
SHAPE = (1, 2, 3)
DIM = 6
LEVELS = 17
VARIANCE = {"likelihood": 0.3, "quality": 0.6}


def gaussian_pair(eta):
    experts = {
        role: GaussianExpert(
            SHAPE, variance=VARIANCE[role], mean=0.1, gamma_range=ends, levels=LEVELS, name=role
        )
        for role, ends in RANGES.items()
    }
    return MergedModel(experts["likelihood"], experts["quality"], Threshold.eta(eta))


def images(n, seed=0):
    pixels = np.random.RandomState(seed).randint(0, LEVELS, (n, *SHAPE)).astype(np.uint8)
    return make_data("random", "test", pixels, LEVELS)


def values(data):
    return pixel_values(data.images, data.levels).reshape(len(data), -1)


def exact_diffusion(model, x):
    """[N] nats, over the legs."""
    return sum(
        gaussian_diffusion(x, np.full(DIM, 0.1), np.full(DIM, VARIANCE[leg.role]), leg.start, leg.end)
        for leg in model.legs()
    )


def test_diffusion_of_a_gaussian_is_the_integral_of_its_loss():
    x = values(images(3))
    mean, variance = np.full(DIM, 0.1), np.linspace(0.05, 1.2, DIM)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    gamma = -7.0 + 6.0 * (nodes + 1)
    losses = np.stack([gaussian_loss(x, mean, variance, g) for g in gamma], axis=1)
    integral = 0.5 * 6.0 * (losses @ weights)
    np.testing.assert_allclose(gaussian_diffusion(x, mean, variance, -7.0, 5.0), integral, rtol=1e-12)


def test_prior_is_the_divergence_from_the_standard_normal():
    x, gamma = values(images(4)), 1.3
    mean, variance = _core.alpha(gamma) * x, _core.sigma_squared(gamma)
    expected = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(axis=1)
    np.testing.assert_allclose(terms.prior(x, gamma), expected, rtol=1e-12)


def test_prior_keeps_its_digits_where_the_noise_is_all():
    zero = np.zeros((1, 1))
    # -a - log(1 - a) = a^2/2 + a^3/3 for a = alpha^2 = exp(-20)
    a = _core.alpha(20.0) ** 2
    np.testing.assert_allclose(terms.prior(zero, 20.0)[0], 0.5 * (a**2 / 2 + a**3 / 3), rtol=1e-6)


def expected_reconstruction(level, gamma, levels):
    """E[-log p(v | z)] of one pixel over its noise, by quadrature."""
    nodes = np.linspace(-9, 9, 4001)
    weights = np.exp(-(nodes**2) / 2)
    centres = 2 * (np.arange(levels) + 0.5) / levels - 1
    z = centres[level] + np.exp(gamma / 2) * nodes
    logits = -0.5 * np.exp(-gamma) * (z[:, None] - centres) ** 2
    log_p = logits[:, level] - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) - logits.max(1)
    return -(weights * log_p).sum() / weights.sum()


@pytest.mark.parametrize("eta", [0.3, 0.6])
def test_bound_meets_its_closed_form_at_100000_draws(eta):
    model, data = gaussian_pair(eta), images(500)
    found = variational_bound(
        model, data, times=50, repeats=4, machine=Machine(dtype="float64", batch_size=512)
    )
    x = values(data)
    by_level = np.array([expected_reconstruction(v, model.gamma_range[0], LEVELS) for v in range(LEVELS)])
    reconstruction = by_level[data.images.reshape(len(data), -1)].sum(axis=1)
    exact = exact_diffusion(model, x) + reconstruction + terms.prior(x, model.gamma_range[1])
    away = (found.bits_per_dim - exact / (DIM * np.log(2))).mean()
    assert abs(away) < 3 * _core.error_of_mean(found.se_times)
    for name, cost in (("diffusion", exact_diffusion(model, x)), ("reconstruction", reconstruction)):
        error = found.terms_nats[name] + cost
        assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(data)), name
    np.testing.assert_array_equal(found.terms_nats["prior"], -terms.prior(x, model.gamma_range[1]))


def test_error_of_the_times_is_what_other_seeds_show():
    model, data = gaussian_pair(0.3), images(40)
    runs = [
        variational_bound(model, data, times=64, seed=seed, machine=Machine(dtype="float64"))
        for seed in range(30)
    ]
    seen = np.stack([run.terms_nats["diffusion"] for run in runs]).std(axis=0, ddof=1) / (DIM * np.log(2))
    # The estimate is of 62 second differences, the spread of 30 runs: within a quarter, over 40 images.
    ratio = np.mean([run.se_times.mean() for run in runs]) / seen.mean()
    assert 0.75 < ratio < 1.35


def test_terms_add_up_to_the_bound():
    found = variational_bound(gaussian_pair(0.3), images(5), times=4)
    total = sum(found.terms_nats.values())
    np.testing.assert_allclose(found.bits_per_dim, -total / (DIM * np.log(2)), rtol=1e-14)


def test_a_time_at_the_threshold_is_the_likelihood_experts():
    model = gaussian_pair(0.5)
    found = variational_bound(model, images(4), times=64)
    assert found.evaluations["likelihood"].tolist() == [32] * 4
    assert found.evaluations["quality"].tolist() == [32] * 4


def test_one_expert_alone_keeps_to_its_own_range():
    expert = gaussian_pair(0.3).experts[1]
    found = variational_bound(expert, images(3), times=8, profile=True)
    gamma = np.array([record.profile["gamma"] for record in found.records])
    assert gamma.min() >= RANGES["quality"][0]
    assert gamma.max() <= RANGES["quality"][1]
    # Low discrepancy: one time in each cell.
    cells = (gamma[:, 0] - RANGES["quality"][0]) / (RANGES["quality"][1] - RANGES["quality"][0]) * 8
    assert (np.floor(cells) == np.arange(8)).all()


@pytest.fixture(scope="module")
def digits():
    from merged_diffusion.data import load_data

    return load_pair("digits", eta=0.15), load_data("digits").select(limit=24)


def test_an_image_is_unmoved_by_its_neighbours_bit_for_bit(digits):
    model, data = digits
    options = {"times": 4, "repeats": 2, "batch_size": 16}
    whole = {record.id: record for record in variational_bound(model, data, **asked(**options)).records}
    order = np.random.RandomState(1).permutation(len(data))
    shuffled = variational_bound(model, data.images[order], data.ids[order], **asked(**options))
    assert {record.id: record for record in shuffled.records} == {
        key: replace(record, cluster=None) for key, record in whole.items()
    }
    for shard in range(3):
        part = data.where(np.arange(len(data)) % 3 == shard)
        for record in variational_bound(model, part, **asked(**options)).records:
            assert record == whole[record.id]


def test_the_size_of_the_batch_moves_only_last_bits(digits):
    model, data = digits
    one, two = (
        variational_bound(model, data, times=4, machine=Machine(batch_size=rows, dtype="float64"))
        for rows in (16, 5)
    )
    np.testing.assert_allclose(one.bits_per_dim, two.bits_per_dim, rtol=1e-12)


def test_repeats_are_the_mean_of_independent_draws(digits):
    model, data = digits
    found = variational_bound(model, data, times=4, repeats=3, machine=Machine(dtype="float64"))
    draws = np.array([record.draws for record in found.records])
    assert draws.shape == (24, 3)
    np.testing.assert_allclose(found.bits_per_dim, -draws.mean(axis=1) / (64 * np.log(2)), rtol=1e-12)
    first = variational_bound(model, data, times=4, machine=Machine(dtype="float64"))
    np.testing.assert_allclose(-first.bits_per_dim * 64 * np.log(2), draws[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found.summary().repeats.mean, found.mean, rtol=1e-12)


def test_memory_that_does_not_suffice_halves_the_rows(monkeypatch):
    model, data = gaussian_pair(0.3), images(10)
    whole = variational_bound(model, data, times=4, machine=Machine(dtype="float64", batch_size=8))
    given = GaussianExpert.forward

    def small(self, z, gamma, cond=None):
        if len(z) > 4:
            raise torch.OutOfMemoryError("no room")
        return given(self, z, gamma, cond)

    monkeypatch.setattr(GaussianExpert, "forward", small)
    found = variational_bound(model, data, times=4, machine=Machine(dtype="float64", batch_size=8))
    np.testing.assert_array_equal(found.bits_per_dim, whole.bits_per_dim)
    assert found.records[0].rows == 4


class Holed(GaussianExpert):
    def forward(self, z, gamma, cond=None):
        out = super().forward(z, gamma, cond)
        return torch.where((gamma > 6).view(-1, 1, 1, 1) & (z[:, :1, :1, :1] > 0), torch.nan, out)


def test_a_loss_that_is_not_finite_fails_its_image_alone():
    expert = Holed(SHAPE, variance=0.5, gamma_range=RANGES["quality"], levels=LEVELS, name="holed")
    found = variational_bound(expert, images(40), times=16)
    failed = found.status == "nonfinite"
    assert 0 < failed.sum() < 40
    assert found.mean is None
    assert np.isfinite(found.bits_per_dim[~failed]).all()
    record = next(record for record in found.records if record.status != "ok")
    assert record.gamma > 6
    assert record.expert == "holed"
    allowed = found.allowing_failed()
    assert allowed.mean == pytest.approx(found.bits_per_dim[~failed].mean())


@pytest.mark.parametrize("name", ["times", "repeats"])
@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_counts_below_one_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} = {value}"):
        variational_bound(gaussian_pair(0.3), images(2), **asked(**{name: value}))


def test_images_of_another_kind_are_refused():
    with pytest.raises(DataError, match="grey levels"):
        variational_bound(gaussian_pair(0.3), make_data("x", "test", np.zeros((1, *SHAPE), np.uint8), 8))
