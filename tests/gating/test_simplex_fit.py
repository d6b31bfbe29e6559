"""Gates of N experts from residual products: what is planted is found, within what each was trained on."""

import numpy as np
import pytest

from merged_diffusion import GaussianExpert, MergedModel, SimplexGate, fit_gate_of, log_likelihood
from merged_diffusion.bound.losses import Losses
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.gating.residuals import measure as measure_pair
from merged_diffusion.gating.simplex_fit import fitted, flat, room
from merged_diffusion.gating.simplex_products import measure
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.ode.machine import Machine

SHAPE = (1, 2, 2)
RANGES = ((-8.0, 5.0), (-7.0, 5.0), (-7.0, 6.0))
TRUE = 0.09  # variance of the images' values


def experts(*variances):
    return [
        GaussianExpert(SHAPE, variance=v, gamma_range=ends, name=f"g{v}")
        for v, ends in zip(variances, RANGES, strict=True)
    ]


def images(n=60):
    x = np.sqrt(TRUE) * np.random.default_rng(0).normal(size=(n, *SHAPE))
    pixels = np.clip(np.floor((x + 1) / 2 * 256), 0, 255).astype(np.uint8)
    return make_data("normal", "train", pixels, 256)


def test_a_planted_gate_of_three_is_found():
    """Independent residuals of variances 1/w_i: the least w^T S w on the simplex is w itself."""
    random = np.random.default_rng(1)
    start, spacing, allowed = room(RANGES)
    rows = np.where(allowed, random.uniform(0.5, 1.5, allowed.shape), 0.0)
    planted = SimplexGate(
        start,
        start + (len(rows) - 3) * spacing,
        tuple(map(tuple, (rows / rows.sum(1, keepdims=True)).tolist())),
    )
    # Of six points an interval each B-spline is met by 24: the programme has one solution.
    edges = np.linspace(-8, 6, 85)
    gamma = (edges[:-1] + edges[1:]) / 2
    products = np.full((len(gamma), 3, 3), np.nan)
    for at, given in zip(gamma, products, strict=True):
        members = [i for i, (low, high) in enumerate(RANGES) if low <= at <= high]
        share = np.maximum(planted(at)[members], 1e-7)
        given[np.ix_(members, members)] = np.diag(1 / share)
    found = fitted(edges, products, RANGES)
    # Rows of weight 1e4 hold the sums, and the splines' coefficients are 10 times as sensitive as w.
    assert np.abs(found(gamma) - planted(gamma)).max() < 2e-3
    assert np.abs(np.array(found.coefficients) - planted.coefficients).max() < 2e-2


def test_shares_stay_where_experts_were_trained():
    _, spacing, allowed = room(RANGES)
    gate = flat(RANGES)
    assert spacing >= 1
    for who, low, high in gate.asked():
        for i in who:
            # Within each expert's range, but for the ends of the whole, which a knot may lie beyond.
            assert RANGES[i][0] <= max(low, -8.0) + 1e-9
            assert min(high, 6.0) <= RANGES[i][1] + 1e-9
    assert gate.asked()[0][0] == (0,)
    assert gate.asked()[-1][0] == (2,)
    assert allowed.shape[1] == 3


def test_products_are_those_of_the_pairs():
    data = images(12)
    three = [expert.double() for expert in experts(0.02, TRUE, 0.5)]
    ends = ((-6.0, -5.5),) * 3
    losses = Losses.of(data, None, 3, Machine(dtype="float64", batch_size=4).here(lambda _: 4))
    _, products, spent = measure(losses, three, ends, 4)
    assert spent == 3 * 12 * 4
    (found,) = products
    for i, j in ((0, 1), (0, 2), (1, 2)):
        pair = measure_pair(losses, (three[i], three[j]), -6.0, -5.5, 4, None)
        curvature = found[i, i] + found[j, j] - 2 * found[i, j]
        assert pair.curvature == pytest.approx([curvature], rel=1e-9)
        assert pair.w == pytest.approx([(found[j, j] - found[i, j]) / curvature], rel=1e-9)


def test_bins_count_by_their_width():
    """A bin cut into two alike leaves the loss, and so the gate, as it was."""
    random = np.random.default_rng(4)
    edges = np.arange(-8.0, 6.25, 0.5)
    roots = random.normal(size=(len(edges) - 1, 3, 3))
    middle = (edges[:-1] + edges[1:]) / 2
    products = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(3)
    for at, given in zip(middle, products, strict=True):
        out = [i for i, (low, high) in enumerate(RANGES) if not low <= at <= high]
        given[out] = given[:, out] = np.nan
    # Slivers of 1e-9 with losses of their own beside each edge weigh nothing, whatever they say.
    fine = np.sort(np.concatenate([edges, edges[1:-1] + 1e-9]))
    more = np.repeat(products, 2, axis=0)[1:]
    wild = random.normal(size=(len(more), 3, 3))
    is_sliver = np.diff(fine) < 1e-8
    known = ~np.isnan(more)
    more = np.where(known & is_sliver[:, None, None], 10 * wild @ wild.transpose(0, 2, 1), more)
    usual, cut = fitted(edges, products, RANGES), fitted(fine, more, RANGES)
    # Weights of 1e-9/0.5 on losses a hundred times as large; middles of bins move by 1e-9.
    assert np.abs(usual(middle) - cut(middle)).max() < 1e-4


def test_the_mixture_of_three_gaussians_is_the_posterior_mean():
    """Each predicts a multiple of z: a mixture is right where its own is that of the true variance."""
    variances = (0.5, 0.2, 0.01)
    data = images()
    gate = fit_gate_of(experts(*variances), data, exact=2, visits=16, options=Options(dequantise="decoder"))
    gamma = np.linspace(-3, 1, 9)
    s = 1 / (1 + np.exp(-gamma))
    multiple = np.sqrt(s)[:, None] / ((1 - s)[:, None] * [*variances, TRUE] + s[:, None])
    found = (gate(gamma) * multiple[:, :3]).sum(1)
    # 60 images of 4 values know their own variance to 9 %; a flatter relative may be chosen on two of them.
    assert found == pytest.approx(multiple[:, 3], rel=0.25)
    assert set(gate.experts) == {"likelihood", "expert-2", "quality"}
    assert set(gate.about["family"]) >= {"a 1", "a 0.5", "a 0", "chosen"}
    with pytest.raises(UsageError, match="60 of these 60 images"):
        log_likelihood(MergedModel.of(experts(*variances), gate=gate), data, dequantise="decoder")


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        (((-8.0, -2.0), (0.0, 6.0)), "no gammas in common"),
        (((-8.0, -1.0), (-2.0, 6.0)), "no single expert covers"),
    ],
)
def test_ranges_without_room_for_a_gate_are_refused(ranges, says):
    with pytest.raises(UsageError, match=says):
        flat(ranges)


def test_one_expert_or_six_have_no_gate():
    one = GaussianExpert(SHAPE, variance=1.0, gamma_range=(-8.0, 6.0))
    for n in (1, 6):
        with pytest.raises(UsageError, match=f"{n} experts"):
            fit_gate_of([one] * n, images(4))
