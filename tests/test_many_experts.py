"""Three experts and more: closed forms under switches and under a gate, who is asked where, and refusals."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from merged_diffusion import (
    Dopri5,
    Gate,
    GaussianExpert,
    Machine,
    MergedModel,
    Ode,
    Probes,
    Settings,
    SimplexGate,
    Threshold,
    draw,
    gate_toml,
    load_gate,
    log_likelihood,
    variational_bound,
)  # fmt: skip
from merged_diffusion.bound import random_numbers
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import ExpertError, MergedDiffusionError, UsageError
from merged_diffusion.experts.blend import Blend
from merged_diffusion.experts.gaussian import merged_log_density
from merged_diffusion.experts.suiting import first_gammas
from merged_diffusion.legs import Leg
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import as_model
from merged_diffusion.roles import roles_of
from merged_diffusion.sampling.heun import heun
from merged_diffusion.soft_gate import digests

SHAPE = (1, 2, 3)
DIM = 6
LOW, HIGH = -8.0, 6.0
DOUBLE = Machine(dtype="float64")
TIGHT = Dopri5(rtol=1e-9, atol=1e-9)
FIRST, THIRD = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
# Knots 1.4 apart: the first alone, the first two, all, the last two, the last alone.
MIDDLE = ((0.6, 0.4, 0.0), (0.5, 0.3, 0.2), (0.1, 0.5, 0.4), (0.0, 0.3, 0.7))
ROWS = (*[FIRST] * 5, *MIDDLE, *[THIRD] * 4)
GATE = SimplexGate(LOW, HIGH, ROWS)
SWITCHES = (-3.0, 1.5)


def covariances():
    random = np.random.default_rng(3)
    turns = [np.linalg.qr(random.normal(size=(DIM, DIM)))[0] for _ in range(3)]
    return [
        q @ np.diag(np.linspace(0.05, most, DIM)) @ q.T
        for q, most in zip(turns, (0.8, 0.5, 0.3), strict=True)
    ]


def three():
    ranges = ((LOW, 5.0), (-6.0, 5.0), (-5.0, HIGH))
    return [
        GaussianExpert(SHAPE, covariance=torch.as_tensor(s), gamma_range=ends, levels=16, name=f"g{i}")
        for i, (s, ends) in enumerate(zip(covariances(), ranges, strict=True))
    ]


def points(n=3):
    return 0.5 * np.random.default_rng(1).normal(size=(n, *SHAPE))


def images(n=4):
    pixels = np.random.default_rng(2).integers(0, 16, (n, *SHAPE)).astype(np.uint8)
    return make_data("some", "test", pixels, 16)


def scored(model, x, solver=TIGHT):
    options = Options(dequantise="none", solver=solver, probes=Probes(kind="exact"), machine=DOUBLE)
    return score_points(as_model(model), x, options).log_density_nats


def sigma2(gamma):
    return 1 / (1 + np.exp(-gamma))


def flow(gate, start, end):
    """The fundamental matrix [d, d] of the linear flow under a gate, and the integral of its trace."""
    dense = covariances()

    def slope(gamma, state):
        s, shares = sigma2(gamma), gate(gamma)
        parts = [w * np.linalg.inv((1 - s) * c + s * np.eye(DIM)) for w, c in zip(shares, dense, strict=True)]
        a = 0.5 * s * (sum(parts) - np.eye(DIM))
        return np.append((a @ state[:-1].reshape(DIM, DIM)).ravel(), np.trace(a))

    state = np.append(np.eye(DIM).ravel(), 0.0)
    for a, b in pairwise([start, *(k for k in gate.knots if start < k < end), end]):
        state = solve_ivp(slope, (a, b), state, rtol=1e-12, atol=1e-12, method="DOP853").y[:, -1]
    return state[:-1].reshape(DIM, DIM), state[-1]


def test_shares_lie_on_the_simplex_and_bend_smoothly():
    gamma = np.linspace(LOW, HIGH, 100001)
    w = GATE(gamma)
    assert w.min() == 0
    # Four products and sums of numbers below 1, each rounded to half an ulp.
    assert np.abs(w.sum(1) - 1).max() < 1e-14
    # Third derivatives are at most about 1 here; from one difference of 1.4e-4 to the next w'' moves by less.
    step = gamma[1] - gamma[0]
    assert np.abs(np.diff(w, 3, axis=0)).max() / step**2 < 5e-4
    assert np.abs(GATE(torch.as_tensor(gamma)).numpy() - w).max() < 1e-15


def test_three_experts_under_switches_have_the_closed_form():
    model = MergedModel.of(three(), SWITCHES)
    assert [leg.role for leg in model.legs()] == ["likelihood", "expert-2", "quality"]
    x = points()
    z = torch.as_tensor(np.sqrt(1 - sigma2(LOW)) * x)
    legs = [(leg.expert, leg.start, leg.end) for leg in model.legs()]
    exact = merged_log_density(z, legs).numpy()
    assert np.abs(scored(model, x) - exact).max() / (DIM * np.log(2)) < 1e-6


def test_three_experts_under_a_gate_have_the_density_of_a_matrix_ode():
    model = MergedModel.of(three(), gate=GATE)
    assert [leg.role for leg in model.legs()] == [
        "likelihood", "likelihood+expert-2", "likelihood+expert-2+quality", "expert-2+quality", "quality",
    ]  # fmt: skip
    assert [leg.soft for leg in model.legs()] == [True] * 4 + [False]
    matrix, total = flow(GATE, LOW, HIGH)
    x = points()
    z = np.sqrt(1 - sigma2(LOW)) * x.reshape(-1, DIM) @ matrix.T
    exact = -0.5 * (DIM * np.log(2 * np.pi * sigma2(HIGH)) + (z**2).sum(1) / sigma2(HIGH)) + total
    assert np.abs(scored(model, x) - exact).max() / (DIM * np.log(2)) < 1e-6


def test_joints_of_a_gate_of_three_restart_nothing():
    """Against the same mixture on one leg: four landings, no start, and the same number."""
    dense = covariances()
    experts = [
        GaussianExpert(SHAPE, covariance=torch.as_tensor(c), gamma_range=(LOW, HIGH), levels=16, name=f"g{i}")
        for i, c in enumerate(dense)
    ]
    model = MergedModel.of(experts, gate=GATE)
    assert len(model.legs()) == 5
    alone = as_model(Blend(experts, GATE))
    joined, single = (log_likelihood(one, images(), machine=DOUBLE) for one in (model, alone))
    # Landing shortens a step of 25, by half on average; starts anew at two of the four joints take 4 more.
    assert joined.tally["evaluations"] / 4 <= single.tally["evaluations"] / 4 + 3
    assert np.abs(joined.bits_per_dim - single.bits_per_dim).max() < 5e-2


def test_samples_under_a_gate_of_three_are_the_flow_of_their_noise():
    drawn = draw(
        MergedModel.of(three(), gate=GATE), range(3), sampler=Ode(TIGHT), latents=True, machine=DOUBLE
    )
    matrix, _ = flow(GATE, LOW, HIGH)
    # A Gaussian of variance 1 has one at every gamma, so its flow stands still: z_min is the noise at HIGH.
    still = as_model(GaussianExpert(SHAPE, variance=1.0, gamma_range=(LOW, HIGH), levels=16))
    noise = draw(still, range(3), sampler=Ode(TIGHT), latents=True, machine=DOUBLE).latents
    again = drawn.latents.reshape(3, DIM) @ matrix.T
    assert np.abs(again - noise.reshape(3, DIM)).max() < 1e-6


def test_the_bound_of_three_is_made_of_the_losses_of_those_in_charge():
    data, gated = images(), MergedModel.of(three(), gate=GATE)
    found = variational_bound(gated, data, times=8, profile=True, machine=DOUBLE)
    single = MergedModel.of(three(), SWITCHES)
    hard = variational_bound(single, data, times=8, profile=True, machine=DOUBLE)
    x = pixel_values(data.images, 16).reshape(len(data), -1)
    dense = covariances()
    for bound, shares in ((found, GATE), (hard, lambda g: np.eye(3)[np.searchsorted(SWITCHES, g)])):
        for row, record in enumerate(bound.records):
            gammas, losses = (np.array(record.profile[key][0]) for key in ("gamma", "loss"))
            eps = np.empty((8, DIM))
            ids = np.full(8, data.ids[row], dtype=np.uint64)
            random_numbers.diffusion_noise(eps, 0, ids, random_numbers.time_draws(0, np.arange(8)))
            for gamma, noise, loss in zip(gammas, eps, losses, strict=True):
                s = sigma2(gamma)
                z = np.sqrt(1 - s) * x[row] + np.sqrt(s) * noise
                each = [np.sqrt(s) * np.linalg.solve((1 - s) * c + s * np.eye(DIM), z) for c in dense]
                eps_hat = sum(w * e for w, e in zip(shares(gamma), each, strict=True))
                # 1e-6 bits/dim of the diffusion term, 14/2 times the mean loss.
                assert 7 * abs(((noise - eps_hat) ** 2).sum() - loss) / (DIM * np.log(2)) < 1e-6


def test_two_experts_of_a_list_are_the_pair_bit_for_bit():
    likelihood, _, quality = three()
    data = images()
    pair = log_likelihood(MergedModel(likelihood, quality, Threshold.gamma(-1.0)), data, dequantise="decoder")
    listed = log_likelihood(MergedModel.of([likelihood, quality], [-1.0]), data, dequantise="decoder")
    assert np.array_equal(pair.bits_per_dim, listed.bits_per_dim)
    between = log_likelihood(MergedModel.of(three(), [-1.0, -1.0]), data, dequantise="decoder")
    assert np.array_equal(pair.bits_per_dim, between.bits_per_dim)


def test_a_gate_of_one_expert_is_that_expert_bit_for_bit():
    experts = [GaussianExpert(SHAPE, variance=v, gamma_range=(LOW, HIGH), levels=16) for v in (0.2, 0.4, 0.3)]
    data = images()
    for number, expert in enumerate(experts):
        gate = SimplexGate(LOW, HIGH, (tuple(np.eye(3)[number]),) * 7)
        one = log_likelihood(MergedModel.of(experts, gate=gate), data, dequantise="decoder")
        assert np.array_equal(
            one.bits_per_dim, log_likelihood(expert, data, dequantise="decoder").bits_per_dim
        )


def test_evaluations_are_told_by_role():
    found = log_likelihood(MergedModel.of(three(), gate=GATE), images(), dequantise="decoder")
    assert set(found.evaluations) == {"likelihood", "expert-2", "quality"}
    assert all((counts > 0).all() for counts in found.evaluations.values())
    # Each leg counts for each of its experts, so together they are more than the flow's.
    assert sum(counts.sum() for counts in found.evaluations.values()) > found.tally["evaluations"]
    assert found.summary().evaluations["total"] == pytest.approx(
        sum(counts.mean() for counts in found.evaluations.values())
    )


def test_the_card_of_a_gate_of_three(tmp_path):
    told = SimplexGate(
        LOW, HIGH, GATE.coefficients, seen=frozenset(digests(images().images)),
        experts={"likelihood": "a" * 64, "expert-2": None, "quality": "b" * 64}, about={"n": 3},
    )  # fmt: skip
    card = tmp_path / "three.toml"
    card.write_text(gate_toml(told))
    again = load_gate(card)
    assert again == told
    assert again.sha256 == told.sha256
    assert (again.seen, again.experts, again.about) == (told.seen, told.experts, told.about)
    with pytest.raises(UsageError, match="4 of these 4 images"):
        log_likelihood(MergedModel.of(three(), gate=again), images(), dequantise="decoder")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MergedModel.of(three()[:1], []), "1 experts"),
        (lambda: MergedModel.of(three(), [-3.0]), "1 gammas for 3 experts"),
        (lambda: MergedModel.of(three(), [1.5, -3.0]), "1.5"),
        (lambda: MergedModel.of(three(), [-7.0, 1.0]), "-7"),
        (lambda: MergedModel.of(three(), SWITCHES, gate=GATE), "by one gate"),
        (lambda: MergedModel.of(three()[:2], gate=GATE), "one of 3 experts"),
        (lambda: MergedModel.of(three(), gate=SimplexGate(LOW, 5.0, ROWS)), "says nothing outside"),
        (lambda: MergedModel.of(three(), gate=SimplexGate(-14.0, HIGH, ROWS)), "was trained on"),
        (lambda: SimplexGate(LOW, HIGH, ((0.5, 0.4),) * 4), "add up to 1"),
        (lambda: SimplexGate(LOW, HIGH, ((0.5, 0.5),) * 3), "at least 4"),
        (
            lambda: MergedModel.of(
                [*three()[:2], GaussianExpert((1, 3, 3), variance=1.0, levels=16)], SWITCHES
            ),
            "cannot be merged",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(make, says):
    with pytest.raises(MergedDiffusionError, match=says) as caught:
        make()
    assert isinstance(caught.value, UsageError | ExpertError | MergedDiffusionError)


def test_a_gate_of_a_pair_is_one_of_two():
    """1 - sum_j c_j I_j has the B-spline coefficients 1 - (c_0 + ... + c_m)."""
    soft = Gate(-4.0, 4.0, (0.3, 0.2, 0.1, 0.0, 0.15, 0.25))
    left = [1.0] * 3 + list(1 - np.cumsum(soft.shares))[:-1] + [0.0] * 3
    gate = SimplexGate(-4.0, 4.0, tuple((max(w, 0.0), 1 - max(w, 0.0)) for w in left))
    gamma = np.linspace(-4, 4, 50)
    assert gate.spacing == soft.spacing
    # Sums of at most six products below 1.
    assert np.abs(gate(gamma)[:, 0] - soft(gamma)).max() < 1e-14


@pytest.mark.parametrize("pair", [False, True])
def test_churn_under_a_gate_asks_whom_the_gate_asks(pair):
    """40 of 24 steps raise gamma by 0.69, over joints and above the end."""
    if pair:
        experts = [
            GaussianExpert(SHAPE, variance=0.3, gamma_range=ends).double()
            for ends in ((LOW, 5.0), (-6.0, HIGH))
        ]
        gate = Gate(-4.0, 3.0)
        model = MergedModel(*experts, gate=gate)
    else:
        same = [GaussianExpert(SHAPE, variance=0.3, gamma_range=(LOW, HIGH)).double() for _ in range(3)]
        # A B-spline of the second alone at the end: above it the shares of a cubic would leave [0, 1].
        gate = SimplexGate(
            LOW, HIGH, (*[(0.9, 0.1, 0.0)] * 4, *[(0.0, 0.0, 1.0)] * 4, *[(0.2, 0.8, 0.0)] * 4)
        )
        experts, model = same, MergedModel.of(same, gate=gate)
    legs, seen = model.legs("data"), []
    order = roles_of(len(experts))

    def network(leg, z, gamma):
        at = torch.full((len(z),), gamma, dtype=torch.float64)
        shares = np.asarray(gate.each(at)[0])
        seen.append((gamma, sum(shares[order.index(role)] for role in leg.roles)))
        return leg.expert(z, at)

    def noise(number):
        return torch.as_tensor(np.random.default_rng(number).normal(size=(2, *SHAPE)))

    def drawn(legs, grid, ask):
        return heun(noise(99), legs, ask, noise, grid, steps=24, s_churn=40.0)

    grid = [np.linspace(leg.start, leg.end, 13) for leg in legs]
    found = drawn(legs, grid, network)
    assert max(gamma for gamma, _ in seen) > legs[0].start
    # Four products and sums of numbers below 1, for each expert.
    assert all(abs(share - 1) < 1e-14 for _, share in seen)
    alone = Leg(experts[0], legs[-1].role, legs[0].start, legs[-1].end)
    whole = [np.concatenate([each[int(place > 0) :] for place, each in enumerate(grid)])]
    single = drawn(
        [alone], whole, lambda leg, z, gamma: leg.expert(z, torch.full((len(z),), gamma, dtype=torch.float64))
    )
    # Shares that add up to 1 within 1e-14, in as many steps as there are.
    assert torch.allclose(found, single, rtol=0, atol=1e-11)


def ranged(*ranges):
    return [GaussianExpert(SHAPE, variance=0.3, gamma_range=ends) for ends in ranges]


@pytest.mark.parametrize(
    ("ranges", "with_a_leg"),
    [
        (((-13.0, 5.0), (-12.0, -8.0), (-6.0, 8.0)), 2),
        (((-13.0, 5.0), (-13.0, -8.0), (-6.0, 8.0)), 2),
        (((-8.0, 5.0), (-8.0, 5.0), (-8.0, 5.0)), 3),
        (((-8.0, 0.0), (-7.0, 3.0), (-6.0, 2.0), (1.0, 5.0)), 4),
    ],
)
def test_first_gammas_are_a_model_of_as_many_experts_as_can_be(ranges, with_a_leg):
    experts = ranged(*ranges)
    legs = MergedModel.of(experts, first_gammas(experts)).legs()
    assert len(legs) == with_a_leg
    assert (legs[0].start, legs[-1].end) == (ranges[0][0], ranges[-1][1])


def test_experts_that_cannot_follow_each_other_have_no_gammas():
    with pytest.raises(UsageError, match="no thresholds lead through"):
        first_gammas(ranged((-8.0, -2.0), (0.0, 3.0), (-3.0, 1.0), (2.0, 6.0)))


def test_a_gamma_near_an_end_is_that_end_as_a_pairs_is():
    experts = ranged((-13.3, 8.764), (-12.43, 8.764), (-12.43, 8.764))
    model = MergedModel.of(experts, [-12.43003, 8.76398])
    assert [(leg.role, leg.start, leg.end) for leg in model.legs()] == [
        ("likelihood", -13.3, -12.43), ("expert-2", -12.43, 8.764),
    ]  # fmt: skip
    assert "-12.4300300 taken as -12.43" in model.snapped
    assert "8.7639800 taken as 8.764" in model.snapped
    assert MergedModel.of(experts, [-12.43, 0.0]).snapped is None
    assert MergedModel.of(experts, [-12.4, 0.0]).snapped is None


@pytest.mark.parametrize("gammas", ["-6,1", "any", 3.0, ("a", "b")])
def test_gammas_that_are_no_numbers_are_refused(gammas):
    with pytest.raises(UsageError, match="are no numbers"):
        Settings(data="digits", experts=("a", "b", "c"), gammas=gammas)


def test_gammas_of_a_list_are_those_of_a_tuple():
    assert Settings(data="digits", experts=("a", "b", "c"), gammas=[-6, 1]).gammas == (-6.0, 1.0)
    with pytest.raises(UsageError, match="3 --gammas for 3 experts"):
        Settings(data="digits", experts=("a", "b", "c"), gammas=[-6, 1, 2])
