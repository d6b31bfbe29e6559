"""One pass against exact likelihoods, and planted crossings of Gaussian-mixture experts."""

import numpy as np
import pytest
import torch
from tests.asked import asked

from merged_diffusion import _core
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import ExpertError, ExpertWarning, SolveError, UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, Probes
from merged_diffusion.thresholds import confirm_threshold, find_threshold
from merged_diffusion.thresholds.one_pass import one_pass

SHAPE, LEVELS = (1, 2, 2), 256
RANGES = {"likelihood": (-13.3, 5.0), "quality": (-12.43, 8.764)}
PARTS = (-13.3, -12.43, 5.0, 8.764)
MERGED = (-13.3, 8.764)


def gaussian(role, variance, mean=0.0):
    return GaussianExpert(
        SHAPE, variance=variance, mean=mean, gamma_range=RANGES[role], levels=LEVELS, name=role
    )


def pixels(x):
    return np.clip(np.floor((x + 1) / 2 * LEVELS), 0, LEVELS - 1).astype(np.uint8)


def gaussian_images(n, std=0.3):
    x = np.random.RandomState(0).normal(scale=std, size=(n, *SHAPE))
    return make_data("gaussian", "test", pixels(x), LEVELS)


def solver(tol):
    return Options(**asked(method="adams", tol=tol, h_max=0.3, probe="exact", dtype="float64", batch_size=32))


def test_one_pass_is_the_exact_likelihood_at_every_threshold_of_gaussians():
    # A Gaussian's eps_hat is its flow's score, but for the end density N(0, sigma^2) at gamma_max.
    experts, data = (gaussian("likelihood", 0.1), gaussian("quality", 0.3, mean=0.1)), gaussian_images(24)
    gammas = np.array([-12.43, -9.0, -4.0, 0.0, 2.5, 5.0])
    settings = solver(1e-4)
    found = one_pass(experts, PARTS, data, gammas, settings)
    assert found.is_solved.all()
    for column, gamma in enumerate(gammas):
        model = MergedModel(*experts, Threshold.gamma(float(gamma)))
        exact = log_likelihood(
            model,
            data,
            solver=Adams(tol=1e-4, h_max=0.3),
            probes=Probes(kind="exact"),
            machine=Machine(dtype="float64", batch_size=32),
        )
        away = np.abs(found.bits_per_dim[:, column] - exact.bits_per_dim)
        assert away.max() < 2e-3, f"{gamma}: {away.max()}"


def test_one_pass_counts_both_experts_where_both_are_asked():
    experts, data = (gaussian("likelihood", 0.1), gaussian("quality", 0.1)), gaussian_images(8)
    calls = []

    class Counted(GaussianExpert):
        def forward(self, z, gamma, cond=None):
            calls.append(len(z))
            return super().forward(z, gamma, cond)

    counted = [
        Counted(SHAPE, variance=0.1, gamma_range=expert.gamma_range, levels=LEVELS) for expert in experts
    ]
    settings = Options(**asked(method="adams", tol=1e-2, dtype="float64", batch_size=8))
    found = one_pass(tuple(counted), PARTS, data, np.array([0.0]), settings)
    # Rows that have ended are still in the call, so the count of useful ones is at most that of all.
    assert 0.8 * sum(calls) < found.evaluations <= sum(calls)


class Blend(GaussianMixtureExpert):
    """The mixture's own eps_hat, and towards one end of gamma more and more that of another mixture."""

    other: GaussianMixtureExpert
    middle: float
    sign: float

    def forward(self, z, gamma, cond=None):
        weight = torch.sigmoid(self.sign * (gamma - self.middle) / 0.7).view(-1, 1, 1, 1).to(z)
        return super().forward(z, gamma) * (1 - weight) + weight * self.other(z, gamma)


def planted_pair(eta, seed=0):
    """Experts whose losses cross at eta: each leaves the true mixture on the other's side of it."""
    random = torch.Generator().manual_seed(seed)
    means = torch.rand((3, *SHAPE), generator=random, dtype=torch.float64) * 1.2 - 0.6
    gamma = float(_core.gamma_of_eta(eta, MERGED))
    # What is wrong must show where the crossing is: a width about the noise there.
    variance = 0.004
    wrong = GaussianMixtureExpert(0.5 * means, variance=max(4 * variance, np.exp(gamma)), levels=LEVELS)
    made = []
    for role, sign in (("likelihood", 1.0), ("quality", -1.0)):
        expert = Blend(means, variance=variance, gamma_range=RANGES[role], levels=LEVELS, name=role)
        expert.other, expert.middle, expert.sign = wrong, gamma, sign
        made.append(expert)
    x = means[torch.arange(400) % 3].numpy() + np.random.RandomState(seed).normal(
        scale=variance**0.5, size=(400, *SHAPE)
    )
    return *made, make_data("mixture", "train", pixels(x), LEVELS)


