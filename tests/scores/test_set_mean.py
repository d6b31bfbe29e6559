"""`estimate_mean`: which features it takes, what it refuses, and that it is JSON and back."""

import dataclasses

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.bound import Bound
from merged_diffusion.data.pixel_features import pixel_features
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.set_mean import MeanOverSet, Planned, estimate_mean


@pytest.fixture(scope="module")
def photos():
    return md.load_data("photos")


def likelihood(ids, bits, se_probe=0.01):
    return Likelihood(tuple(record(i, b, se_probe=se_probe) for i, b in zip(ids, bits, strict=True)), 192)


def record(image, bits, **more):
    return Record(
        id=int(image),
        status="ok",
        bits_per_dim=float(bits),
        evaluations={"likelihood": 8, "quality": 0},
        **more,
    )


def chosen(photos, n, slope=1.0):
    """Scores of n photos that are linear in the first feature, and their mean over all photos."""
    bits = 1 + slope * pixel_features(photos).values[:, 0]
    ids = photos.select(limit=n).ids
    return likelihood(ids, bits[ids]), bits.mean()


def test_what_is_linear_in_a_feature_has_its_exact_mean(photos):
    scores, mean = chosen(photos, 12)
    found = estimate_mean(scores, photos)
    assert found.mean == pytest.approx(mean)
    assert found.mean != pytest.approx(scores.mean, abs=1e-3)
    assert found.features == ("roughness",)
    assert found.se_choice < 1e-9
    assert found.se == pytest.approx(found.se_probe) == pytest.approx(0.01 / np.sqrt(360))


@pytest.mark.parametrize(("n", "count"), [(7, 0), (8, 1), (47, 1), (48, 6)])
def test_a_feature_takes_eight_exact_runs(photos, n, count):
    found = estimate_mean(chosen(photos, n)[0], photos)
    assert len(found.features) == count
    assert len(found.left_out) == 6 - count
    assert set(found.left_out.values()) <= {f"6 features take 48 exact runs, {n} were made"}


def test_the_bound_is_a_feature_beside_the_first_or_all_of_them(photos):
    scores, _ = chosen(photos, 48, slope=0)
    noise = np.random.default_rng(0).standard_normal(360)
    exact = likelihood(scores.ids, 3 + noise[scores.ids])
    bound = Bound(tuple(record(i, 3 + 2 * value) for i, value in enumerate(noise)), 192)
    few = estimate_mean(exact, photos, bound=bound)
    assert few.features == ("roughness", "bound")
    assert few.mean == pytest.approx(3 + noise.mean())
    assert few.bound_calls == 8 * 360
    more = likelihood(ids := photos.select(limit=56).ids, 3 + noise[ids])
    assert estimate_mean(more, photos, bound=bound).features[-2:] == ("chroma roughness", "bound")
    assert estimate_mean(exact[:8], photos, bound=bound).features == ("bound",)


def test_features_that_say_nothing_are_left_out_with_the_reason():
    data = md.make_data("flat", "test", np.arange(64, dtype=np.uint8).reshape(64, 1, 1, 1).repeat(4, 2), 64)
    found = estimate_mean(likelihood(range(20), np.linspace(1, 2, 20)), data)
    assert found.features == ()
    assert found.left_out["roughness"] == "does not vary over the set"
    assert found.saved == pytest.approx(1)
    assert not found.pays
    assert "no feature" in repr(found)


def test_without_errors_of_probes_only_the_choice_has_one(photos):
    scores, _ = chosen(photos, 12)
    found = estimate_mean(likelihood(scores.ids, scores.bits_per_dim, se_probe=None), photos)
    assert (found.se_probe, found.error) == (None, None)
    assert found.se == found.se_choice
    assert (found.untold, found.missing) == (("probe", "draws"), ())  # 12 of 360 images are few


def noisy(ids, bits, random, repeats, sd=0.2, **more):
    """Scores that are the mean of so many draws of noise, and have no error but theirs; and the true mean."""
    found = []
    for image in ids:
        draws = bits[image] + sd * random.standard_normal(repeats)
        nats = (-192 * np.log(2) * draws).tolist() if repeats > 1 else None
        found.append(record(image, draws.mean(), draws=nats, **more))
    return Likelihood(tuple(found), 192)


