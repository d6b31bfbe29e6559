"""Summaries and identities: their JSON is what was always written, key for key."""

import json
from pathlib import Path

import pytest

from merged_diffusion.jobs.identity import Identity
from merged_diffusion.jobs.summary import Summary
from merged_diffusion.scores.means import MeansOfBounds, MeansOfDensities, MeansOfLikelihoods

REFERENCE = Path(__file__).parents[1] / "reference"
SUMMARIES = sorted((REFERENCE / "summaries").glob("*.json"))
STORED = {path.stem: json.loads(path.read_text("utf-8")) for path in SUMMARIES}
SETTINGS = [REFERENCE / folder / "settings.json" for folder in ("run-format-1", "run-of-shared-steps")]
OF_A_RUN = ("format", "versions", "selections")


@pytest.mark.parametrize("name", STORED)
def test_a_summary_is_read_and_written_in_the_same_order(name):
    summary = Summary.from_dict(STORED[name])
    assert json.dumps(summary.as_dict()) == json.dumps(STORED[name])
    assert Summary.from_dict(summary.as_dict()) == summary


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.parent.name)
def test_settings_begin_with_the_identity(path):
    settings = json.loads(path.read_text("utf-8"))
    identity = Identity.from_dict(settings)
    own = {key: value for key, value in settings.items() if key not in OF_A_RUN}
    assert json.dumps(identity.as_dict()) == json.dumps(own)
    assert Identity.from_dict(identity.as_dict()) == identity


@pytest.mark.parametrize("key", ["command", "settings", "data", "threshold", "legs", "experts"])
def test_settings_without_a_key_are_no_identity(key):
    settings = json.loads(SETTINGS[0].read_text("utf-8"))
    del settings[key]
    with pytest.raises(TypeError, match=key):
        Identity.from_dict(settings)


@pytest.mark.parametrize(
    ("name", "kind"), [("adams", MeansOfLikelihoods), ("none", MeansOfDensities), ("vlbr", MeansOfBounds)]
)
def test_means_know_what_they_are_of(name, kind):
    assert type(Summary.from_dict(STORED[name]).means) is kind
