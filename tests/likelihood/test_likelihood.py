"""The likelihood: exact answers, invariances, and what becomes of faults."""

import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tests.asked import asked

from merged_diffusion import _core
from merged_diffusion.data import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import (
    DataError,
    ExpertError,
    ResourceError,
    SolveError,
    UsageError,
)
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert, merged_log_density
from merged_diffusion.likelihood import (
    Likelihood,
    log_density,
    log_likelihood,
    paired_difference,
    scoring,
)
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Machine, Place
from merged_diffusion.ode.methods import Adams, Dopri5, Probes, solver_of
from merged_diffusion.ode.probes import make_directions
from merged_diffusion.pairs import load_pair
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.usual_rows import scoring_rows

TIGHT = {"dtype": "float64", "rtol": 1e-8, "atol": 1e-8}
QUICK = {"rtol": 1e-3, "atol": 1e-3}
ENDS = [("host", "per-image"), ("host", "shared"), ("torch", "per-image"), ("torch", "shared")]
BITS = math.log(2)


def pair(shape, *, gamma_max=8.764, eta=0.4, **covariances):
    """Two Gaussian experts on the paper's ranges."""
    first, second = ({"variance": 0.25}, {"variance": 0.3})
    if covariances:
        (name,) = covariances
        first, second = ({name: value} for value in covariances[name])
    return MergedModel(
        GaussianExpert(shape, gamma_range=(-13.3, 5.0), name="fine", **first),
        GaussianExpert(shape, gamma_range=(-12.43, gamma_max), name="coarse", **second),
        Threshold.eta(eta),
    )


def closed_form(model, x):
    """log p(z_min) [N] of points x of the model's space."""
    z = torch.from_numpy(x * _core.alpha(model.gamma_range[0]))
    return merged_log_density(z, [(leg.expert, leg.start, leg.end) for leg in model.legs()]).numpy()


def images_of(n, shape, levels=256, seed=0):
    return np.random.default_rng(seed).integers(0, levels, (n, *shape)).astype(np.uint8)


