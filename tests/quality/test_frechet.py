"""Frechet distances of laws whose distance is known, and standard errors against repeated draws."""

import numpy as np
import pytest
import torch

from merged_diffusion.errors import UsageError
from merged_diffusion.quality import Law, Moments, difference, frechet_distance
from merged_diffusion.quality.frechet import triangular_root


def law(mean, covariance, n=None) -> Law:
    as_tensor = torch.as_tensor(np.asarray(covariance, dtype=np.float64))
    return Law(torch.as_tensor(np.asarray(mean, dtype=np.float64)), as_tensor, n)


def rotated(eigenvalues, seed=0) -> np.ndarray:
    """A covariance of the given eigenvalues; the same seed gives one that commutes."""
    size = len(eigenvalues)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return basis @ np.diag(eigenvalues) @ basis.T


def taken(x: np.ndarray, ids: np.ndarray | None = None) -> Moments:
    moments = Moments(x.shape[1])
    moments.add(x, np.arange(len(x)) if ids is None else ids)
    return moments


@pytest.mark.parametrize("dim", [1, 5, 64, 300])
def test_distance_of_commuting_laws_is_that_of_their_standard_deviations(dim):
    random = np.random.default_rng(dim)
    p, q = random.uniform(0.01, 4, dim), random.uniform(0.01, 4, dim)
    shift = random.standard_normal(dim)
    expected = shift @ shift + ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()
    found = frechet_distance(law(shift, rotated(p)), law(np.zeros(dim), rotated(q))).value
    assert found == pytest.approx(expected, rel=1e-12)


def test_distance_of_two_dimensional_laws_is_the_closed_form():
    # tr (A B)^(1/2) of 2 x 2 matrices: sqrt(tr A B + 2 sqrt(det A det B)).
    a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[0.5, -0.3], [-0.3, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(law([0, 0], a), law([0, 0], b)).value == pytest.approx(expected, rel=1e-13)


def test_distance_of_a_law_from_itself_is_zero():
    a = law(np.ones(80), rotated(np.geomspace(1e-6, 10, 80)))
    # Roots of eigenvalues that are rounded at 1e-16 times the largest, 100.
    assert abs(frechet_distance(a, a).value) < 1e-6


def test_distance_is_symmetric():
    a = law(np.zeros(40), rotated(np.linspace(0.1, 2, 40), 1))
    b = law(np.ones(40), rotated(np.geomspace(0.01, 3, 40), 2))
    assert frechet_distance(a, b).value == pytest.approx(frechet_distance(b, a).value, rel=1e-12)


def test_rank_deficient_laws_have_their_exact_distance():
    # 20 images in 50 dimensions: rank 19; in the basis of the singular vectors the distance is a sum.
    p = np.r_[np.linspace(1, 3, 19), np.zeros(31)]
    q = np.r_[np.zeros(10), np.linspace(0.5, 2, 40)]
    expected = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()
    a, b = law(np.zeros(50), rotated(p), n=20), law(np.zeros(50), rotated(q))
    assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(b, a).value == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("n", [30, 200])
def test_few_images_have_the_distance_of_scipys_root(n):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    random = np.random.default_rng(n)
    x, y = random.standard_normal((n, 40)), 1.3 * random.standard_normal((4000, 40)) + 0.2
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # The root of B^(1/2) A B^(1/2), which is symmetric, exists where A is singular.
    half = scipy_linalg.sqrtm(b).real
    root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ a @ half), 0, None)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(taken(x), taken(y)).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [300, 2000])
