"""Two experts under a gate: closed forms, the ends of the gate, and what is asked of whom."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from merged_diffusion import (
    Adams,
    Dopri5,
    Gate,
    GaussianExpert,
    Guided,
    Machine,
    MergedModel,
    Ode,
    Probes,
    Threshold,
    draw,
    gate_toml,
    load_gate,
    log_likelihood,
    variational_bound,
)  # fmt: skip
from merged_diffusion.bound import random_numbers
from merged_diffusion.data.images import make_data, pixel_values
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.experts.blend import Blend
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import as_model
from merged_diffusion.soft_gate import digests

SHAPE = (1, 2, 4)
DIM = 8
LOW, HIGH = -8.0, 6.0
GATE = Gate(-6.0, 3.0, (0.3, 0.0, 0.2, 0.1, 0.0, 0.1, 0.3))
DOUBLE = Machine(dtype="float64")
TIGHT = Dopri5(rtol=1e-9, atol=1e-9)


def diagonal(spread, low, high, name):
    std = torch.linspace(0.3, spread, DIM, dtype=torch.float64).reshape(SHAPE)
    return GaussianExpert(SHAPE, variance=std**2, gamma_range=(low, high), name=name, levels=16)


def pair(low=LOW, high=HIGH):
    return diagonal(0.9, low, 4.0, "l"), diagonal(0.5, -7.0, high, "q")


def points(n=3):
    return 0.5 * np.random.default_rng(1).normal(size=(n, *SHAPE))


def images(n=4):
    return make_data(
        "some", "test", np.random.default_rng(2).integers(0, 16, (n, *SHAPE)).astype(np.uint8), 16
    )


def scored(model, x, solver=TIGHT):
    options = Options(dequantise="none", solver=solver, probes=Probes(kind="exact"), machine=DOUBLE)
    return score_points(as_model(model), x, options)


def sigma2(gamma):
    return 1 / (1 + np.exp(-gamma))


def rate(gamma, gate, one, two):
    """The flow's linear drift a(gamma) [d], dz/dgamma = a z, by the variances of two diagonal Gaussians."""
    s = sigma2(gamma)
    w = float(gate(gamma))
    return 0.5 * s * (w / ((1 - s) * one + s) + (1 - w) / ((1 - s) * two + s) - 1)


def growth(gate, start, end):
    """The integral of the drift's rates [d] from one gamma to another."""
    one, two = (np.linspace(0.3, spread, DIM) ** 2 for spread in (0.9, 0.5))
    ends = [start, *(knot for knot in gate.knots if start < knot < end), end]
    return sum(
        np.array([quad(lambda g, i=i: rate(g, gate, one, two)[i], a, b, epsabs=1e-13)[0] for i in range(DIM)])
        for a, b in pairwise(ends)
    )


def test_a_gate_is_one_then_falls_to_nothing_and_bends_smoothly():
    gamma = np.linspace(-7, 4, 100001)
    w = GATE(gamma)
    assert (w[gamma <= -6.0] == 1).all()
    assert (w[gamma >= 3.0] == 0).all()
    assert (np.diff(w) <= 0).all()
    assert w[(gamma > -5.9) & (gamma < 2.9)].min() > 0
    # w''' is at most about 1 here (c = 0.3, h = 1): from one difference of 1.1e-4 to the next w''
    # moves by no more than 1.1e-4, and by rounding, 8 ulp(1)/1.2e-8 = 1.5e-7.
    step = gamma[1] - gamma[0]
    assert np.abs(np.diff(w, 3)).max() / step**2 < 5e-4
    as_tensor = GATE(torch.as_tensor(gamma)).numpy()
    assert np.abs(as_tensor - w).max() < 1e-15