def small():
    """A one-leg model of 1x2x2 images of 4 levels, cheap and exact under Rademacher probes."""
    return GaussianExpert((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4, name="small")


SMALL = images_of(6, (1, 2, 2), levels=4)


# ---- exact answers


@pytest.mark.parametrize("gamma_max", [8.764, 5.0])
@pytest.mark.parametrize(("workspace", "step_control"), ENDS)
def test_merged_diagonal_gaussian_is_its_closed_form(workspace, step_control, gamma_max):
    shape = (3, 32, 32)
    spread = torch.linspace(0.02, 0.5, 3072, dtype=torch.float64).view(shape)
    x = 0.5 * np.random.default_rng(0).standard_normal((2, *shape))
    for eta in (0.1, 0.4, 0.8):
        model = pair(shape, gamma_max=gamma_max, eta=eta, variance=(spread, spread.flip(0)))
        found = log_density(model, x, **asked(workspace=workspace, step_control=step_control, **TIGHT))
        np.testing.assert_allclose(found / 3072 / BITS, closed_form(model, x) / 3072 / BITS, atol=1e-6)


def dense_pair():
    random = np.random.default_rng(0)
    factors = torch.from_numpy(random.standard_normal((2, 64, 64)))
    both = factors @ factors.mT / 256 + 0.02 * torch.eye(64)
    return pair((1, 8, 8), covariance=tuple(both)), 0.5 * random.standard_normal((2, 1, 8, 8))


@pytest.mark.parametrize(("workspace", "step_control"), ENDS)
def test_merged_dense_gaussian_with_the_exact_trace_is_its_closed_form(workspace, step_control):
    model, x = dense_pair()
    found = log_density(
        model, x, **asked(probe="exact", workspace=workspace, step_control=step_control, **TIGHT)
    )
    np.testing.assert_allclose(found / 64 / BITS, closed_form(model, x) / 64 / BITS, atol=1e-6)


def integral_of_v_j_v(leg, v):
    """The log-density entry that one probe gives over a leg of a dense Gaussian, by quadrature."""
    along = v @ leg.expert._constant("_axes").numpy()

    def rate(gamma):
        # q - sigma^2 d with q = sigma v^T (sigma V^-1) v along the axes of V.
        square = _core.sigma_squared(gamma)
        return 0.5 * square * ((along**2 / leg.expert.noised_variance(gamma)[0].numpy()).sum() - 64)

    return quad(rate, leg.start, leg.end, limit=200)[0]


@pytest.mark.parametrize(("probe", "probes"), [("fixed", 1), ("fixed", 2), ("gaussian", 1)])
def test_one_probe_value_is_the_integral_of_its_own_v_j_v(probe, probes):
    model, x = dense_pair()
    items = Items(np.array([4, 9], dtype=np.uint64), seed=3)
    made = make_directions(
        Probes(probes, probe, "independent"), items, Place(torch.device("cpu"), torch.float64, 2), (1, 8, 8)
    )
    vs = [v.numpy().copy() for v in made.directions(np.arange(2, dtype=np.uint64), np.zeros(2, np.uint64))]

    found = log_density(
        model, x, [4, 9], seed=3, **asked(probe=probe, probes=probes, scheme="independent", **TIGHT)
    )
    for i in range(2):
        z = torch.from_numpy(x[i : i + 1] * _core.alpha(-13.3))
        trace = 0.0
        for leg in model.legs():
            z = leg.expert.flow(z, leg.start, leg.end)
            trace += np.mean([integral_of_v_j_v(leg, v[i]) for v in vs])
        end = _core.end_density(np.array([float(z.square().sum())]), model.gamma_range[1], 64)[0]
        assert found[i] / 64 / BITS == pytest.approx((end + trace) / 64 / BITS, abs=1e-6)


@pytest.mark.parametrize(("workspace", "step_control"), ENDS)
@pytest.mark.parametrize(("probes", "importance", "repeats"), [(2, 1, 1), (3, 1, 2), (3, 2, 1)])
def test_error_of_the_probes_is_that_of_their_own_integrals(
    workspace, step_control, probes, importance, repeats
):
    model, _ = dense_pair()
    pixels = images_of(3, (1, 8, 8))
    found = log_likelihood(
        model,
        pixels,
        [4, 9, 2],
        seed=3,
        importance=importance,
        repeats=repeats,
        solver=solver_of({"step_control": step_control, "rtol": 1e-6, "atol": 1e-6}),
        machine=Machine(workspace=workspace, batch_size=2, dtype="float64"),
        probes=Probes(n=probes, scheme="independent"),
    )
    n_draws = importance * repeats
    items = Items(np.array([4, 9, 2], dtype=np.uint64), n_draws, seed=3, sharing=importance)
    place = Place(torch.device("cpu"), torch.float64, 3 * n_draws)
    made = make_directions(Probes(probes, "fixed", "independent"), items, place, (1, 8, 8))
    vs = [
        v.numpy().copy()
        for v in made.directions(*np.stack([np.arange(3 * n_draws), np.zeros(3 * n_draws)]).astype(np.uint64))
    ]
    for i, record in enumerate(found.records):
        variances = []
        for draw in range(n_draws):
            alone = [sum(integral_of_v_j_v(leg, v[i * n_draws + draw]) for leg in model.legs()) for v in vs]
            variances.append(np.var(alone, ddof=1) / probes)
        # log P of K draws moves with each by its share in their sum; of R repeats it is the mean.
        bounds = np.array(record.draws or [0.0]).reshape(repeats, importance)
        shares = np.exp(bounds - bounds.max(1, keepdims=True))
        weights = (shares / shares.sum(1, keepdims=True)).ravel() / repeats
        # The draws of one bound have the same probes, so their errors add up.
        together = (weights * np.sqrt(variances)).reshape(repeats, importance).sum(axis=1)
        expected = np.linalg.norm(together) / 64 / BITS
        # The trapezoid rule over some 60 steps.
        assert record.se_probe == pytest.approx(expected, rel=0.02)
    errors = found.se_probe
    assert found.summary().bits_per_dim.se_probe == pytest.approx(np.linalg.norm(errors) / 3)


def test_error_of_the_probes_is_how_far_they_are_from_the_trace():
    model, _ = dense_pair()
    pixels = np.zeros((120, 1, 8, 8), np.uint8)  # the same point, probed anew
    found = log_likelihood(
        model,
        pixels,
        dequantise="none",
        solver=Dopri5(rtol=1e-4, atol=1e-4),
        probes=Probes(3, scheme="independent"),
    )
    exact = log_density(
        model,
        np.full((1, 1, 8, 8), 1 / 256 - 1),
        solver=Dopri5(rtol=1e-4, atol=1e-4),
        probes=Probes(kind="exact"),
    )
    off = np.mean((found.log_density_nats - exact) ** 2)
    # 120 squares and 240 degrees of freedom: 4 relative standard errors.
    assert np.mean(found.se_probe**2) == pytest.approx(off, rel=4 * math.sqrt(2 / 120 + 2 / 240))


@pytest.mark.parametrize("probes", [Probes(1), Probes(2, "independent"), Probes(4)])
def test_fresh_probes_tell_their_error_even_one_at_a_node(probes):
    model, _ = dense_pair()
    pixels = np.zeros((300, 1, 8, 8), np.uint8)  # the same point, probed anew
    options = {"dequantise": "none", "probes": probes, "machine": Machine(batch_size=16)}
    found = log_likelihood(model, pixels, **options)
    exact = log_density(
        model, np.full((1, 1, 8, 8), 1 / 256 - 1), solver=Adams(), probes=Probes(kind="exact")
    )
    off = np.mean((found.log_density_nats - exact) ** 2)
    # 300 squares, and estimates of some 20 degrees of freedom each: 4 relative standard errors.
    assert np.mean(found.se_probe**2) == pytest.approx(off, rel=4 * math.sqrt(2 / 300 + 2 / 6000))
    again = log_likelihood(model, pixels[:5], **options)
    np.testing.assert_array_equal(again.se_probe, found.se_probe[:5])


def test_one_probe_knows_nothing_of_its_error_and_the_trace_has_none():
    one = log_likelihood(small(), SMALL, **asked(**QUICK))
    assert one.records[0].se_probe is None
    assert np.isnan(one.se_probe).all()
    assert one.summary().bits_per_dim.se_probe is None
    exact = log_likelihood(small(), SMALL, **asked(probe="exact", **QUICK))
    assert exact.summary().bits_per_dim.se_probe == 0.0


class OneHeavyImage(GaussianExpert):
    """A coupling of two values whose probes disagree, a hundred times stronger where the first value is 1."""

    def forward(self, z, gamma, cond=None):
        strength = torch.where(cond == 1, 1.0, 0.01).view(-1, 1, 1, 1).to(z.dtype)
        return super().forward(z, gamma) + 0.1 * strength * z.flip(3)

    conditional = True


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("heavy", [True, False])
def test_one_probe_that_makes_up_most_of_the_variance_is_warned_of(heavy, recwarn):
    expert = OneHeavyImage((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    pixels = np.repeat(SMALL[:1], 40, axis=0)
    # A seed under which the two probes of image 0 differ.
    labels = np.where(np.arange(40) == 0, 1, 0) if heavy else np.ones(40, dtype=int)
    log_likelihood(expert, pixels, labels=labels, seed=1, **asked(probes=2, scheme="independent", **QUICK))
    said = [str(warning.message) for warning in recwarn if "heavy tails" in str(warning.message)]
    assert bool(said) == heavy


@pytest.mark.parametrize("workspace", ["host", "torch"])
def test_terms_of_an_image_are_the_closed_form_and_the_constant(workspace):
    shape = (3, 4, 4)
    model, pixels = pair(shape), images_of(3, shape)
    found = log_likelihood(model, pixels, [2, 5, 8], seed=1, **asked(workspace=workspace, **TIGHT))
    items = Items(np.array([2, 5, 8], dtype=np.uint64), seed=1)
    noise = Dequantisation("truncated-normal", pixels, levels=256, gamma_min=-13.3, items=items, importance=1)
    z = np.stack([noise.start(key) for key in range(3)]).reshape(3, *shape)
    density = closed_form(model, z / _core.alpha(-13.3))
    constant = _core.dequantisation_constant("truncated-normal", -13.3, 256, 48)
    np.testing.assert_allclose(found.bits_per_dim, -(density + constant) / 48 / BITS, atol=1e-6)
    np.testing.assert_array_equal(found.terms_nats["dequantisation"], constant)
    total = sum(found.terms_nats.values())
    np.testing.assert_allclose(found.bits_per_dim, -total / (48 * BITS), rtol=1e-14)
    assert found.mean == pytest.approx(found.bits_per_dim.mean(), rel=1e-14)
    # The noise is inside the bin.
    assert np.abs(z / _core.alpha(-13.3) - (2 * (pixels + 0.5) / 256 - 1)).max() <= 1 / 256


# ---- two pixels of four levels, all sixteen images


class TwoPixels:
    """Everything by quadrature for N(0, S) at gamma_min = -5, tau = 3.05."""

    GAMMA, L = -5.0, 4

    def __init__(self):
        self.alpha, self.sigma = _core.alpha(self.GAMMA), _core.sigma(self.GAMMA)
        self.covariance = torch.tensor([[0.3, 0.12], [0.12, 0.2]], dtype=torch.float64)
        self.expert = GaussianExpert(
            (1, 1, 2), covariance=self.covariance, gamma_range=(self.GAMMA, 8.764), levels=4
        )
        self.images = np.array(list(itertools.product(range(4), repeat=2)), np.uint8).reshape(16, 1, 1, 2)
        self.centres = 2 * (self.images.reshape(16, 2) + 0.5) / 4 - 1

    def grid(self, half):
        """Nodes in [-half, half] and Gauss-Legendre weights, by pairs."""
        nodes, weights = np.polynomial.legendre.leggauss(60)
        a, b = np.meshgrid(nodes * half, nodes * half, indexing="ij")
        return np.stack([a.ravel(), b.ravel()], 1), np.outer(weights * half, weights * half).ravel()

    def log_p(self, z):
        z = torch.from_numpy(z).view(-1, 1, 1, 2)
        return merged_log_density(z, [(self.expert, self.GAMMA, 8.764)]).numpy()

    def of(self, kind, centre):
        """The bound of one draw, E[log p - log q (+ log P(v | z))], and the log probability it bounds."""
        half = self.alpha / self.L if kind != "decoder" else 8 * self.sigma
        u, weights = self.grid(half)
        z = self.alpha * centre + u
        p = self.log_p(z)
        if kind == "uniform":
            log_q = np.full(len(u), -2 * math.log(2 * half))
        else:
            log_q = (-(u**2) / 2 / self.sigma**2 - math.log(2 * math.pi * self.sigma**2) / 2).sum(1)
            log_q -= math.log(weights @ np.exp(log_q))
        if kind == "decoder":
            levels = 2 * (np.arange(4) + 0.5) / 4 - 1
            energy = -0.5 * ((z[:, :, None] / self.alpha - levels) * math.exp(-self.GAMMA / 2)) ** 2
            own = -0.5 * ((z / self.alpha - centre) * math.exp(-self.GAMMA / 2)) ** 2
            p = p + (own - np.log(np.exp(energy).sum(2))).sum(1)
        bound = weights @ (np.exp(log_q) * (p - log_q))
        return bound, math.log(weights @ np.exp(p))


@pytest.fixture(scope="module")
def two_pixels():
    return TwoPixels()


@pytest.mark.parametrize("kind", ["truncated-normal", "uniform", "decoder"])
def test_bound_of_two_pixels_is_that_of_quadrature_and_tightens_with_k(two_pixels, kind):
    bounds, log_ps = np.array([two_pixels.of(kind, c) for c in two_pixels.centres]).T
    assert (bounds <= log_ps + 1e-9).all()
    assert np.exp(bounds).sum() <= 1
    options = {"dequantise": kind, "probe": "exact", "dtype": "float64", "batch_size": 64}
    plain = log_likelihood(two_pixels.expert, two_pixels.images, repeats=48, **asked(**options))
    tight = log_likelihood(two_pixels.expert, two_pixels.images, importance=8, repeats=6, **asked(**options))
    for result in (plain, tight):
        draws = np.array([record.draws for record in result.records])
        error = draws.std(axis=1, ddof=1) / math.sqrt(48)
        # 2 x 16 means, 5 standard errors: one false alarm in 10^5.
        assert (np.abs(draws.mean(1) - bounds) <= 5 * error + 1e-4).all()
    # Log-mean-exp of groups of 8 exceeds their mean: by Jensen for each, not only on average.
    groups = draws.reshape(16, 6, 8)
    estimates = np.log(np.exp(groups).mean(2))
    nats = -2 * BITS * tight.bits_per_dim
    np.testing.assert_allclose(nats, estimates.mean(1), atol=1e-10)
    np.testing.assert_allclose(tight.terms_nats["importance"], nats - draws.mean(1), atol=1e-10)
    assert (tight.terms_nats["importance"] > 0).all()
    # All images together: still a bound, and nearer.
    spread = np.sqrt((estimates.var(axis=1, ddof=1) / 6).sum())
    assert (log_ps - nats).sum() >= -5 * spread
    assert (log_ps - nats).sum() <= 0.7 * (log_ps - bounds).sum() + 5 * spread


# ---- invariances


@pytest.fixture(scope="module")
def digits():
    return SimpleNamespace(model=load_pair("digits"), data=load_data("digits").select(ids=(0, 18)))


def results(result):
    return {record.id: record for record in result.records}


@pytest.mark.parametrize("solver", [QUICK, {"method": "adams", "tol": 0.01}], ids=["dopri5", "adams"])
@pytest.mark.parametrize("workspace", ["host", "torch"])
def test_neighbours_order_rows_and_refill_change_no_bit(digits, workspace, solver):
    options = {"batch_size": 16, "workspace": workspace, **solver}
    whole = results(log_likelihood(digits.model, digits.data, **asked(**options)))
    pixels, ids = digits.data.images, digits.data.ids
    for chosen in (slice(None, None, -1), slice(7, 9)):
        found = results(log_likelihood(digits.model, pixels[chosen].copy(), ids[chosen], **asked(**options)))
        # A Data has clusters, bare pixels have none.
        assert {i: replace(r, cluster=None) for i, r in found.items()} == {
            i: replace(whole[i], cluster=None) for i in found
        }


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-9), ("float32", 3e-3)])
def test_other_batch_sizes_and_workspaces_agree_as_far_as_the_dtype_allows(digits, dtype, limit):
    # Other rows put 1e-6 into a float32 network call. That moves the steps, and the discretisation error with
    # them: 6e-4 bits/dim were measured at 1e-5 on these networks. In float64 the steps stay where they are.
    data, options = digits.data.select(ids=(0, 3)), {"dtype": dtype, "rtol": 1e-4, "atol": 1e-4}
    one, *others = (
        log_likelihood(digits.model, data, **asked(**options | more)).bits_per_dim
        for more in ({"batch_size": 3}, {"batch_size": 2}, {"workspace": "torch"})
    )
    for other in others:
        np.testing.assert_allclose(other, one, rtol=0, atol=limit)


