"""The scan in gamma: spikes of a known size are found where they are, and smooth experts have none."""

import math

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.catalogue.entries import known
from merged_diffusion.experts.gamma_scan import scan_gamma
from merged_diffusion.experts.spikes import (
    FLOOR,
    MARGIN,
    MOST,
    REACH,
    STEP,
    TOGETHER,
    Along,
    GammaScan,
    Spike,
    n_points,
)
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.ode.machine import Machine
from merged_diffusion.scores.inputs import examples
from merged_diffusion.scores.prepared import ready

LOW, HIGH, SHAPE = -10.0, 5.0, (1, 4, 4)
DIM = math.prod(SHAPE)
PLACE = Machine(device="cpu", dtype="float64").here(lambda _: 16)
SINGLE = Machine(device="cpu", dtype="float32").here(lambda _: 64)
IMAGE = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, SHAPE))
SIGMAS = 1 / math.sqrt(8 * math.log(2))  # of a Gaussian bump, over its full width at half of its height


class Spiked(torch.nn.Module):
    """eps_hat of a Gaussian of variance 0.1, and a bump in gamma times z."""

    name, levels, image_shape, conditional, pixels = "spiked", 256, SHAPE, False, "centred"
    gamma_range = (LOW, HIGH)

    def __init__(self, height, width, *at):
        super().__init__()
        self.height, self.width, self.at = height, width * SIGMAS, at
        self.eval()

    def forward(self, z, gamma, cond=None):
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        bumps = sum(self.height * torch.exp(-0.5 * ((gamma - at) / self.width) ** 2) for at in self.at)
        out = square.sqrt() * z / (0.1 * (1 - square) + square)
        return out if not self.at else out + bumps.to(z.dtype).view(-1, 1, 1, 1) * z

    @property
    def bits_per_dim(self):
        """What the trace of one bump at gamma far above 0 comes to: sigma = 1, d values of height each."""
        return self.height * self.width * math.sqrt(2 * math.pi) / (2 * math.log(2))


def scanned(expert, image=IMAGE, place=PLACE, rows=None):
    with ready([expert], place):
        return scan_gamma(expert, image, device=place.device, dtype=place.dtype, rows=rows or place.rows)


@pytest.mark.parametrize("width", [0.03, 0.1, 0.2])
def test_a_spike_is_found_where_it_is_and_as_large_as_it_is(width):
    expert = Spiked(0.05 / width, width, 4.0)
    spike, *others = scanned(expert).spikes
    assert not others
    assert abs(spike.gamma - 4.0) <= STEP / 2 + 1e-3
    # The sum over a bump of 0.03 is right to 6 % (`STEP`); of one of 0.2, 0.18 off its neighbours have
    # exp(-2.2) of the height, so that 4/3 of that is missing. The path's part, r eps_hat, is the trace's
    # here: q is 1 of a value, and eps_hat^2 at gamma = 4 a chi-square of 16 degrees, 1 +- 0.35.
    trace = expert.bits_per_dim * math.sqrt(1 / (1 + math.exp(-4.0)))
    assert 0.7 * trace < spike.bits_per_dim < 4 * trace
    assert width / 2 < spike.width < 2 * max(width, STEP)


def test_smooth_experts_have_none_and_the_size_is_that_of_a_fourth_derivative():
    found = scanned(Spiked(0.0, 1.0))
    assert found.spikes == ()
    # eps_hat of a Gaussian bends over one unit of gamma: h^4 f'''' / 6 with h = 0.18 is below 2e-4.
    assert found.largest < 2e-4


def test_all_are_told_and_those_that_no_leg_meets_are_left_out():
    found = scanned(Spiked(1.0, 0.1, -2.0, 1.0, 4.0))
    assert sorted(round(spike.gamma, 1) for spike in found.spikes) == [-2.0, 1.0, 4.0]
    assert [round(spike.gamma, 1) for spike in found.over(0.0, 2.0).spikes] == [1.0]
    assert len(found.over(-2.0 + MARGIN / 2, HIGH).spikes) == 3
    assert found.over(-9.0, -5.0).words("spiked") is None
    words = found.over(LOW, HIGH).words("spiked")
    assert "expert spiked changes within about" in words
    assert "at 2 other gammas" in words
    assert "--h-max" in words


def test_larger_spikes_that_no_leg_meets_hide_none_that_one_does():
    """Ten below gamma = 0, one of them just outside of what is asked: what they leave beside is none."""
    below = Spiked(10.0, 0.05, *np.arange(-9.0, 0.0), -0.4)
    assert len(scanned(below).spikes) == 10
    assert scanned(below).over(0.0, HIGH).spikes == ()

    class Both(Spiked):
        def forward(self, z, gamma, cond=None):
            return super().forward(z, gamma) + small(z, gamma) - smooth(z, gamma)

    small, smooth = Spiked(1.0, 0.05, 0.3, 3.0), Spiked(0.0, 1.0)
    alone = scanned(small).over(0.0, HIGH).spikes
    found = scanned(Both(10.0, 0.05, *below.at)).over(0.0, HIGH).spikes
    assert sorted(round(spike.gamma, 1) for spike in found) == [0.3, 3.0]
    by_gamma = {round(spike.gamma, 1): spike.bits_per_dim for spike in alone}
    # One ten times as large at 0.7 of gamma less ends 0.3 before it: the other's own, to a tenth.
    assert {round(s.gamma, 1): s.bits_per_dim for s in found} == pytest.approx(by_gamma, rel=0.1)