def test_likelihood_under_a_gate_is_the_closed_form_of_two_diagonal_gaussians():
    x = points()
    total = growth(GATE, LOW, HIGH)
    z = x.reshape(-1, DIM) * np.sqrt(1 - sigma2(LOW)) * np.exp(total)
    exact = -0.5 * (DIM * np.log(2 * np.pi * sigma2(HIGH)) + (z**2).sum(1) / sigma2(HIGH)) + total.sum()
    model = MergedModel(*pair(), gate=GATE)
    bits = (scored(model, x).log_density_nats - exact) / (DIM * np.log(2))
    assert np.abs(bits).max() < 1e-6
    # The default tolerance: 3e-3 a step in units of the noise; its path's error counts to second order.
    adams = (scored(model, x, Adams()).log_density_nats - exact) / (DIM * np.log(2))
    assert np.abs(adams).max() < 3e-3


def test_likelihood_under_a_gate_is_that_of_a_matrix_ode_where_covariances_do_not_commute():
    random = np.random.default_rng(3)
    turns = [np.linalg.qr(random.normal(size=(DIM, DIM)))[0] for _ in range(2)]
    one, two = (q @ np.diag(np.linspace(0.05, 0.8, DIM)) @ q.T for q in turns)
    experts = [
        GaussianExpert(SHAPE, covariance=torch.as_tensor(s), gamma_range=ends, levels=16)
        for s, ends in ((one, (LOW, 4.0)), (two, (-7.0, HIGH)))
    ]

    def drift(gamma):
        s, w = sigma2(gamma), float(GATE(gamma))
        parts = [np.linalg.inv((1 - s) * c + s * np.eye(DIM)) for c in (one, two)]
        return 0.5 * s * (w * parts[0] + (1 - w) * parts[1] - np.eye(DIM))

    def slope(gamma, state):
        a = drift(gamma)
        return np.append((a @ state[:-1].reshape(DIM, DIM)).ravel(), np.trace(a))

    state = np.append(np.eye(DIM).ravel(), 0.0)
    ends = [LOW, *GATE.knots, HIGH]
    for a, b in pairwise(ends):
        state = solve_ivp(slope, (a, b), state, rtol=1e-12, atol=1e-12, method="DOP853").y[:, -1]
    x = points(2)
    z = np.sqrt(1 - sigma2(LOW)) * x.reshape(-1, DIM) @ state[:-1].reshape(DIM, DIM).T
    exact = -0.5 * (DIM * np.log(2 * np.pi * sigma2(HIGH)) + (z**2).sum(1) / sigma2(HIGH)) + state[-1]
    found = scored(MergedModel(*experts, gate=GATE), x).log_density_nats
    assert np.abs(found - exact).max() / (DIM * np.log(2)) < 1e-6


def test_samples_under_a_gate_are_the_flow_of_their_noise():
    one = MergedModel(*pair(), gate=GATE)
    drawn = draw(one, range(4), sampler=Ode(TIGHT), latents=True, machine=DOUBLE)
    start = draw(as_model(diagonal(0.5, 5.999999, HIGH, "q")), range(4), sampler=Ode(TIGHT), latents=True,
                 machine=DOUBLE).latents  # fmt: skip
    # Linear and diagonal: z_min = exp(-integral) z_max, whose covariance is sigma_max^2 I.
    expected = start * np.exp(-growth(GATE, LOW, 5.999999))
    assert np.abs(drawn.latents - expected).max() < 1e-6


def test_the_bound_under_a_gate_is_made_of_the_losses_of_the_mixture():
    data, model = images(), MergedModel(*pair(), gate=GATE)
    found = variational_bound(model, data, times=8, profile=True, machine=DOUBLE)
    x = pixel_values(data.images, 16).reshape(len(data), -1)
    one, two = (np.linspace(0.3, spread, DIM) ** 2 for spread in (0.9, 0.5))
    for row, record in enumerate(found.records):
        gammas, losses = (np.array(record.profile[key][0]) for key in ("gamma", "loss"))
        eps = np.empty((8, DIM))
        ids = np.full(8, data.ids[row], dtype=np.uint64)
        random_numbers.diffusion_noise(eps, 0, ids, random_numbers.time_draws(0, np.arange(8)))
        s = sigma2(gammas)[:, None]
        z = np.sqrt(1 - s) * x[row] + np.sqrt(s) * eps
        w = GATE(gammas)[:, None]
        eps_hat = np.sqrt(s) * z * (w / ((1 - s) * one + s) + (1 - w) / ((1 - s) * two + s))
        expected = ((eps - eps_hat) ** 2).sum(1)
        # 1e-6 bits/dim of the diffusion term, 14/2 times the mean loss.
        assert 7 * np.abs(losses - expected).max() / (DIM * np.log(2)) < 1e-6


