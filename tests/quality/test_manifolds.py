"""Precision, recall, density and coverage against their definitions, pair by pair, and planted outliers."""

import numpy as np
import pytest

from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.quality.manifolds import METRICS, Manifolds


def squares(a, b):
    return ((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(axis=2)


def radii(rows, k):
    """Squared distances to the k-th nearest other row; the row itself is one of the k + 1 nearest."""
    return np.sort(squares(rows, rows), axis=1)[:, k]


def by_definition(x, y):
    inside = {k: squares(x, y) <= radii(y, k)[None] for k in (3, 5)}
    return {
        "precision": inside[3].any(axis=1).mean(),
        "recall": (squares(y, x) <= radii(x, 3)[None]).any(axis=1).mean(),
        "density": inside[5].sum() / (5 * len(x)),
        "coverage": inside[5].any(axis=0).mean(),
    }


def measured(x, y, ids=None, batch=17):
    manifolds = Manifolds(y)
    ids = np.arange(len(x)) if ids is None else ids
    for at in range(0, len(x), batch):
        manifolds.add(x[at : at + batch], ids[at : at + batch])
    return manifolds.result()


def cloud(n, dim, seed, shift=0.0):
    """Points in float32, a fifth of them equal to others."""
    rows = np.random.default_rng(seed).standard_normal((n, dim)) + shift
    rows[: n // 5] = rows[-(n // 5) :]
    return rows.astype(np.float32)


@pytest.mark.parametrize(("n", "r", "dim", "shift"), [(60, 80, 2, 0.5), (80, 60, 8, 0.2), (7, 6, 1, 0.0)])
def test_metrics_are_those_of_the_definitions(n, r, dim, shift):
    x, y = cloud(n, dim, 1, shift), cloud(r, dim, 2)
    x[:3] = y[:3]
    found = measured(x, y)
    assert list(found) == list(METRICS)
    for name, value in by_definition(x, y).items():
        # Shares of counts; density is a sum of counts over 5 n.
        assert found[name].value == pytest.approx(value, rel=1e-14)
        assert found[name].n == n


def test_replicates_are_the_metrics_without_a_group():
    x, y = cloud(70, 3, 1, 0.4), cloud(50, 3, 2)
    ids = np.random.default_rng(3).permutation(1000)[:70]
    found = measured(x, y, ids)
    for position, group in enumerate(np.unique(ids % 16)):
        for name, value in by_definition(x[ids % 16 != group], y).items():
            assert found[name].replicates[position] == pytest.approx(value, rel=1e-14)
    for share in found.values():
        values = np.array(share.replicates)
        variance = (len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum()
        assert share.se == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_standard_errors_are_the_spread_of_repeated_draws():
    y = np.random.default_rng(0).standard_normal((400, 4))
    draws = [np.random.default_rng(seed).standard_normal((320, 4)) + 0.5 for seed in range(1, 61)]
    found = [measured(x, y, batch=320) for x in draws]
    for name in METRICS:
        spread = np.std([shares[name].value for shares in found], ddof=1)
        stated = np.sqrt(np.mean([shares[name].se ** 2 for shares in found]))
        # 60 draws know a spread to 1/sqrt(120) = 9 %; the jackknife is narrower by 3 of these at most. A
        # share that grows with n is not smooth in a group of twenty: it is wider by up to a half there.
        assert 0.73 * spread < stated < 1.75 * spread


def test_planted_outliers_lower_precision_by_their_share():
    random = np.random.default_rng(5)
    y, x = random.standard_normal((2000, 6)), random.standard_normal((1000, 6))
    clean = measured(x, y, batch=1000)
    x[:150] += 100
    planted = measured(x, y, batch=1000)
    lost = clean["precision"].value - planted["precision"].value
    assert abs(lost - 0.15 * clean["precision"].value) < 0.02
    # Outliers of the samples are farther apart than what they would have to reach.
    assert planted["density"].value == pytest.approx(0.85 * clean["density"].value, abs=0.02)


def test_a_part_of_the_law_that_is_not_drawn_is_missing_from_recall_and_coverage():
    random = np.random.default_rng(6)
    y = random.standard_normal((2000, 6))
    y[:600] += 50
    x = random.standard_normal((1000, 6))
    found = measured(x, y, batch=1000)
    assert found["precision"].value > 0.9
    assert found["recall"].value < 0.7 + 0.02
    assert found["coverage"].value < 0.7 + 0.02


def test_images_of_the_reference_itself_are_in_its_balls():
    y = cloud(100, 3, 7)
    found = measured(y, y)
    # Each of its own: every image lies in its own ball, which has 5 more, or as many as ties make.
    assert [found[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found["density"].value >= 6 / 5


def test_equal_samples_cover_one_place():
    y = np.random.default_rng(8).standard_normal((100, 3))
    x = np.repeat(y[:1], 40, axis=0)
    found = measured(x, y)
    assert found["precision"].value == 1
    assert found["recall"].value == 0.01  # balls of radius 0 hold that one image
    assert found["recall"].se == 0
    assert found["coverage"].value == (squares(y[:1], y) <= radii(y, 5)[None]).mean()


def test_samples_are_rounded_as_the_reference_is():
    y = np.random.default_rng(9).standard_normal((100, 3)).astype(np.float16)
    x = (y.astype(float) * (1 + 1e-5))[:20]  # a twentieth of the spacing of float16
    assert measured(x, y)["recall"].value == measured(y[:20], y)["recall"].value
    huge = np.full((20, 3), 1e9) + np.arange(20)[:, None]
    assert measured(huge, y)["precision"].value == 0


def test_metrics_do_not_depend_on_batches():
    x, y = cloud(70, 3, 1, 0.4), cloud(50, 3, 2)
    assert measured(x, y, batch=70) == measured(x, y, batch=3)


def test_only_the_first_ten_thousand_count(monkeypatch):
    from merged_diffusion.quality import manifolds

    monkeypatch.setattr(manifolds, "MOST", 40)
    x, y = cloud(70, 3, 1, 0.4), cloud(50, 3, 2)
    found = measured(x, y)
    assert found["precision"].n == 40
    for name, value in by_definition(x[:40], y[:40]).items():
        assert found[name].value == pytest.approx(value, rel=1e-14)


def test_few_images_have_no_error_and_fewer_no_metrics():
    y = cloud(50, 3, 2)
    assert measured(cloud(20, 3, 1), y, ids=np.arange(20) * 16)["recall"].se is None  # one group
    two = np.r_[np.zeros(17, dtype=int), 1, 1, 1]  # without the first group, three samples are left
    assert measured(cloud(20, 3, 1), y, ids=two)["recall"].se is None
    with pytest.raises(UsageError, match="5 images; neighbours take 6 or more"):
        measured(cloud(5, 3, 1), y)
    with pytest.raises(UsageError, match="5 reference features; neighbours take 6 or more"):
        Manifolds(y[:5])
    with pytest.raises(DataError, match="features of image 3 are not finite"):
        Manifolds(y).add(np.array([[0, 1, 2], [0, np.nan, 1]]), np.array([2, 3]))
