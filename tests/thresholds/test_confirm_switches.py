"""Thresholds of N experts by exact runs: better than a bound that misleads, and budgets that hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merged_diffusion import (
    GaussianExpert,
    MergedModel,
    confirm_switches,
    find_switches,
    log_likelihood,
)
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.thresholds import confirm_switches as module
from merged_diffusion.thresholds.confirm_switches import moved
from merged_diffusion.thresholds.switches import PILOT, Choice

LOW, HIGH = -8.0, 6.0
SHAPE = (1, 2, 2)
OPTIONS = Options(seed=0, dequantise="decoder")


def images(n=48):
    x = 0.4 * np.random.default_rng(0).normal(size=(n, *SHAPE))
    pixels = np.clip(np.floor((x + 1) / 2 * 256), 0, 255).astype(np.uint8)
    return make_data("gaussian", "train", pixels, 256)


class Off:
    """The posterior mean of the Gaussian, too large by a share that is least at ``best`` and may swing."""

    conditional = False
    pixels = "centred"

    def __init__(self, best, *, swing=0.0, name="off"):
        self.exact = GaussianExpert(SHAPE, variance=0.16, gamma_range=(LOW, HIGH), levels=256)
        self.best, self.swing, self.name = best, swing, name
        self.gamma_range, self.levels, self.image_shape = self.exact.gamma_range, 256, SHAPE

    def __call__(self, z, gamma, cond=None):
        share = 1.1 + 0.05 * (gamma - self.best).abs() + self.swing * torch.sin(9 * gamma)
        return self.exact(z, gamma) * share.view(-1, 1, 1, 1).to(z)


@pytest.fixture(scope="module")
def three():
    experts = [Off(best, name=f"o{best}") for best in (-6.0, -1.0, 4.0)]
    return experts, find_switches(experts, images(), options=OPTIONS)


def test_the_best_of_what_was_tried_is_chosen_by_exact_runs(three):
    """A best led astray is left for a neighbour, and every row is what a run by itself says."""
    experts, found = three
    astray = (
        found.gammas[0] + 1.4,
        found.gammas[1],
    )  # a tenth of 14: one of the neighbours is the bound's best
    misled = replace(found, chosen=Choice(astray, found.chosen.bits_per_dim, found.chosen.seconds))
    confirmed = confirm_switches(experts, images(), misled, exact=24, options=OPTIONS)
    why = {one.gammas: one.why for one in confirmed.tried}
    assert why[astray] == "by the bound"  # tried itself, and worse than what lies near it
    assert all(why[gammas] == "moved" for gammas in moved(experts, astray))
    assert confirmed.gammas != astray
    assert confirmed.tried[0].gammas == confirmed.gammas
    values = [one.bits_per_dim.mean for one in confirmed.tried]
    assert values == sorted(values)
    some = images().select(limit=24)
    for one in confirmed.tried[:: len(confirmed.tried) - 1]:
        alone = log_likelihood(MergedModel.of(experts, one.gammas), some, dequantise="decoder", seed=0)
        # Rows of other batches differ in the last bits of float32 networks: 1e-6 of 8 bits, ten times over.
        assert one.bits_per_dim.mean == pytest.approx(alone.mean, abs=1e-4)
    best, second = (MergedModel.of(experts, one.gammas) for one in confirmed.tried[:2])
    by_hand = [log_likelihood(m, some, dequantise="decoder", seed=0).bits_per_dim for m in (second, best)]
    assert confirmed.tried[1].worse_by.difference == pytest.approx((by_hand[0] - by_hand[1]).mean(), abs=1e-4)


def test_a_best_of_the_bound_that_is_best_is_what_is_confirmed(three):
    """What lies a tenth of the gammas beside it is worse, so it has to have been solved itself."""
    experts, found = three
    confirmed = confirm_switches(experts, images(), found, exact=24, options=OPTIONS)
    assert confirmed.gammas == found.gammas
    assert confirmed.tried[0].why == "by the bound"
    assert confirmed.tried[0].bits_per_dim is not None
    assert confirmed.n_pilot == PILOT < 24


def test_neighbours_push_each_other_and_stay_within_the_range(three):
    experts, _ = three
    wanted = [(-2.4, 0.0), (0.4, 0.4), (-1.4, -1.4), (-1.0, 1.4)]
    assert moved(experts, (-1.0, 0.0)) == [pytest.approx(one) for one in wanted]
    assert all(LOW <= one[0] <= one[1] <= HIGH for one in moved(experts, (LOW + 0.1, HIGH - 0.1)))


@pytest.fixture
def priced(monkeypatch):
    """Seconds by the evaluations of a pilot: the first expert's calls take ten times the second's."""

    def spent(*arguments):
        _, slow, quick = real(*arguments)
        return [slow + 0.1 * quick, slow, quick]

    real = module.spent
    monkeypatch.setattr(module, "spent", spent)


def test_a_budget_holds_though_the_quick_expert_takes_smaller_steps(priced):
    """What swings takes smaller steps, which a price by call does not see: pilots do, and that holds."""
    experts = [Off(-6.0, name="slow"), Off(4.0, swing=0.05, name="quick")]
    data = images()
    found = find_switches(experts, data, options=OPTIONS)
    free = confirm_switches(experts, data, found, exact=16, options=OPTIONS)
    budget = 0.7 * free.tried[0].seconds
    confirmed = confirm_switches(experts, data, found, exact=16, budget=budget, options=OPTIONS)
    pilot = data.select(limit=confirmed.n_pilot)
    for one in confirmed.tried:
        run = log_likelihood(MergedModel.of(experts, one.gammas), pilot, dequantise="decoder", seed=0)
        took = run.evaluations["likelihood"].mean() + 0.1 * run.evaluations["quality"].mean()
        # A step more or less of one image in float32 of another number of rows: 2 of 40 evaluations.
        assert one.seconds == pytest.approx(took, rel=0.05)
        assert (one.bits_per_dim is None) == (one.seconds > budget)
    assert confirmed.tried[0].seconds <= budget < free.tried[0].seconds
    within = [one for one in confirmed.tried if one.bits_per_dim is not None]
    assert min(one.bits_per_dim.mean for one in within) == confirmed.tried[0].bits_per_dim.mean


def test_where_nothing_keeps_the_budget_the_quickest_is_told(three):
    experts, found = three
    with pytest.raises(
        UsageError, match=r"a budget of 1e-09 seconds an image: of \d+ choices .* the quickest"
    ):
        confirm_switches(experts, images(8), found, budget=1e-9, options=OPTIONS)


def test_exact_runs_on_no_image_are_refused(three):
    experts, found = three
    with pytest.raises(UsageError, match="exact = 0 images"):
        confirm_switches(experts, images(8), found, exact=0, options=OPTIONS)


def test_courses_without_an_expert_are_the_bounds_best_of_the_others(three):
    experts, found = three
    without_middle = found.without[1]
    two = find_switches([experts[0], experts[2]], images(), options=OPTIONS)
    assert without_middle.gammas[0] == without_middle.gammas[1] == pytest.approx(two.gammas[0], abs=1e-9)
    assert without_middle.bits_per_dim == pytest.approx(two.chosen.bits_per_dim, abs=1e-9)