def test_a_gate_that_sharpens_becomes_the_hard_switch():
    likelihood, quality = pair()
    x = points()
    solver = Dopri5(rtol=1e-7, atol=1e-7)
    hard = scored(MergedModel(likelihood, quality, Threshold.gamma(-1.0)), x, solver).log_density_nats
    off = [
        np.abs(
            scored(
                MergedModel(likelihood, quality, gate=Gate(-1.0 - h, -1.0 + h)), x, solver
            ).log_density_nats
            - hard
        ).max()
        for h in (0.4, 0.1, 0.025)
    ]
    # A gate that is symmetric about the switch differs by O(h^2).
    assert off[1] < off[0] / 12
    assert off[2] < off[1] / 12


@pytest.mark.parametrize(("gate", "role"), [(Gate(90.0, 91.0), 0), (Gate(-91.0, -90.0), 1)])
def test_a_gate_that_is_one_expert_is_that_expert_bit_for_bit(gate, role):
    expert = pair()[role]
    one = log_likelihood(MergedModel(*pair(), gate=gate), images(), dequantise="decoder").terms_nats
    role_name = ("likelihood", "quality")[role]
    two = log_likelihood(as_model(expert, role=role_name), images(), dequantise="decoder").terms_nats
    assert all(np.array_equal(one[name], two[name]) for name in one)


class Asked:
    """An expert that notes the gammas it is asked at."""

    def __init__(self, expert):
        self._expert = expert
        self.gammas = []
        for fact in ("name", "gamma_range", "pixels", "levels", "image_shape", "conditional"):
            setattr(self, fact, getattr(expert, fact))

    def __call__(self, z, gamma, cond=None):
        self.gammas.append(gamma.numpy().copy())
        return self._expert(z, gamma, cond)


@pytest.mark.parametrize("solver", [Adams(), Dopri5(rtol=1e-4, atol=1e-4)])
def test_a_network_is_not_called_where_it_has_no_share(solver):
    likelihood, quality = map(Asked, pair())
    model = MergedModel(likelihood, quality, gate=GATE)
    with checked_once():
        log_likelihood(model, images(2), solver=solver)
        for asked in (likelihood, quality):
            asked.gammas.clear()  # those of the start check, which tells experts other clocks
        found = log_likelihood(model, images(5), solver=solver, machine=Machine(batch_size=2))
    assert np.concatenate(likelihood.gammas).max() <= GATE.end
    assert np.concatenate(quality.gammas).min() >= GATE.start
    lanes = found.tally["calls"]
    assert len(lanes) == 3
    spent = {role: int(counts.sum()) for role, counts in found.evaluations.items()}
    assert spent["likelihood"] + spent["quality"] > found.tally["evaluations"] > max(spent.values())


@pytest.mark.parametrize("solver", [Adams(), Dopri5(rtol=1e-4, atol=1e-4)])
def test_soft_joints_restart_nothing(solver):
    """Against the same mixture on one leg: two landings, no start, and the same number."""
    likelihood, quality = diagonal(0.9, LOW, HIGH, "l"), diagonal(0.5, LOW, HIGH, "q")
    joined = log_likelihood(
        MergedModel(likelihood, quality, gate=GATE), images(), solver=solver, machine=DOUBLE
    )
    alone = as_model(Blend((likelihood, quality), GATE))
    single = log_likelihood(alone, images(), solver=solver, machine=DOUBLE)
    steps = [sum(r.steps["accepted"] + r.steps["rejected"] for r in f.records) / 4 for f in (joined, single)]
    assert steps[0] <= steps[1] + 2
    calls = joined.tally["evaluations"] / 4, single.tally["evaluations"] / 4
    # dopri5 takes six evaluations a step; a start takes two more, of which there are none at a joint.
    assert calls[0] <= calls[1] + 2 * (1 if isinstance(solver, Adams) else 6)
    if not isinstance(solver, Adams):
        assert (calls[0] - 2) % 6 == 0
    assert np.abs(joined.bits_per_dim - single.bits_per_dim).max() < 5e-2


