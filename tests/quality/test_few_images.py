"""Fewer images than features: the distance of the matrices of D x D, without one."""

import tracemalloc

import numpy as np
import pytest
import torch

from merged_diffusion import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.quality import Law, Moments, few_images, frechet_distance
from merged_diffusion.quality.features import pixels
from merged_diffusion.quality.few_images import FewImages, Rows, gathered
from merged_diffusion.quality.frechet_cost import frechet_cost
from merged_diffusion.quality.measuring import compare
from merged_diffusion.quality.statistics import collect


def rows(n, dim, seed, shift=0.0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, dim)) * np.linspace(0.2, 2, dim) + shift


def taken(made, features, ids=None):
    made.add(features, np.arange(len(features)) if ids is None else ids)
    return made.law()


@pytest.mark.parametrize(("n_a", "n_b"), [(40, 30), (40, 300), (300, 40)])
def test_distance_error_and_replicates_are_those_of_the_matrices(n_a, n_b):
    a, b = rows(n_a, 90, 1, 0.1), rows(n_b, 90, 2)
    dense = frechet_distance(taken(Moments(90), a), taken(Moments(90), b))
    few = [taken((Rows if n < 90 else Moments)(90), x) for n, x in ((n_a, a), (n_b, b))]
    found = frechet_distance(*few)
    assert found.value == pytest.approx(dense.value, rel=1e-9)
    assert found.se == pytest.approx(dense.se, rel=1e-9)
    np.testing.assert_allclose(found.replicates, dense.replicates, rtol=1e-9)
    assert (found.n_a, found.n_b, found.features) == (n_a, n_b, 90)


def test_distance_of_few_images_from_a_covariance_alone():
    a = rows(20, 90, 1)
    law = Law(torch.zeros(90, dtype=torch.float64), torch.diag(torch.linspace(0.1, 4, 90).double()))
    dense, found = (frechet_distance(taken(made(90), a), law) for made in (Moments, Rows))
    assert found.value == pytest.approx(dense.value, rel=1e-9)
    assert found.se == pytest.approx(dense.se, rel=1e-9)


def test_translated_images_are_at_the_distance_of_the_shift():
    # The same covariance twice: tr A + tr A - 2 tr A = 0, and |shift|^2 is left; of roots of rounding, 1e-7.
    a = rows(15, 200, 3)
    found = frechet_distance(taken(Rows(200), a), taken(Rows(200), a + 0.5))
    assert found.value == pytest.approx(0.25 * 200, rel=1e-7)


def test_one_group_has_no_error_and_one_image_no_covariance():
    a, b = rows(10, 90, 1), taken(Rows(90), rows(10, 90, 2))
    one = frechet_distance(taken(Rows(90), a, np.arange(10) * 16), FewImages(b.rows, b.groups * 0))
    assert (one.se, one.replicates) == (None, ())
    with pytest.raises(UsageError, match="1 images have no covariance"):
        taken(Rows(90), a[:1])


def test_images_are_kept_only_where_that_is_less():
    assert isinstance(gathered(64, 10, "few"), Moments)  # as it always was
    assert isinstance(gathered(2048, 10, "inception"), Moments)
    assert isinstance(gathered(3072, 3072, "pixels"), Rows)
    with pytest.raises(UsageError, match=r"x: covariances of 12288 features, of 16 groups, take 19.3 GB"):
        gathered(12_288, 12_289, "x")
    with pytest.raises(UsageError, match=r"x: 40000 images with 60000 features take 19.2 GB.*--limit 4473"):
        gathered(60_000, 40_000, "x")


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [
        make_data("x", "test", random.integers(256, size=(n, 3, 32, 32), dtype=np.uint8), 256)
        for n in (48, 40)
    ]


def test_48_images_of_3072_values_take_no_matrix_of_them(pictures):
    images, reference = pictures
    used = pixels((3, 32, 32), 256)
    sizes = []
    made = torch.Tensor.__matmul__

    def noted(left, right):
        found = made(left, right)
        sizes.append(found.numel())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "__matmul__", noted)
        tracemalloc.start()
        statistics = collect(reference, used)
        figures = compare(images, statistics, used)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert figures[0].name == "frechet-pixels"
    assert figures[0].se is not None
    assert max(sizes) <= 48 * 3072  # the largest product; a covariance has 9,437,184 values
    assert peak < 2e8  # of numpy; blocks of 1024 rows of features at most
    cost = frechet_cost(48, statistics)
    assert (cost.problems, cost.size, cost.bytes) == (33, 40, 88 * 3072 * 8)
    assert cost.seconds() > 0


def test_distances_are_told_as_they_are_computed(pictures):
    images, reference = pictures
    used, told = pixels((3, 32, 32), 256), []
    compare(images, collect(reference, used), used, solved=told.append)
    assert told == [1] * 33
    a, told = taken(Moments(4), rows(40, 4, 1)), []
    frechet_distance(a, a, observe=told.append)
    assert told == [1] * 33


def test_cost_of_matrices_counts_both_sets():
    statistics = collect(load_data("digits"), pixels((1, 8, 8), 17))
    cost = frechet_cost(200, statistics)
    assert (cost.problems, cost.size) == (33, 64)
    assert cost.bytes == 64**2 * 8 * (2 * 16 + 6)
    assert few_images.matrix_bytes(3072) == 16 * 3072**2 * 8