def test_expert_alone_is_eta_1_with_it(digits):
    alone = load_pair("digits", eta=1.0)
    expert = digits.model.experts[0]
    one, two = (log_likelihood(m, digits.data.select(ids=(0, 3)), **asked(**QUICK)) for m in (expert, alone))
    assert one.records == two.records
    assert (one.evaluations["quality"] == 0).all()


def test_noise_and_probe_are_named_by_id_and_seed():
    expert = small()
    twice = np.repeat(SMALL[:1], 2, axis=0)
    one = log_likelihood(expert, twice, [5, 9], **asked(**QUICK))
    assert one.bits_per_dim[0] != one.bits_per_dim[1]
    swapped = log_likelihood(expert, twice, [9, 5], **asked(**QUICK))
    np.testing.assert_array_equal(swapped.bits_per_dim, one.bits_per_dim[::-1])
    assert (
        log_likelihood(expert, twice, [5, 9], seed=1, **asked(**QUICK)).bits_per_dim != one.bits_per_dim
    ).all()


def test_more_repeats_begin_with_the_draws_of_fewer():
    few, many = (log_likelihood(small(), SMALL, repeats=r, **asked(batch_size=4, **QUICK)) for r in (2, 5))
    assert [record.draws[:2] for record in many.records] == [record.draws for record in few.records]
    nats = [np.mean(record.draws) for record in many.records]
    np.testing.assert_allclose(many.bits_per_dim, np.array(nats) / (-4 * BITS), rtol=1e-14)


