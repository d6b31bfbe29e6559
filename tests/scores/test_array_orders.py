"""Images, points, labels and ids are the same whatever their order in memory is."""

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.data.images import in_order, make_data
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert

SHAPE, LEVELS = (1, 4, 3), 17
EXPERT = GaussianExpert(SHAPE, variance=0.2, gamma_range=(-8.5, 6.0), levels=LEVELS)
PROBES = md.Probes(kind="exact")
PIXELS = np.random.RandomState(0).randint(0, LEVELS, (5, *SHAPE)).astype(np.uint8)


def flipped(values):
    """The same values, every axis against its order in memory."""
    turn = (slice(None, None, -1),) * values.ndim
    return values[turn].copy()[turn]


def read_only(values):
    copy = values.copy()
    copy.flags.writeable = False
    return copy


def foreign(values):
    return values.astype(values.dtype.newbyteorder())


def gaps(values):
    wide = np.zeros((*values.shape, 3), dtype=values.dtype)
    wide[..., 1] = values
    return wide[..., 1]


ORDERS = pytest.mark.parametrize("order", [flipped, np.asfortranarray, read_only, foreign, gaps])


@ORDERS
def test_scores_do_not_depend_on_the_order_in_memory(order):
    plain = md.log_likelihood(EXPERT, PIXELS, np.arange(5), probes=PROBES)
    found = md.log_likelihood(EXPERT, order(PIXELS), order(np.arange(5)), probes=PROBES)
    np.testing.assert_array_equal(found.bits_per_dim, plain.bits_per_dim)
    bound = md.variational_bound(EXPERT, order(PIXELS), times=8)
    np.testing.assert_array_equal(
        bound.bits_per_dim, md.variational_bound(EXPERT, PIXELS, times=8).bits_per_dim
    )
    data = md.log_likelihood(EXPERT, make_data("own", "test", order(PIXELS), LEVELS), probes=PROBES)
    np.testing.assert_array_equal(data.bits_per_dim, plain.bits_per_dim)


@ORDERS
def test_densities_and_closed_forms_do_not_depend_on_it(order):
    x = np.random.RandomState(1).normal(size=(3, *SHAPE)) / 2
    plain = md.log_density(EXPERT, x, probes=PROBES)
    np.testing.assert_array_equal(md.log_density(EXPERT, order(x), probes=PROBES), plain)
    variance = np.linspace(0.1, 0.4, 12).reshape(SHAPE)
    one, two = (GaussianExpert(SHAPE, variance=each, levels=LEVELS) for each in (variance, order(variance)))
    z, gamma = torch.from_numpy(x), torch.zeros(3, dtype=torch.float64)
    assert torch.equal(one(z, gamma), two(z, gamma))


@ORDERS
def test_distances_and_gates_do_not_depend_on_it(order):
    images = md.load_data("digits").images[:80]
    plain, found = (md.assess(each, "digits")["primary"]["value"] for each in (images, order(images)))
    assert found == pytest.approx(plain, rel=1e-12)
    gate = md.Gate(-5.0, 3.0)
    at = np.linspace(-6, 4, 9)
    np.testing.assert_array_equal(gate(order(at)), gate(at))


def test_tensors_with_odd_strides_are_taken():
    plain = md.log_likelihood(EXPERT, PIXELS, probes=PROBES).bits_per_dim
    turned = torch.from_numpy(PIXELS).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    np.testing.assert_array_equal(md.log_likelihood(EXPERT, turned, probes=PROBES).bits_per_dim, plain)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = torch.stack([x, x], dim=-1)[..., 0]
    np.testing.assert_array_equal(
        md.log_density(EXPERT, wide, probes=PROBES), md.log_density(EXPERT, x, probes=PROBES)
    )
    means = torch.from_numpy(PIXELS[:2] / 17.0).permute(0, 1, 3, 2)
    assert GaussianMixtureExpert(means, variance=0.1).image_shape == (1, 3, 4)


def test_an_axis_of_one_loses_its_stride_too():
    values = PIXELS[:, ::-1]
    assert min(in_order(values).strides) > 0
    assert np.shares_memory(in_order(PIXELS), PIXELS)
