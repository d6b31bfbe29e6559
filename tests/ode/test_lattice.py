"""Colours of probes: an exact mean, a variance that has a closed form, and near values apart."""

import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.data.images import pixel_values
from merged_diffusion.errors import RunMismatchError, UsageError
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.lattice import LATTICES, colours, lattice_of, other_lattice
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import MOST_COLOURS, Adams, Dopri5, Probes
from merged_diffusion.ode.probes import make_directions

RECIPES = Path(__file__).parents[2] / "recipes"
CPU = torch.device("cpu")
SHAPES = [(1, 3, 4), (3, 2, 2), (1, 1, 11)]


def made(probes, shape, rows=2):
    return make_directions(
        probes, Items(np.arange(rows, dtype=np.uint64)), Place(CPU, torch.float64, rows), shape
    )


def drawn(directions, node=0, rows=2):
    keys, nodes = np.arange(rows, dtype=np.uint64), np.full(rows, node, dtype=np.uint64)
    return np.stack([v.numpy().copy() for v in directions.directions(keys, nodes)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", range(2, 10))
def test_mean_is_the_trace_and_variance_that_of_pairs_of_one_colour(shape, k):
    d = math.prod(shape)
    jacobian = np.random.default_rng(k).normal(size=(d, d))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    masks = np.arange(k)[:, None] == colours(k, shape)
    q = sum((((signs * mask) @ jacobian) * (signs * mask)).sum(axis=1) for mask in masks)
    assert q.mean() == pytest.approx(np.trace(jacobian), abs=1e-12 * d)
    both = np.triu((jacobian + jacobian.T) ** 2, 1)
    same = np.equal.outer(colours(k, shape), colours(k, shape))
    assert q.var() == pytest.approx(both[same].sum(), rel=1e-12)
    assert q.var() < both.sum()


@pytest.mark.parametrize("kind", ["fresh", "fixed"])
def test_directions_are_the_parts_of_one_probe(kind):
    shape = (3, 4, 4)
    parts = drawn(made(Probes(5, kind), shape), node=7)
    (whole,) = drawn(made(Probes(1, kind), shape), node=7)
    np.testing.assert_array_equal(parts.sum(axis=0), whole)
    assert parts.shape == (5, 2, 48)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part != 0, np.tile(colours(5, shape) == number, (2, 1)))


def test_q_is_sigma_times_the_sum_over_the_colours():
    shape, gamma = (3, 2, 2), np.array([-4.0, 1.0])
    expert = md.GaussianMixtureExpert(
        torch.linspace(-1, 1, 36, dtype=torch.float64).view(3, *shape), variance=0.1
    )
    z = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 12)
    parts = made(Probes(4, "fresh"), shape)
    flow = ProbabilityFlow(expert, shape, parts, Items(np.arange(2, dtype=np.uint64)))
    keys = np.arange(2, dtype=np.uint64)
    _, q = flow(z, gamma, np.full(2, 3, dtype=np.uint64), keys)
    cut = drawn(made(Probes(4, "fresh"), shape), node=3)
    for row in range(2):
        clock = torch.from_numpy(gamma[row : row + 1])
        of = lambda flat, g=clock: expert(flat.view(1, *shape), g).flatten()  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(of, z[row]).numpy()
        expected = sum(v[row] @ jacobian @ v[row] for v in cut) * _core.sigma(gamma[row])
        assert float(q[row]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("k", range(2, MOST_COLOURS + 1))
def test_neighbours_and_channels_of_a_pixel_differ_in_colour(k, channels):
    of = colours(k, (channels, 16, 16)).reshape(channels, 16, 16)
    assert set(np.unique(of)) <= set(range(k))
    assert (of[:, :, 1:] != of[:, :, :-1]).all()
    assert (of[:, 1:] != of[:, :-1]).all()
    if channels == 3:
        assert (of[1:] != of[:-1]).all()
    counts = np.bincount(of.ravel(), minlength=k)
    assert counts.min() > 0


@pytest.mark.parametrize("shape", [(1, 40, 1), (64, 1, 1), (3, 8, 2), (5, 5, 1), (1, 8, 8), (3, 4, 1)])
def test_no_colour_is_unused_however_narrow_the_shape(shape):
    d = math.prod(shape)
    for k in range(2, MOST_COLOURS + 1):
        assert len(np.unique(colours(k, shape))) == min(k, d)
    assert lattice_of(20, (1, 40, 1)) == (7, 3)  # of the nearest to (8, 3) the least a


def test_where_the_table_uses_all_colours_it_is_what_it_was():
    for shape in ((1, 8, 8), (3, 8, 8), (3, 32, 32), (1, 1, 40), (3, 8, 2)):
        c, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
        for k, (a, b) in LATTICES.items():
            usual = ((x + a * y + b * c) % k).ravel()
            if len(np.unique(usual)) == min(k, math.prod(shape)):
                np.testing.assert_array_equal(colours(k, shape), usual)
                assert other_lattice(Probes(k), shape) == {}


def test_a_run_keeps_another_lattice_and_one_of_before_is_not_gone_on_with(tmp_path):
    images = np.random.default_rng(0).integers(0, 16, (2, 1, 40, 1)).astype(np.uint8)
    np.savez(tmp_path / "narrow.npz", images=images, levels=16)
    source = (
        "import merged_diffusion as md\nexpert = md.GaussianExpert((1, 40, 1), variance=0.3, levels=16)\n"
    )
    (tmp_path / "own.py").write_text(source)
    settings = md.Settings(
        data=str(tmp_path / "narrow.npz"), expert=f"{tmp_path / 'own.py'}:expert", probes=Probes(4), limit=1,
        quad_check="off", solver=Adams(0.03, 1.0),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="guessing every grey level"):  # random images
        md.evaluate(settings, out=tmp_path / "run")
    place = tmp_path / "run" / "settings.json"
    kept = json.loads(place.read_text())
    assert kept["settings"].pop("lattice") == [1, 1]
    place.write_text(json.dumps(kept))  # as it was written with the lattice of the table
    with pytest.raises(RunMismatchError, match="lattice None there"):
        md.evaluate(replace(settings, limit=2), out=tmp_path / "run")


def test_the_table_is_that_of_the_recipe():
    sys.path.insert(0, str(RECIPES))
    try:
        import probe_lattice
    finally:
        sys.path.pop(0)
    noise = probe_lattice.squares()
    assert set(LATTICES) == set(range(2, MOST_COLOURS + 1))
    for k in (6, 7, 10, 25, 64):
        assert probe_lattice.best(k, noise)[:2] == LATTICES[k]


def test_as_many_colours_as_values_are_the_trace_itself():
    expert = md.GaussianExpert((1, 4, 4), variance=0.25)
    x = np.zeros((1, 1, 4, 4))
    exact = md.log_density(expert, x, probes=Probes(kind="exact"))
    assert md.log_density(expert, x, probes=Probes(16)) == exact
    assert md.log_density(expert, x, probes=Probes(64)) == exact
    with pytest.raises(UsageError, match="at most 64 colours"):
        md.log_density(md.GaussianExpert((1, 9, 9), variance=0.25), np.zeros((1, 1, 9, 9)), probes=Probes(65))


def test_what_cannot_be_cut():
    with pytest.raises(UsageError, match="the kind is gaussian"):
        Probes(4, "gaussian", "lattice")
    with pytest.raises(UsageError, match="scheme = 'both'"):
        Probes(4, scheme="both")
    assert not Probes(4, "gaussian").under(Dopri5()).is_lattice
    assert Probes(4, "independent") == Probes(4, scheme="independent")
    assert Probes(4).under(Adams()) == Probes(4, "fresh", "lattice")
    assert Probes(1).under(Adams()) == Probes(1, "fresh", "independent")


@pytest.mark.parametrize(("name", "gains"), [("digits", (3.0, 5.0, 12.0)), ("photos", (4.0, 6.5, 16.0))])
def test_colours_leave_little_of_the_noise_of_one_probe(name, gains):
    """By exact Jacobians at six gammas; `docs/results.md` has the figures of whole paths."""
    model, data = md.load_pair(name), md.load_data(name)[:2]
    shape = data.images.shape[1:]
    d = math.prod(shape)
    x = torch.from_numpy(pixel_values(data.images, data.levels)).float()
    one, left = 0.0, dict.fromkeys((3, 4, 9), 0.0)
    for leg in model.legs():
        for gamma in np.linspace(leg.start, leg.end, 5)[1:4]:
            noise = torch.from_numpy(np.random.default_rng(0).normal(size=x.shape)).float()
            z = _core.alpha(gamma) * x + float(_core.sigma(np.array([gamma]))[0]) * noise
            clock = torch.full((1,), gamma, dtype=torch.float64)
            for row in z.split(1):
                of = lambda flat, e=leg.expert, g=clock: e(flat.view(1, *shape), g).flatten()  # noqa: E731
                jacobian = torch.autograd.functional.jacobian(of, row.flatten()).double().numpy()
                pairs = np.triu((jacobian + jacobian.T) ** 2, 1) * _core.sigma(np.array([gamma]))[0] ** 2
                one += pairs.sum()
                for k in left:
                    own = colours(k, shape)
                    left[k] += pairs[np.equal.outer(own, own)].sum()
    assert d in (64, 192)
    for found, least in zip(left.values(), gains, strict=True):
        assert one / found > least