@pytest.mark.parametrize("eta", [0.15, 0.6])
def test_a_planted_crossing_is_found(eta):
    likelihood, quality, data = planted_pair(eta)
    found = find_threshold(likelihood, quality, data, machine=Machine(dtype="float64", batch_size=128))
    assert abs(found.crossing - eta) < 0.03, found.crossing
    assert abs(found.eta - eta) < 0.03, found.eta
    low, high = found.crossing_interval
    assert low - 0.005 <= eta <= high + 0.005
    low, high = found.indistinguishable
    assert low <= found.eta <= high
    assert not found.at_edge


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_finding_is_cheap_and_counted():
    likelihood, quality, data = planted_pair(0.6)
    data = data.select(limit=64)
    found = find_threshold(likelihood, quality, data, machine=Machine(dtype="float64"))
    spent = found.evaluations
    calls = found.profiles.likelihood.evaluations + found.profiles.quality.evaluations
    assert spent["profiles"] == 0.5 * calls
    assert calls / len(data) <= 2 * 8.5
    assert spent["finding"] == spent["profiles"] + spent["one_pass"]
    confirmed = confirm_threshold(likelihood, quality, data, found, Options(**asked(dtype="float64")))
    assert spent["finding"] < confirmed.evaluations["grid"] / 6
    assert confirmed.evaluations["confirming"] < confirmed.evaluations["grid"] / 3


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_confirming_scores_the_threshold_its_neighbours_and_both_experts():
    likelihood, quality, data = planted_pair(0.6)
    data = data.select(limit=16)
    found = find_threshold(likelihood, quality, data, machine=Machine(dtype="float64"))
    confirmed = confirm_threshold(likelihood, quality, data, found, Options(**asked(dtype="float64")))
    etas = [confirmed.etas[name] for name in list(confirmed.rows)[:3]]
    np.testing.assert_allclose(etas, [found.eta - 0.1, found.eta, found.eta + 0.1], atol=0.005)
    assert list(confirmed.rows)[3:] == ["likelihood", "quality"]
    name = confirmed.best
    gamma = confirmed.answer.gamma
    single = log_likelihood(
        MergedModel(likelihood, quality, Threshold.gamma(gamma)),
        data,
        machine=Machine(dtype="float64", batch_size=16),
    )
    np.testing.assert_allclose(confirmed.rows[name].bits_per_dim, single.bits_per_dim, rtol=1e-12)
    rows = {row.name: row for row in confirmed.against(confirmed.answer.name)}
    assert rows[name].paired is None
    assert rows["likelihood"].paired.to == name


def test_the_same_seed_finds_the_same_whatever_the_order():
    likelihood, quality, data = planted_pair(0.6)
    data = data.select(limit=40)
    one, two = (
        find_threshold(likelihood, quality, data, seed=3, machine=Machine(batch_size=32)) for _ in range(2)
    )
    assert one.eta == two.eta
    np.testing.assert_array_equal(one.likelihood.value, two.likelihood.value)
    np.testing.assert_array_equal(one.bound.value, two.bound.value)


def test_experts_without_common_gammas_have_no_threshold():
    one = GaussianExpert(SHAPE, variance=0.1, gamma_range=(-13.3, -5.0), levels=LEVELS, name="low")
    two = GaussianExpert(SHAPE, variance=0.1, gamma_range=(-4.0, 8.0), levels=LEVELS, name="high")
    with pytest.raises(UsageError, match="no gammas in common"):
        find_threshold(one, two, gaussian_images(4))


class Broken(GaussianExpert):
    def forward(self, z, gamma, cond=None):
        return super().forward(z, gamma, cond) / (gamma < 3).view(-1, 1, 1, 1).to(z)


def test_a_loss_that_is_not_finite_is_named():
    broken = Broken(SHAPE, variance=0.1, gamma_range=RANGES["likelihood"], levels=LEVELS, name="broken")
    with pytest.raises(SolveError, match="broken is not finite at gamma"):
        find_threshold(broken, gaussian("quality", 0.1), gaussian_images(20))


class Detached(GaussianExpert):
    """Half of its gradient is missing below gamma = -3, where no threshold leaves it alone."""

    def forward(self, z, gamma, cond=None):
        out = super().forward(z, gamma, cond)
        return torch.where((gamma < -3).view(-1, 1, 1, 1), 0.5 * out + 0.5 * out.detach(), out)


@pytest.mark.parametrize("role", ["likelihood", "quality"])
def test_a_gradient_with_a_part_missing_is_found_wherever_the_one_pass_takes_it(role):
    experts = {name: gaussian(name, 0.1) for name in RANGES}
    experts[role] = Detached(SHAPE, variance=0.1, gamma_range=RANGES[role], levels=LEVELS, name=role)
    with pytest.raises(ExpertError, match=f"expert {role} has part of its gradient missing"):
        find_threshold(*experts.values(), gaussian_images(20))
    with pytest.warns(ExpertWarning, match="part of its gradient missing"):
        find_threshold(*experts.values(), gaussian_images(20), accept=Accept(gradient=role))


class Coupled(GaussianExpert):
    """A row's answer leans a little on the others of its batch."""

    def forward(self, z, gamma, cond=None):
        found = super().forward(z, gamma, cond)
        return found + 0.02 * found.mean(0, keepdim=True)


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_experts_whose_rows_depend_on_each_other_are_taken_only_where_that_is_said():
    likelihood, data = gaussian("likelihood", 0.09), gaussian_images(8)
    quality = Coupled(SHAPE, variance=0.09, gamma_range=RANGES["quality"], levels=LEVELS, name="coupled")
    with pytest.raises(ExpertError, match="when another is in the batch"):
        find_threshold(likelihood, quality, data, solver=Adams(tol=0.1))
    options = Options(solver=Adams(tol=0.1), accept=Accept(batch_coupled=True))
    found = find_threshold(likelihood, quality, data, solver=Adams(tol=0.1), accept=options.accept)
    confirmed = confirm_threshold(likelihood, quality, data, found, options)
    assert confirmed.rows["quality"].n_failed == 0
    with pytest.raises(ExpertError, match="when another is in the batch"):
        confirm_threshold(likelihood, quality, data, found, Options(solver=Adams(tol=0.1)))