def test_probes_tell_their_error_across_soft_joints():
    model = MergedModel(*pair(), gate=GATE)
    # Of a diagonal Gaussian a Rademacher probe measures the trace exactly: what it tells of itself is the
    # bend of the trace alone, far below 1e-2 bits/dim.
    found = log_likelihood(model, images(6), machine=Machine(batch_size=2))
    errors = np.array([record.se_probe for record in found.records])
    assert np.isfinite(errors).all()
    assert errors.max() < 1e-2


def test_a_row_of_a_gated_batch_does_not_know_its_neighbours():
    model = MergedModel(*pair(), gate=GATE)
    machine = Machine(batch_size=3)
    together = log_likelihood(model, images(7), machine=machine).bits_per_dim
    apart = log_likelihood(model, images(7).select(ids=(4, 6)), machine=machine).bits_per_dim
    assert np.array_equal(together[4:6], apart)


def test_both_workspaces_carry_rows_over_soft_joints():
    model = MergedModel(*pair(), gate=GATE)
    for solver in (Adams(), Dopri5(rtol=1e-4, atol=1e-4)):
        one, two = (
            log_likelihood(model, images(5), solver=solver, machine=Machine(batch_size=2, workspace=kind))
            for kind in ("host", "torch")
        )
        # The sums of the two are taken in other orders; float32 networks give 1e-6 of eps_hat.
        assert np.abs(one.bits_per_dim - two.bits_per_dim).max() < 1e-4
        assert one.tally["evaluations"] == two.tally["evaluations"]


def test_a_gate_is_not_scored_on_the_images_that_it_was_fitted_to():
    data = images()
    seen = frozenset(digests(data.images[2:3]))
    model = MergedModel(*pair(), gate=Gate(GATE.start, GATE.end, GATE.shares, seen=seen))
    for score in (log_likelihood, variational_bound):
        with pytest.raises(UsageError, match="1 of these 4 images"):
            score(model, data)
        assert len(score(model, data[:2])) == 2


def test_a_card_says_all_of_a_gate(tmp_path):
    gate = Gate(
        -6.0, 1.1, (0.1, 0.7, 0.2), form="low-noise", seen=frozenset({"ab", "cd"}),
        experts={"likelihood": "12", "quality": None}, about={"it's": [1, None]},
    )  # fmt: skip
    card = tmp_path / "gate.toml"
    card.write_text(gate_toml(gate))
    found = load_gate(card)
    assert found == gate
    assert found.sha256 == gate.sha256
    assert (found.seen, dict(found.experts)) == (gate.seen, dict(gate.experts))
    card.write_text('kind = "vdm"')
    with pytest.raises(DataError, match="no card of a gate"):
        load_gate(card)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Gate(1.0, 1.0), "must lie above its start"),
        (lambda: Gate(0.0, 1.0, (1.5, -0.5)), "never rises"),
        (lambda: Gate(0.0, 1.0, (0.5, 0.4)), "add up to 0.9"),
        (lambda: MergedModel(*pair()), "either a threshold or a gate"),
        (lambda: MergedModel(*pair(), Threshold.eta(0.4), gate=GATE), "either a threshold or a gate"),
        (lambda: MergedModel(*pair(), gate=Gate(-7.5, 0.0)), "asks expert q from -7.5"),
        (lambda: MergedModel(*pair(), gate=Gate(-6.0, 4.5)), "asks expert l up to 4.5"),
        (lambda: MergedModel(*pair(), gate=GATE, extrapolate=True), "without extrapolate"),
    ],
)
def test_what_is_no_gate_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_a_guided_expert_that_no_leg_has_alone_marks_the_model():
    low, one, two = (GaussianExpert(SHAPE, variance=v, levels=16) for v in (0.25, 0.2, 0.3))
    guided = Guided(one, two, 3.0)
    model = MergedModel(low, guided, gate=Gate(-5.0, guided.gamma_range[1]))
    assert [leg.role for leg in model.legs()] == ["likelihood", "both"]
    assert model.guided