def test_more_draws_than_a_solve_holds_are_solved_in_parts(monkeypatch):
    whole = log_likelihood(small(), SMALL, repeats=3, **asked(batch_size=4, **QUICK))
    monkeypatch.setattr(scoring, "PROBLEMS", 7)
    parts = log_likelihood(small(), SMALL, repeats=3, **asked(batch_size=4, **QUICK))
    assert parts.records == whole.records
    evaluations = whole.evaluations["likelihood"].sum()
    assert parts.tally["evaluations"] == whole.tally["evaluations"] == evaluations
    assert len(whole.tally["calls"]) == 1


def test_network_always_sees_the_same_rows():
    seen = set()
    expert = small()
    expert.register_forward_pre_hook(lambda module, given: seen.add(len(given[0])))
    result = log_likelihood(expert, SMALL, **asked(batch_size=4, **QUICK))
    # The start check asks nine rows, one of them, all of them moved up and down, and sixteen images, half of
    # which are told a higher gamma and half a lower one.
    assert seen == {1, 4, 8, 9, 16, 18}
    assert {record.rows for record in result.records} == {4}


def test_shared_steps_are_taken_by_blocks_of_the_batch_size():
    model = pair((1, 2, 2))
    pixels = images_of(5, (1, 2, 2))
    options = {"step_control": "shared", "batch_size": 2, "dtype": "float64"}
    whole = log_likelihood(model, pixels, **asked(**options))
    first, second = ([r.steps for r in whole.records[i : i + 2]] for i in (0, 2))
    assert first[0] == first[1]
    assert second[0] == second[1]
    block = log_likelihood(model, pixels[2:4], [2, 3], **asked(**options))
    assert [replace(r, cluster=None) for r in block.records] == [
        replace(r, cluster=None) for r in whole.records[2:4]
    ]


