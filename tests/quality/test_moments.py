"""Moments are those of all features at once, whatever the batches, bit for bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.quality import Moments
from merged_diffusion.quality.frechet import frechet_distance
from merged_diffusion.quality.moments import GROUPS, Law


def features(n: int, dim: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((n, dim)) @ random.standard_normal((dim, dim)) + 3


def law_of(x: np.ndarray, cuts: list[int] | None = None, ids: np.ndarray | None = None):
    moments = Moments(x.shape[1])
    ids = np.arange(len(x)) if ids is None else ids
    edges = [0, *sorted(cuts or []), len(x)]
    for start, end in itertools.pairwise(edges):
        moments.add(x[start:end], ids[start:end])
    return moments.law()


def test_moments_are_those_of_numpy():
    x = features(5000, 7)
    law = law_of(x)
    assert law.n == 5000
    # Sums of 5000 float64 terms, each with a relative error of 1e-16.
    np.testing.assert_allclose(law.mean.numpy(), x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(law.covariance.numpy(), np.cov(x, rowvar=False), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=12))
def test_streamed_moments_are_the_same_bits_whatever_the_batches(cuts):
    x = features(3000, 5)
    law, streamed = law_of(x), law_of(x, cuts)
    assert torch.equal(law.mean, streamed.mean)
    assert torch.equal(law.covariance, streamed.covariance)
    for one, other in zip(law.groups, streamed.groups, strict=True):
        assert one.n == other.n
        assert torch.equal(one.scatter, other.scatter)


def test_a_large_mean_costs_no_digits():
    x = features(4000, 4)
    law, shifted = law_of(x), law_of(x + 1e6)
    # The features themselves are rounded at 1e6 * 1e-16; raw sums of squares would lose 1e12 * 1e-16.
    np.testing.assert_allclose(shifted.covariance.numpy(), law.covariance.numpy(), atol=1e-8)


def test_delete_one_leaves_out_the_images_of_one_group():
    x, ids = features(200, 3), np.arange(100, 300)
    for group, part in enumerate(law_of(x, ids=ids).delete_one()):
        rest = x[ids % GROUPS != group]
        assert part.n == len(rest)
        np.testing.assert_allclose(part.mean.numpy(), rest.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(part.covariance.numpy(), np.cov(rest, rowvar=False), rtol=1e-10)


def test_images_of_one_group_cannot_be_jackknifed():
    assert not list(law_of(features(20, 3), ids=np.arange(20) * GROUPS).delete_one())


def test_a_group_whose_loss_leaves_one_image_takes_the_error_away():
    # Two of group 0, one of group 1: without group 0 one image is left, which has no covariance.
    law = law_of(features(3, 3), ids=np.array([0, GROUPS, 1]))
    assert not list(law.delete_one())
    assert frechet_distance(law, law_of(features(40, 3, seed=1))).se > 0  # of the reference's groups alone
    bare = Law(law.mean, law.covariance, None)
    assert frechet_distance(law, bare).se is None


def test_a_later_change_of_the_array_changes_nothing():
    x = features(50, 3)
    moments = Moments(3)
    moments.add(x, np.arange(50))
    expected = np.cov(x, rowvar=False)
    x[:] = 0
    np.testing.assert_allclose(moments.law().covariance.numpy(), expected, rtol=1e-12)


def test_nan_features_are_refused_with_index():
    x = features(50, 3)
    x[7, 1] = np.nan
    with pytest.raises(DataError, match="features of image 107 are not finite") as caught:
        Moments(3).add(x, np.arange(100, 150))
    assert caught.value.fields["image"] == 107


def test_one_image_has_no_covariance():
    moments = Moments(3)
    moments.add(np.ones((1, 3)), np.array([0]))
    with pytest.raises(UsageError, match="1 images have no covariance"):
        moments.law()


def test_features_of_another_network_are_refused():
    with pytest.raises(UsageError, match=r"features of shape \[2, 4\], expected \[2, 3\]"):
        Moments(3).add(np.ones((2, 4)), np.arange(2))