@pytest.mark.parametrize("n", [20, 40])
def test_noise_that_repeats_tell_is_in_the_interval_whatever_share_was_measured(photos, n):
    """400 choices and draws: three standard errors of a share of 95 % are 3.3 %."""
    random, held, without = np.random.default_rng(n), 0, 0
    few = photos.select(limit=40)
    bits = dict(zip(few.ids.tolist(), 3 + 0.3 * random.standard_normal(40), strict=True))
    mean = np.mean(list(bits.values()))
    for _ in range(400):
        ids = random.permutation(few.ids)[:n]
        scores = noisy(ids, bits, random, 4)
        found = estimate_mean(scores, few)
        held += found.low <= mean <= found.high
        bare = Likelihood(tuple(dataclasses.replace(r, draws=None, se_probe=0.0) for r in scores), 192)
        alone = estimate_mean(bare, few)
        without += alone.low <= mean <= alone.high
    assert (found.untold, found.missing) == ((), ())
    assert 0.91 < held / 400 < 0.985
    # Without them the noise is unknown, the interval one of the mean with these draws, and says so.
    assert alone.missing == ("draws",)
    assert alone.se_probe == 0
    assert without < held


def test_a_probe_whose_error_nothing_tells_leaves_no_interval(photos):
    few = photos.select(limit=40)
    scores = likelihood(few.ids[:5], 3 + 0.1 * np.arange(5.0), se_probe=None)
    found = estimate_mean(scores, few)
    assert found.missing == ("probe", "draws")
    assert (found.se, found.low, found.high) == (None, None, None)
    assert found.se_choice > 0
    assert found.runs_for(0.1 / 3) is None  # about a half of the set
    assert "±" not in repr(found)
    # Few of many: what is left out is a tenth of the variance at most.
    found = estimate_mean(likelihood(photos.ids[:5], 3 + 0.1 * np.arange(5.0), se_probe=None), photos)
    assert found.low < found.mean < found.high
    assert found.runs_for(0.05) < 36
    assert found.runs_for(0.02) is None
    # Repeats have probes of their own and tell both.
    bits = dict.fromkeys(few.ids.tolist(), 3.0)
    found = estimate_mean(noisy(few.ids, bits, np.random.default_rng(0), 3), few)
    assert (found.untold, found.se_probe) == ((), found.se)


def test_errors_of_bounds_are_those_of_their_times(photos):
    few = photos.select(limit=40)
    found = estimate_mean(Bound(tuple(record(i, 3 + i % 3) for i in few.ids), 192), few)
    assert (found.missing, found.low) == (("times",), None)
    found = estimate_mean(Bound(tuple(record(i, 3 + i % 3, se_times=0.1) for i in few.ids), 192), few)
    assert found.missing == ()
    assert found.se == pytest.approx(0.1 / np.sqrt(40))


def test_runs_for_an_error(photos):
    scores, _ = chosen(photos, 12)
    noisy = likelihood(scores.ids, scores.bits_per_dim + 0.1 * np.sin(np.arange(12)))
    found = estimate_mean(noisy, photos)
    assert 12 < found.runs_for(0.01) < 360
    assert found.runs_for(0.01 / np.sqrt(360) / 2) is None
    with pytest.raises(UsageError, match="no standard error"):
        found.runs_for(0)
    with pytest.raises(UsageError, match="do not tell"):
        estimate_mean(scores[:1], photos).runs_for(0.01)


def test_it_is_json_and_back(photos):
    found = estimate_mean(chosen(photos, 12)[0], photos)
    for one in (found, dataclasses.replace(found, planned=Planned(0.01, 40), bound_calls=7)):
        assert MeanOverSet.from_dict(one.as_dict()) == one
    assert "planned" not in found.as_dict()


def test_what_cannot_be_a_random_choice_of_the_set_is_refused(photos):
    scores, _ = chosen(photos, 12)
    with pytest.raises(UsageError, match="has not each of the 12 images"):
        estimate_mean(scores, photos[:100])
    twice = likelihood([0, 0], [1.0, 2.0])
    with pytest.raises(UsageError, match="has not each of the 2 images"):
        estimate_mean(twice, photos)
    failed = Record(id=0, status="nonfinite", evaluations={})
    with pytest.raises(UsageError, match="1 of 1 images failed"):
        estimate_mean(Likelihood((failed,), 192), photos)
    with pytest.raises(UsageError, match="no image"):
        estimate_mean(Likelihood((), 192), photos)
    with pytest.raises(UsageError, match="no bits/dim"):
        estimate_mean(Likelihood(scores.records, 192, dequantise="none"), photos)
    with pytest.raises(UsageError, match="bound is of 12 images"):
        estimate_mean(scores, photos, bound=Bound(scores.records, 192))