def test_at_most_eight_apart_are_told_and_all_are_known():
    many = scanned(Spiked(10.0, 0.05, *np.arange(-9.0, 4.0)))
    assert len(many.spikes) == 13
    told = many.over(LOW, HIGH)
    assert len(told.spikes) == MOST
    assert "at 7 other gammas" in told.words("spiked")
    beside = scanned(Spiked(10.0, 0.05, 0.0, 0.5))
    assert len(beside.spikes) == 2
    assert len(beside.over(LOW, HIGH).spikes) == 1
    assert beside.over(0.2, HIGH).spikes[0].gamma == pytest.approx(0.5, abs=STEP)


def test_small_ones_that_add_up_are_told_together():
    many = scanned(Spiked(0.025, 0.1, -0.7, 0.9, 2.5, 4.1))
    sizes = [spike.bits_per_dim for spike in many.spikes]
    assert len(sizes) == 4
    assert max(sizes) < FLOOR
    assert sum(sizes) > TOGETHER
    told = many.over(LOW, HIGH)
    assert len(told.spikes) == 4
    assert told.over(LOW, HIGH) == told
    assert f"and at 3 other gammas, which steps may pass over: about {sum(sizes):.2g} bits" in told.words("s")
    lot = GammaScan(0.0, 0.0, tuple(Spike(float(gamma), 0.1, 0.0012) for gamma in range(-9, 5)))
    assert len(lot.over(LOW, HIGH).spikes) == MOST
    assert "about 0.017 bits/dim" in lot.over(LOW, HIGH).words("lot")
    assert lot.over(LOW, HIGH).over(LOW, HIGH) == lot.over(LOW, HIGH)
    assert many.over(2.0, HIGH).spikes == ()


def scan_of(gamma, eps_hat, q):
    """Of all rows at once."""
    along = Along(len(gamma))
    along.add(eps_hat)
    return along.scan(gamma, q)


def test_a_few_rows_at_a_time_tell_what_all_of_them_do_and_few_are_held():
    rng = np.random.default_rng(0)
    gamma = np.linspace(LOW, HIGH, n_points(LOW, HIGH))
    bump = np.exp(-0.5 * ((gamma - 1.0) / 0.03) ** 2)
    eps_hat, q = (1 + bump)[:, None] * rng.normal(size=DIM), DIM * bump
    whole = scan_of(gamma, eps_hat, q)
    assert [round(spike.gamma, 1) for spike in whole.spikes] == [1.0]
    for size in (1, 7, 30, 499):
        along = Along(len(gamma))
        for first in range(0, len(gamma), size):
            along.add(eps_hat[first : first + size])
            assert len(along._held) <= 4 * REACH + size
        assert along.scan(gamma, q) == whole


@pytest.mark.parametrize("at", [LOW + 0.15, HIGH - 0.15])
def test_a_spike_near_an_end_is_found(at):
    assert len(scanned(Spiked(50.0, 0.05, at)).spikes) == 1


def test_rows_of_a_call_change_nothing_but_last_digits():
    expert = Spiked(1.0, 0.1, 1.0)
    assert scanned(expert, rows=1) == scanned(expert, rows=7) == scanned(expert)


def test_a_cubic_in_gamma_is_nothing_and_what_is_not_finite_is_left_out():
    gamma = np.arange(n_points(LOW, HIGH)) * STEP + LOW
    cubic = (gamma / 10) ** 3 - gamma
    values = np.stack([cubic, 2 - cubic], axis=1)
    assert scan_of(gamma, values, cubic).largest < 1e-12
    values[100] = np.nan
    assert scan_of(gamma, values, cubic).largest < 1e-12


def test_the_bundled_pairs_are_what_the_catalogue_says():
    expert = md.load_expert("bundled:digits-vdm")
    image = md.load_data("digits").select(limit=1)
    stated = known()["expert"]["digits-vdm"]["scanned"]
    found = scanned(expert, torch.from_numpy(examples(image)[0]), SINGLE)
    assert weights_sha256(expert) == stated["weights_sha256"]
    assert found.largest == pytest.approx(stated["largest"], rel=0.05)  # float32 elsewhere
    assert found.largest < FLOOR / 2
    assert found.over(*expert.gamma_range).spikes == ()


class Waves(Spiked):
    """Rough in z at all gammas."""

    def forward(self, z, gamma, cond=None):
        return super().forward(z, gamma) + 0.02 * torch.sin(60 * z)


def test_an_expert_that_is_rough_everywhere_has_no_spike_and_one_in_it_is_told():
    found = scanned(Waves(0.0, 1.0))
    assert found.largest > FLOOR
    assert found.spikes == ()
    assert round(scanned(Waves(30.0, 0.05, 2.0)).spikes[0].gamma, 1) == 2.0