def test_labels_travel_with_their_image():
    net = torch.nn.Embedding(3, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.5], [1.0], [1.5]]))

    class Conditional(GaussianExpert):
        conditional = True

        def forward(self, z, gamma, cond=None):
            return super().forward(z, gamma) * net.weight[cond].view(-1, 1, 1, 1).to(z.dtype)

    expert = Conditional((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    labels = np.array([0, 1, 2, 0, 1, 2])
    whole = log_likelihood(expert, SMALL, labels=labels, **asked(batch_size=4, **QUICK))
    some = log_likelihood(expert, SMALL[4:], [4, 5], labels=labels[4:], **asked(batch_size=4, **QUICK))
    np.testing.assert_array_equal(some.bits_per_dim, whole.bits_per_dim[4:])
    with pytest.raises(UsageError, match="conditional"):
        log_likelihood(expert, SMALL)


def test_callers_modes_do_not_matter():
    expected = log_likelihood(small(), SMALL, **asked(**QUICK)).bits_per_dim
    with torch.inference_mode():
        np.testing.assert_array_equal(log_likelihood(small(), SMALL, **asked(**QUICK)).bits_per_dim, expected)
    with torch.enable_grad():
        np.testing.assert_array_equal(
            log_likelihood(small(), torch.from_numpy(SMALL), **asked(**QUICK)).bits_per_dim, expected
        )


# ---- faults


class Holed(GaussianExpert):
    """NaN between two gammas for images whose first value is positive there."""

    def forward(self, z, gamma, cond=None):
        eps_hat = super().forward(z, gamma)
        hole = (gamma > 0) & (gamma < 2) & (z[:, 0, 0, 0] > 0)
        return torch.where(hole.view(-1, 1, 1, 1), torch.nan, eps_hat)


def holed():
    return Holed((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4, name="holed")


@pytest.mark.parametrize("workspace", ["host", "torch"])
def test_nan_at_one_gamma_fails_that_image_only(workspace):
    options = {"batch_size": 4, "workspace": workspace, **QUICK}
    found, sound = (log_likelihood(e, SMALL, **asked(**options)) for e in (holed(), small()))
    failed = found.status == "nonfinite"
    assert 0 < failed.sum() < len(SMALL)
    assert found.n_failed == failed.sum()
    np.testing.assert_array_equal(found.bits_per_dim[~failed], sound.bits_per_dim[~failed])
    assert np.isnan(found.bits_per_dim[failed]).all()
    assert np.isnan(found.terms_nats["trace"][failed]).all()
    record = found.records[int(np.flatnonzero(failed)[0])]
    assert (record.leg, record.expert, record.status) == ("likelihood", "holed", "nonfinite")
    assert -3 < record.gamma < 2
    assert record.stage in range(7)
    assert record.bits_per_dim is None
    assert found.mean is None
    assert "no mean" in repr(found)
    allowed = log_likelihood(holed(), SMALL, **asked(**options)).allowing_failed()
    assert allowed.mean == pytest.approx(sound.bits_per_dim[~failed].mean(), rel=1e-14)
    assert allowed.summary().n_failed == failed.sum()


def test_blow_up_near_gamma_min_hints_at_a_higher_one():
    class Spiky(Holed):
        def forward(self, z, gamma, cond=None):
            eps_hat = GaussianExpert.forward(self, z, gamma)
            return torch.where((gamma < -5.5).view(-1, 1, 1, 1), torch.nan, eps_hat)

    expert = Spiky((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4, name="spiky")
    record = log_likelihood(expert, SMALL[:1], **asked(**QUICK)).records[0]
    assert record.hint == "near gamma_min = -6: a gamma_range of spiky that begins higher may do"
    with pytest.raises(SolveError, match="gamma_range of spiky that begins higher"):
        log_density(expert, np.zeros((1, 1, 2, 2)), **asked(**QUICK))
    failed = [r for r in log_likelihood(holed(), SMALL, **asked(**QUICK)).records if r.status != "ok"]
    assert {r.hint for r in failed} == {None}


def test_image_with_one_failed_draw_fails():
    one = log_likelihood(holed(), SMALL, repeats=1, **asked(batch_size=4, **QUICK))
    many = log_likelihood(holed(), SMALL, repeats=8, **asked(batch_size=4, **QUICK))
    assert many.n_failed >= one.n_failed
    assert (many.status[one.status != "ok"] != "ok").all()
    json.dumps([record.as_dict() for record in many.records], allow_nan=False)


def test_failure_under_shared_steps_fails_its_block_only():
    options = {"step_control": "shared", "batch_size": 1, **QUICK}
    single = log_likelihood(holed(), SMALL, **asked(**options)).status != "ok"
    blocks = log_likelihood(holed(), SMALL, **asked(**options | {"batch_size": 2})).status != "ok"
    np.testing.assert_array_equal(blocks, np.repeat(single.reshape(3, 2).any(1), 2))


def test_density_of_a_failed_point_is_a_solve_error():
    with pytest.raises(SolveError, match=r"image 1, nonfinite at gamma = .*expert holed"):
        log_density(holed(), np.array([-1.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((2, 1, 2, 2)))


def test_exception_of_the_expert_in_the_middle_is_the_cause_of_an_expert_error():
    problem = LookupError("mine")

    class Raising(GaussianExpert):
        calls = 0

        def forward(self, z, gamma, cond=None):
            self.calls += 1
            if self.calls > 15:  # the start check is over
                raise problem
            return super().forward(z, gamma)

    expert = Raising((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    with pytest.raises(ExpertError, match="raised LookupError: mine") as caught:
        log_likelihood(expert, SMALL)
    assert caught.value.__cause__ is problem


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError("full")])
def test_exception_of_the_one_who_is_told_passes_unchanged(problem):
    told = []

    def on_record(record):
        told.append(record.id)
        if len(told) == 2:
            raise problem

    with pytest.raises(type(problem)) as caught:
        log_likelihood(small(), SMALL, on_record=on_record, **asked(batch_size=1, **QUICK))
    assert caught.value is problem
    assert len(told) == 2


def test_records_are_told_as_they_are_made():
    told = []
    result = log_likelihood(small(), SMALL, on_record=told.append, **asked(batch_size=2, **QUICK))
    assert sorted(told, key=lambda r: r.id) == list(result.records)
    assert list(result.ids) == list(range(6))


class Hungry(GaussianExpert):
    """Runs out of memory above some rows."""

    allowed = 4

    def forward(self, z, gamma, cond=None):
        if len(z) > self.allowed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(z, gamma)


def test_batch_is_halved_when_memory_does_not_suffice():
    expert = Hungry((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    told = []
    found = log_likelihood(expert, SMALL, on_record=told.append, **asked(batch_size=16, **QUICK))
    plain = log_likelihood(small(), SMALL, **asked(batch_size=4, **QUICK))
    assert [r.rows for r in found.records] == [4] * 6
    np.testing.assert_array_equal(found.bits_per_dim, plain.bits_per_dim)
    assert len(told) == 6


def test_memory_that_ends_in_the_middle_costs_no_finished_image():
    class Later(Hungry):
        calls = 0

        def forward(self, z, gamma, cond=None):
            self.calls += 1
            self.allowed = 2 if self.calls > 100 else 4  # the start check is over
            return super().forward(z, gamma)

    expert = Later((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    told = []
    found = log_likelihood(expert, SMALL, repeats=2, on_record=told.append, **asked(batch_size=4, **QUICK))
    assert sorted(r.id for r in told) == list(range(6))
    assert {r.rows for r in found.records} == {4, 2}


@pytest.mark.parametrize(("step_control", "rows"), [("per-image", 2), ("shared", 4)])
def test_memory_that_never_suffices_is_a_resource_error(step_control, rows):
    expert = Hungry((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    expert.allowed = 2  # what the probe call needs

    def told(record):
        raise AssertionError("nothing is recorded")

    if step_control == "per-image":

        class Starved(Hungry):
            started = 0

            def forward(self, z, gamma, cond=None):
                self.started += 1
                self.allowed = 2 if self.started <= 6 else 0
                return super().forward(z, gamma)

        expert = Starved((1, 2, 2), variance=0.2, gamma_range=(-6.0, 5.0), levels=4)
    with pytest.raises(ResourceError, match="memory of cpu"):
        log_likelihood(
            expert,
            SMALL,
            on_record=told,
            solver=solver_of({"step_control": step_control}),
            machine=Machine(batch_size=rows),
        )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"importance": 0}, "importance = 0"),
        ({"repeats": 0}, "repeats = 0"),
        ({"probes": 0}, "probes = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"importance": 1.5}, "importance = 1.5"),
        ({"rtol": 0.0}, "rtol = 0.0"),
        ({"atol": -1.0}, "atol = -1.0"),
        ({"rtol": math.nan}, "rtol = nan"),
        ({"rtol": 1e-15}, "last place"),
        ({"rtol": math.inf}, "rtol = inf is no finite number"),
        ({"atol": "1e-5"}, "atol = 1e-5 is no finite number"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"device": "abacus"}, "device 'abacus' is not usable"),
        ({"device": "meta"}, "device 'meta' is not usable"),
        ({"method": "euler"}, "method = 'euler'"),
        ({"step_control": "none"}, "step_control = 'none'"),
        ({"dequantise": "some"}, "dequantise = 'some'"),
        ({"method": "dopri5", "probe": "fresh"}, "would take the noise of a new probe"),
        ({"probe": "none"}, "probe = 'none'"),
        ({"method": "adams", "step_control": "shared"}, "step-control shared belongs to method dopri5"),
        ({"method": "adams", "rtol": 1e-5}, "rtol 1e-05 belongs to method dopri5"),
        ({"rtol": 1e-5, "h_max": 1.0}, "h-max 1.0 belongs to method adams, and the method is dopri5"),
        ({"method": "adams", "tol": 0.0}, "tol = 0.0 is no finite positive number"),
        ({"method": "adams", "tol": 1e-8}, "tol = 1e-08 is no finite positive number from 1e-07 up"),
        ({"method": "adams", "h_max": 0.0}, "h-max = 0.0 is no finite positive number"),
        ({"dtype": "float16"}, "dtype = 'float16'"),
        ({"dequantise": "none", "importance": 2}, "draws none"),
        ({"probe": "exact", "probes": 2}, "probes = 2"),
        ({"ids": [0, 1]}, "6 whole numbers"),
        ({"ids": [0, 1, 2, 3, 4, 4]}, "id 4 names 2 images"),
        ({"ids": [-1, 1, 2, 3, 4, 5]}, "start at 0"),
        ({"labels": [0.5] * 6}, "6 whole numbers"),
    ],
)
def test_argument_that_cannot_be_meant_is_a_usage_error(options, text):
    with pytest.raises(UsageError, match=text):
        log_likelihood(small(), SMALL, **asked(**options))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (SMALL.astype(np.float32), "float32"),
        (SMALL.astype(np.int64), "int64"),
        (SMALL.astype(np.uint16), "uint16"),
        (torch.from_numpy(SMALL).bfloat16(), "float32"),
        (SMALL.transpose(0, 2, 3, 1), r"last axis looks like channels"),
        (SMALL[0], "expected"),
        (images_of(2, (1, 3, 3), levels=4), r"\[1, 3, 3\], but the experts model \[1, 2, 2\]"),
        (SMALL + 3, "exceeds 3"),
        (make_data("mine", "test", SMALL, 5), "5 grey levels"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, text):
    with pytest.raises(DataError, match=text):
        log_likelihood(small(), images)


def test_no_images_are_a_usage_error():
    with pytest.raises(UsageError, match="no images"):
        log_likelihood(small(), SMALL[:0])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (SMALL, "uint8"),
        (np.zeros((1, 2, 2)), r"\[1, 2, 2\]"),
        (np.zeros((2, 1, 3, 3)), r"\[1, 3, 3\]"),
        (np.full((1, 1, 2, 2), np.nan), r"nan at \[0, 0, 0, 0\]"),
    ],
)
def test_points_that_do_not_fit_are_refused(x, text):
    with pytest.raises(DataError, match=text):
        log_density(small(), x)


def test_unsound_expert_is_refused_before_anything_is_computed():
    def short(z, gamma):
        return z[:, :, :1]

    expert = CallableExpert(
        short,
        predicts="eps",
        time="gamma",
        input="vp",
        pixels="centred",
        levels=4,
        gamma_range=(-6.0, 5.0),
        image_shape=(1, 2, 2),
    )
    with pytest.raises(ExpertError, match="shape"):
        log_likelihood(expert, SMALL, on_record=lambda record: pytest.fail("computed"))


def extrapolating():
    return MergedModel(
        GaussianExpert((1, 2, 2), variance=0.2, gamma_range=(-6.0, 0.0), levels=4, name="fine"),
        GaussianExpert((1, 2, 2), variance=0.2, gamma_range=(-3.0, 5.0), levels=4, name="coarse"),
        Threshold.gamma(1.0),
        extrapolate=True,
    )


def test_asking_an_expert_outside_its_range_is_marked_on_every_result():
    found = log_likelihood(extrapolating(), SMALL, **asked(**QUICK))
    likelihood = found.evaluations["likelihood"]
    assert [r.evaluations_extrapolated for r in found.records] == likelihood.tolist()
    assert log_likelihood(small(), SMALL, **asked(**QUICK)).records[0].evaluations_extrapolated is None


def test_narrow_truncation_warns():
    expert = GaussianExpert((1, 2, 2), variance=0.2, gamma_range=(-4.5, 5.0), levels=4)
    with pytest.warns(UserWarning, match=r"tau = 2\.372 < 3"):
        log_likelihood(expert, SMALL, **asked(**QUICK))


def test_tolerance_below_float32_warns():
    with pytest.warns(UserWarning, match="rtol = 1e-07"):
        log_likelihood(small(), SMALL[:1], solver=Dopri5(rtol=1e-7, atol=1e-3))


# ---- results


def test_mixture_expert_of_own_images_knows_them_best():
    x = 2 * (SMALL[:3] + 0.5) / 4 - 1
    expert = GaussianMixtureExpert(torch.from_numpy(x), variance=0.05, gamma_range=(-6.0, 8.0), levels=4)
    found = log_likelihood(expert, SMALL, machine=Machine(batch_size=6), probes=Probes(kind="exact"))
    assert found.bits_per_dim[:3].max() < found.bits_per_dim[3:].min()
    density = log_density(expert, x, **asked(probe="exact", **TIGHT))
    z = torch.from_numpy(x * _core.alpha(-6.0))
    exact = expert.log_density(z, torch.full((3,), -6.0))
    # At gamma = 8 the end density is that of pure noise, which the data's own variance exceeds by 3e-4.
    np.testing.assert_allclose(density, exact, atol=2e-3)


def test_density_without_dequantisation_has_no_bits():
    found = log_likelihood(small(), SMALL, dequantise="none", **asked(**TIGHT))
    assert np.isnan(found.bits_per_dim).all()
    assert (found.terms_nats["dequantisation"] == 0).all()
    x = 2 * (SMALL + 0.5) / 4 - 1
    np.testing.assert_allclose(found.log_density_nats, closed_form(as_model(small()), x), atol=1e-5)
    np.testing.assert_array_equal(found.log_density_nats, log_density(small(), x, **asked(**TIGHT)))
    summary = found.summary()
    assert summary.bits_per_dim is None
    assert summary.log_density_nats.mean == found.mean == pytest.approx(found.log_density_nats.mean())
    assert "nats" in repr(found)
    with pytest.raises(UsageError, match="no bits/dim"):
        paired_difference(found, found)


def test_uniform_result_says_what_it_is():
    found = log_likelihood(small(), SMALL, dequantise="uniform", progress=True, **asked(**QUICK))
    assert "noised to gamma_min" in repr(found)


def test_result_is_rebuilt_from_records_in_json():
    found = log_likelihood(small(), SMALL, importance=2, **asked(**QUICK))
    records = json.loads(json.dumps([record.as_dict() for record in found.records], allow_nan=False))
    again = Likelihood(tuple(map(Record.from_dict, records)), 4, importance=2)
    assert again.summary() == found.summary()
    assert repr(again) == repr(found)
    assert "\n" not in repr(found)
    assert found.rows()[0]["bits_per_dim"] == found.bits_per_dim[0]
    assert found.rows()[0]["evaluations_likelihood"] == found.evaluations["likelihood"][0]
    summary = found.summary()
    assert summary.evaluations["total"] == found.evaluations["likelihood"].mean()
    assert sum(summary.terms_nats.values()) == pytest.approx(-found.mean * 4 * BITS, rel=1e-12)
    assert 0 < found.seconds_outside_network < found.seconds


def clustered(values, clusters, ids=None):
    ids = range(len(values)) if ids is None else ids
    cost = {"evaluations": {"likelihood": 1, "quality": 0}, "steps": {"accepted": 1, "rejected": 0}}
    records = [
        Record(id=i, status="ok", bits_per_dim=v, terms_nats={"trace": 0.0}, cluster=c, **cost)
        for i, v, c in zip(ids, values, clusters, strict=True)
    ]
    return Likelihood(tuple(records), 1)


def test_standard_error_is_clustered_where_images_have_clusters():
    found = clustered([1.0, 2.0, 4.0, 5.0], [0, 0, 1, 1])
    # Sums of deviations by cluster: -3 and 3; 2/1 * 18 / 16.
    assert found.se == pytest.approx(1.5)
    images = clustered([1.0, 2.0, 4.0, 5.0], [None] * 4)
    assert images.se == pytest.approx(np.std([1, 2, 4, 5], ddof=1) / 2)
    assert clustered([1.0], [3]).se is None


def test_paired_difference_is_by_id():
    one = clustered([1.0, 2.0, 3.0], [None] * 3, ids=[4, 5, 6])
    two = clustered([9.0, 2.5, 0.5], [None] * 3, ids=[7, 6, 4])
    found = paired_difference(one, two)
    assert (found.difference, found.n) == (0.5, 2)
    with pytest.raises(UsageError, match="no image in common"):
        paired_difference(one, clustered([1.0], [None], ids=[0]))


@pytest.mark.parametrize(
    ("n", "device", "rows"),
    [(1, "cpu", 1), (15, "cpu", 15), (16, "cpu", 16), (17, "cpu", 32), (360, "cpu", 64), (360, "cuda", 256)],
)
def test_rows_are_a_multiple_of_16_that_holds_all(n, device, rows):
    assert scoring_rows(n, device) == rows


def dense_case():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    return dense_pair()[0], pixels


def mixture_case():
    """Images of the mixture itself: of others the trace has a kink, which is no error of the path."""
    random = np.random.default_rng(3)
    means = 0.5 * random.standard_normal((6, 1, 8, 8))
    x = means[random.integers(6, size=30)] + math.sqrt(0.1) * random.standard_normal((30, 1, 8, 8))
    expert = GaussianMixtureExpert(torch.from_numpy(means), variance=0.1)
    return as_model(expert), np.clip(np.floor(128 * (x + 1)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", [dense_case, mixture_case])
def test_path_error_is_that_of_the_path_and_correcting_for_it_helps(case):
    model, pixels = case()
    options = {"probe": "exact", "dtype": "float64"}
    exact = log_likelihood(model, pixels, **asked(rtol=1e-9, atol=1e-9, **options))
    found = log_likelihood(model, pixels, **asked(method="adams", **options))
    left = found.bits_per_dim - exact.bits_per_dim
    off = left + found.terms_nats["path_correction"] / 64 / BITS
    ratio = found.path_error / np.abs(off)
    assert np.mean((ratio > 1 / 2) & (ratio < 2)) >= 0.8
    assert np.median(np.abs(left)) < 0.2 * np.median(np.abs(off))


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_path_of_networks_is_not_corrected_without_evidence_and_its_error_is_told(name):
    model, images = load_pair(name), load_data(name).select(limit=16)
    options = {"method": "adams", "probe": "fixed", "dtype": "float64"}
    exact = log_likelihood(model, images, **asked(tol=1e-4, h_max=0.2, **options))
    found = log_likelihood(model, images, **asked(**options))
    assert (found.terms_nats["path_correction"] == 0).all()
    off = np.sqrt(np.mean((found.bits_per_dim - exact.bits_per_dim) ** 2))
    assert 1 / 2 < np.sqrt(np.mean(found.path_error**2)) / off < 2


def test_a_model_with_one_network_is_not_corrected_and_closed_forms_of_other_pixels_are():
    pixels = np.random.default_rng(0).integers(0, 17, (2, 1, 8, 8), np.uint8)
    network = load_pair("digits").experts[0]
    facts = {"gamma_range": (-9.0, 9.0), "pixels": "ends", "levels": network.levels}
    gaussian = GaussianExpert((1, 8, 8), variance=0.3, **facts)
    adams = {"solver": Adams(), "dequantise": "uniform"}
    beside = log_likelihood(MergedModel(network, gaussian, Threshold.gamma(0.0)), pixels, **adams)
    assert (beside.terms_nats["path_correction"] == 0).all()
    alone = log_likelihood(as_model(gaussian), pixels, **adams)
    assert (alone.terms_nats["path_correction"] != 0).all()


def test_coarse_path_is_not_corrected_and_its_error_is_told():
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    found = log_likelihood(dense_pair()[0], pixels, solver=Adams(tol=0.03, h_max=1.0))
    assert (found.terms_nats["path_correction"] == 0).all()
    assert (found.path_error > 0).all()
    assert found.summary().path_error == pytest.approx(found.path_error.mean())
    other = log_likelihood(dense_pair()[0], pixels, solver=Dopri5())
    assert np.isnan(other.path_error).all()
    assert other.summary().path_error is None
