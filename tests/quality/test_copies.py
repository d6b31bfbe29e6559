"""Copies: planted ones are found in the planted share, a law that was learned has 1 %."""

import numpy as np
import pytest

from merged_diffusion.quality.copies import Copies, Nearness, is_searchable, own_nearness


def distances(a, b):
    return np.sqrt(((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(axis=2))


def share(x, train, nearness=None, ids=None, batch=50):
    copies = Copies(train, nearness)
    ids = np.arange(len(x)) if ids is None else ids
    for at in range(0, len(x), batch):
        copies.add(x[at : at + batch], ids[at : at + batch])
    return copies.result()


def draws(n, seed, dim=16):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def own_ratios(train):
    """|y - y'| / d_5(y'), y' the nearest other of y, d_5 without y: by definition."""
    apart = distances(train, train)
    np.fill_diagonal(apart, np.inf)
    ratios = []
    for i, row in enumerate(apart):
        j = int(row.argmin())
        ratios.append(row[j] / np.sort(np.delete(apart[j], [i, j]))[4])
    return np.array(ratios)


def test_factor_is_that_of_one_hundredth_of_train():
    train = draws(300, 0)
    ratios = own_ratios(train)
    found = own_nearness(train)
    # The third of 300: numpy's lower quantile at 0.01 is the value at position 2.99.
    assert found.factor == pytest.approx(np.sort(ratios)[2], rel=1e-12)
    assert found.share == pytest.approx(0.01, abs=1e-12)


def test_a_choice_of_train_sets_nearly_the_same_factor():
    train = draws(2000, 1)
    whole, chosen = own_nearness(train), own_nearness(train, 500)
    # 500 images know the place of their 1 % to 0.45 %.
    assert 0 < (own_ratios(train) <= chosen.factor).mean() < 0.01 + 3 * 0.0045
    assert whole.share == pytest.approx(0.01, abs=1e-12)


def test_fresh_draws_have_one_hundredth_of_copies():
    train, x = draws(2000, 2), draws(3000, 3)
    found = share(x, train)
    # Binomial: 0.2 % of the samples, 0.2 % of the factor.
    assert abs(found.value - 0.01) < 4 * np.hypot(0.0018, 0.0022)
    assert found.n == 3000


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("planted", [0.0, 0.1, 0.5])
def test_planted_copies_are_found_in_their_share(planted, noise):
    train, x = draws(2000, 4), draws(1000, 5)
    n = int(1000 * planted)
    x[:n] = train[100 : 100 + n] + noise * draws(n, 6)
    copies = Copies(train)
    copies.add(x, np.arange(1000))
    assert abs(copies.result().value - planted) < 0.02
    assert copies.are_copies()[:n].all()


def test_copies_of_what_is_in_train_twice_are_found():
    train, x = draws(2000, 7), draws(1000, 8)
    train[1000:1200] = train[:200]
    x[:100] = train[:100] + 0.02 * draws(100, 9)
    found = share(x, train)
    assert abs(found.value - 0.1) < 0.02
    # Train itself: 400 of 2000 have an equal.
    assert own_nearness(train).share == pytest.approx(0.2 + 0.01, abs=0.004)


def test_equal_images_alone_leave_a_factor_of_0():
    train = np.repeat(draws(5, 10), 20, axis=0)
    assert own_nearness(train) == Nearness(0.0, 1.0)
    x = np.concatenate([train[:4], train[:4] + 1e-3])
    assert share(x, train).value == 0.5


def test_error_is_that_of_groups():
    train, x = draws(500, 11), draws(320, 12)
    x[:100] = train[:100]
    copies = Copies(train)
    copies.add(x, np.arange(320))
    of_group = copies.are_copies().reshape(20, 16).mean(axis=0)
    # Groups of one size: a jackknife of a mean is the error of the mean of groups.
    assert copies.result().se == pytest.approx(of_group.std(ddof=1) / 4, rel=1e-10)
    assert share(x, train, ids=np.arange(320) * 16).se is None


def test_batches_change_nothing():
    train, x = draws(500, 13), draws(100, 14)
    assert share(x, train, batch=7) == share(x, train, batch=100)


def test_all_of_train_is_searched_or_none():
    assert is_searchable(1437, 1437)
    assert not is_searchable(4000, 320_544)
    assert not is_searchable(5, 5)
