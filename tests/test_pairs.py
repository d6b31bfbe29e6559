"""Pairs: cards, and models made from them."""

import pytest

from merged_diffusion.errors import MergedDiffusionError, UsageError
from merged_diffusion.pairs import load_pair, pair_card

RANGES = {"digits": (-7.876, 8.764), "photos": (-13.3, 8.764)}


@pytest.mark.parametrize("name", RANGES)
def test_default_is_the_recommended_eta_of_the_card(name):
    model, card = load_pair(name), pair_card(name)
    low, high = RANGES[name]
    assert card.eta_range == model.gamma_range == (low, high)
    assert model.threshold["eta"] == pytest.approx(card.eta)
    assert model.threshold["gamma"] == pytest.approx(low + card.eta * (high - low))


def test_legs_are_the_likelihood_expert_then_the_quality_expert():
    legs = load_pair("photos", eta=0.5).legs("noise")
    assert [leg.role for leg in legs] == ["likelihood", "quality"]
    assert [leg.expert.name for leg in legs] == ["photos-vdm", "photos-edm"]


@pytest.mark.parametrize(("kind", "value"), [("gamma", -2.0), ("edm_sigma", 0.1), ("logsnr", 3.0)])
def test_other_thresholds(kind, value):
    assert load_pair("digits", **{kind: value}).threshold[kind] == pytest.approx(value)


def test_two_thresholds_are_refused():
    with pytest.raises(UsageError, match="eta and gamma were both given"):
        load_pair("digits", eta=0.3, gamma=-2.0)


def test_eta_outside_the_experts_is_refused():
    with pytest.raises(UsageError, match=r"0\.02"):
        load_pair("photos", eta=0.02)


def test_unknown_pair_lists_the_known():
    with pytest.raises(UsageError, match="known: digits, photos, cifar10"):
        load_pair("cifar")


def test_pair_whose_files_this_version_cannot_read():
    assert pair_card("cifar10").eta_range == (-13.3, 8.764)
    with pytest.raises(MergedDiffusionError, match="try the pair photos") as error:
        load_pair("cifar10")
    assert error.value.exit_code == 4
