"""Pairs: cards, and models made from them."""

import pytest

from merged_diffusion.catalogue.entries import KINDS, known, pair_card, public
from merged_diffusion.errors import CheckpointError, UsageError
from merged_diffusion.pairs import load_pair

RANGES = {"digits": (-7.876, 8.764), "photos": (-13.3, 8.764), "scenes": (-13.3, 8.764)}


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
    with pytest.raises(UsageError, match="known: digits, photos, scenes, cifar10"):
        load_pair("cifar")


def test_public_pair_that_is_not_in_the_cache_names_both_experts(tmp_path):
    assert pair_card("cifar10").eta_range == (-13.3, 8.764)
    with pytest.raises(
        CheckpointError, match=r"google-vdm-cifar10(.|\n)*edm-cifar10-32x32-uncond-vp"
    ) as error:
        load_pair("cifar10", cache=tmp_path)
    assert error.value.exit_code == 4
    assert "fetch cifar10" in error.value.message


def test_preferred_expert_is_taken_where_it_is_there(tmp_path):
    card = pair_card("cifar10")
    assert card.sources(tmp_path)["likelihood"] == "google-vdm-cifar10"
    folder = tmp_path / "experts" / "addtt-vdm-cifar10"
    folder.mkdir(parents=True)
    (folder / "model.pt").touch()
    assert card.sources(tmp_path)["likelihood"] == "google-vdm-cifar10"  # config.yaml is missing still
    (folder / "config.yaml").touch()
    assert card.sources(tmp_path)["likelihood"] == "addtt-vdm-cifar10"


def test_every_part_of_a_pair_is_known():
    for name in known()["pair"]:
        card = pair_card(name)
        for source in (card.likelihood, card.quality):
            assert source.startswith("bundled:") or public("expert", source) is not None
        assert card.preferred is None or public("expert", card.preferred) is not None
        assert card.stats is None or public("stats", card.stats) is not None
        assert card.data in known()["data"]


@pytest.mark.parametrize("kind", KINDS)
def test_public_things_say_where_they_come_from_and_where_they_go(kind):
    found = [entry for name in known()[kind] if (entry := public(kind, name)) is not None]
    assert found
    for entry in found:
        assert entry.title
        assert entry.licence
        assert bool(entry.downloads) != bool(entry.by_hand)
        assert entry.source.startswith("https://")
        for item in entry.downloads:
            assert item.url.startswith("https://")
            assert item.at == entry.at or item.at.startswith(entry.at + "/")
