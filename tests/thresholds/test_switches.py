"""Thresholds of N experts: the shortest way against all ways, a planted optimum, and budgets."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch

from merged_diffusion import GaussianExpert, GaussianMixtureExpert, MergedModel, find_switches, log_likelihood
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.thresholds.shortest import cheapest, frontier, within

LOW, HIGH = -8.0, 6.0
SHAPE = (1, 2, 2)


def everything(cost, seconds):
    """(cost, seconds) of every course of experts in their order."""
    n, length = cost.shape
    for switches in combinations_with_replacement(range(length + 1), n - 1):
        ends = [0, *switches, length]
        parts = [(i, slice(ends[i], ends[i + 1])) for i in range(n)]
        yield (
            sum(cost[i, own].sum() for i, own in parts),
            sum(seconds[i, own].sum() for i, own in parts),
            switches,
        )


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_shortest_way_is_the_best_of_all(n):
    random = np.random.default_rng(n)
    cost, seconds = random.uniform(1, 2, (2, n, 9))
    cost[0, 7:] = cost[-1, :2] = np.inf
    every = [way for way in everything(cost, seconds) if np.isfinite(way[0])]
    for price in (0.0, 0.3, 1.0, 30.0):
        found = cheapest(cost, seconds, price)
        best = min(every, key=lambda way: way[0] + price * way[1])
        assert found.cost + price * found.seconds == pytest.approx(best[0] + price * best[1], abs=1e-12)
        ends = [0, *found.switches(n), 9]
        assert found.cost == pytest.approx(sum(cost[i, ends[i] : ends[i + 1]].sum() for i in range(n)))
    corners = frontier(cost, seconds)
    assert corners[0].seconds == pytest.approx(min(way[1] for way in every))
    assert corners[-1].cost == pytest.approx(min(way[0] for way in every))
    for corner in corners:
        # On the hull: nothing that takes no longer costs less.
        assert corner.cost <= min(way[0] for way in every if way[1] <= corner.seconds) + 1e-12
        kept = within(cost, seconds, corner.seconds * (1 + 1e-12))
        assert kept.cost == pytest.approx(corner.cost)
    with pytest.raises(ValueError, match="seconds, more than"):
        within(cost, seconds, 0.9 * corners[0].seconds)


class Off:
    """A mixture's eps_hat, too large by a share that is least at ``best``; ``work`` times as slow."""

    conditional = False
    pixels = "centred"

    def __init__(self, best, *, slope=0.05, ends=(LOW, HIGH), work=1, name="off"):
        means = torch.tensor([[-0.5, 0.2, 0.4, -0.1], [0.5, -0.3, 0.1, 0.3]]).reshape(2, *SHAPE)
        self.exact = GaussianMixtureExpert(means, variance=0.05, gamma_range=ends, levels=256)
        self.best, self.slope, self.work, self.name = best, slope, work, name
        self.gamma_range, self.levels, self.image_shape = self.exact.gamma_range, 256, SHAPE

    def __call__(self, z, gamma, cond=None):
        for _ in range(self.work):
            eps_hat = self.exact(z, gamma)
        return eps_hat * (1.3 + self.slope * (gamma - self.best).abs().view(-1, 1, 1, 1).to(eps_hat))


def images(n=200):
    random = np.random.default_rng(0)
    means = np.array([[-0.5, 0.2, 0.4, -0.1], [0.5, -0.3, 0.1, 0.3]])
    x = means[random.integers(0, 2, n)] + np.sqrt(0.05) * random.normal(size=(n, 4))
    pixels = np.clip(np.floor((x + 1) / 2 * 256), 0, 255).astype(np.uint8)
    return make_data("mixture", "train", pixels.reshape(n, *SHAPE), 256)


def test_planted_thresholds_of_three_experts_are_found():
    """Experts that err by shares a and b lose alike where a = b, half way at -3.5 and 1.5.

    The difference of two losses is (a - b) [(a + b) |eps_hat|^2 - 2 (eps - eps_hat) eps_hat]: at a = b it
    changes its sign whatever the images are, and nowhere else where each gamma has so many of them that the
    bracket's mean, (a + b) E |eps_hat|^2, stands out from its noise.
    """
    experts = [Off(best, name=f"o{best}") for best in (-6.0, -1.0, 4.0)]
    found = find_switches(experts, images(), visits=42, options=Options(seed=0, dequantise="decoder"))
    assert found.gammas == pytest.approx((-3.5, 1.5), abs=0.03)
    merged = MergedModel.of(experts, found.gammas)
    data = images(40)
    best = log_likelihood(merged, data, dequantise="decoder").mean
    assert all(best < log_likelihood(expert, data, dequantise="decoder").mean for expert in experts)


def test_an_expert_that_is_never_the_best_has_no_leg():
    experts = [Off(-6.0), Off(20.0), Off(4.0)]
    found = find_switches(experts, images(), visits=42, options=Options(seed=0, dequantise="decoder"))
    assert found.gammas[0] == found.gammas[1] == pytest.approx(-1.0, abs=0.03)
    assert len(MergedModel.of(experts, found.gammas).legs()) == 2


def test_a_budget_gives_the_slow_expert_less(monkeypatch):
    """The second errs more and is many times as quick: with few seconds it has more of the range."""
    slow = Off(-6.0, slope=0.03, work=40, name="slow")
    quick = Off(4.0, slope=0.05, name="quick")
    data, options = images(64), Options(seed=0, dequantise="decoder")
    free = find_switches([slow, quick], data, options=options)
    shares = [choice.gammas[0] for choice in free.choices]
    assert shares == sorted(shares)  # the longer it may take, the more the slow one has
    assert [c.bits_per_dim for c in free.choices] == sorted(
        (c.bits_per_dim for c in free.choices), reverse=True
    )
    assert free.call_seconds[0] > 4 * free.call_seconds[1]
    # Measured again on a busy machine they would have another ratio.
    monkeypatch.setattr(
        "merged_diffusion.thresholds.switches.seconds_of_calls", lambda *_: list(free.call_seconds)
    )
    half = find_switches([slow, quick], data, options=options, budget=free.chosen.seconds / 2)
    assert half.gammas[0] < free.gammas[0] - 0.1
    with pytest.raises(UsageError, match="a budget of 1e-09 seconds"):
        find_switches([slow, quick], data, options=options, budget=1e-9)


def test_gammas_that_nobody_knows_are_refused():
    experts = [Off(-6.0, ends=(LOW, -2.0)), Off(4.0, ends=(0.0, HIGH))]
    with pytest.raises(UsageError, match="no expert was trained at gamma -2 to 0"):
        find_switches(experts, images(8))


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_budget_is_a_finite_number_above_0(budget):
    with pytest.raises(UsageError, match="is no finite number above 0"):
        find_switches([], np.zeros((1, 1, 2, 2), np.uint8), budget=budget)


def test_an_expert_that_knows_none_of_the_models_gammas_has_no_leg():
    ranges = ((LOW, HIGH), (HIGH + 1, HIGH + 2), (LOW + 1, HIGH))
    experts = [GaussianExpert(SHAPE, variance=0.3, gamma_range=ends, levels=256) for ends in ranges]
    found = find_switches(experts, np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8))
    assert "expert-2" not in {leg.role for leg in MergedModel.of(experts, found.gammas).legs()}