def test_moments_and_distance_agree_with_torch_fidelity(n):
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    random = np.random.default_rng(n)
    mix = random.standard_normal((128, 128)) / 8
    x = torch.from_numpy(np.maximum(random.standard_normal((n, 128)) @ mix, 0))
    y = torch.from_numpy(np.maximum(random.standard_normal((n, 128)) @ mix + 0.1, 0))
    stats = [fid.fid_features_to_statistics(features) for features in (x, y)]
    laws = [taken(features.numpy()).law() for features in (x, y)]
    for ours, theirs in zip(laws, stats, strict=True):
        np.testing.assert_allclose(ours.mean.numpy(), theirs["mu"], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(ours.covariance.numpy(), theirs["sigma"], rtol=1e-10, atol=1e-14)
    expected = fid.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*laws).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank", [10, 40])
def test_root_is_triangular_and_squares_to_the_covariance(rank):
    covariance = torch.from_numpy(rotated(np.r_[np.linspace(1, 2, rank), np.zeros(40 - rank)]))
    root = triangular_root(covariance)
    assert torch.equal(root, root.tril())
    torch.testing.assert_close(root @ root.T, covariance, rtol=0, atol=1e-12)


def draws(seeds, n, dim=6):
    scale = np.linspace(0.5, 2, dim)
    return [taken(np.random.default_rng(seed).standard_normal((n, dim)) * scale + 0.3) for seed in seeds]


def test_standard_error_is_the_spread_of_repeated_draws():
    reference = law(np.zeros(6), np.eye(6))
    distances = [frechet_distance(moments, reference) for moments in draws(range(300), 1600)]
    spread = np.std([distance.value for distance in distances], ddof=1)
    stated = np.sqrt(np.mean([distance.se**2 for distance in distances]))
    # 300 draws know their spread to 1/sqrt(600) = 4 %; a jackknife is a few percent too wide on average.
    assert stated == pytest.approx(spread, rel=0.15)


def test_standard_error_counts_both_sets():
    firsts, seconds = draws(range(200), 800), draws(range(1000, 1200), 800)
    distances = [frechet_distance(a, b) for a, b in zip(firsts, seconds, strict=True)]
    alone = frechet_distance(firsts[0], law(np.zeros(6), np.eye(6)))
    assert len(alone.replicates) == 16
    spread = np.std([distance.value for distance in distances], ddof=1)
    stated = np.sqrt(np.mean([distance.se**2 for distance in distances]))
    # Near zero the distance is quadratic in the errors, where a jackknife is too wide, never too narrow.
    assert spread < stated < 2 * spread


def test_difference_of_sets_from_the_same_noise_has_a_small_error():
    reference = law(np.zeros(6), np.eye(6))
    noise = np.random.default_rng(0).standard_normal((3200, 6))
    a, b = (frechet_distance(taken(scale * noise), reference) for scale in (1.3, 1.32))
    value, se = difference(a, b)
    assert value == a.value - b.value
    assert se < 0.1 * np.hypot(a.se, b.se)
    assert difference(a, frechet_distance(law(np.zeros(6), 2 * np.eye(6)), reference))[1] is None


def test_fewer_than_ten_thousand_images_are_biased():
    reference = law(np.zeros(2), np.eye(2))
    for n, biased in ((9_999, True), (10_000, False)):
        assert frechet_distance(law(np.zeros(2), np.eye(2), n), reference).biased is biased
    assert frechet_distance(reference, law(np.zeros(2), np.eye(2), 500)).biased


def test_other_numbers_of_features_are_refused():
    with pytest.raises(UsageError, match="features of 2 and of 3 values"):
        frechet_distance(law(np.zeros(2), np.eye(2)), law(np.zeros(3), np.eye(3)))


def test_features_themselves_are_taken_as_arrays_and_tensors():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((60, 5)), random.standard_normal((80, 5)) + 0.2
    expected = frechet_distance(taken(a), taken(b))
    assert frechet_distance(a, b) == frechet_distance(torch.from_numpy(a), taken(b)) == expected
    for wrong in (a[0], np.zeros((2, 3, 4, 4)), np.array([["a", "b"]])):
        with pytest.raises(UsageError, match="expected numbers"):
            frechet_distance(wrong, b)
    with pytest.raises(UsageError, match="no covariance"):
        frechet_distance(a[:1], b)
