"""The expert half of the corpus: each checkpoint is refused or loaded as it must be, none is executed."""

import os

import pytest
import torch
from tests.faults import (
    clocks,
    diffusers_folders,
    legacy_files,
    lucid_tables,
    msgpacks,
    pickles,
    public_states,
    safetensors_headers,
    shards,
    snapshots,
    states,
    storages,
    torch_zips,
    words,
)
from tests.faults.harness import check_family

from merged_diffusion.experts.cards import load_expert

PUBLIC = (public_states, lucid_tables, words, legacy_files, snapshots, clocks, shards)
FAMILIES = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (
        *(pickles, storages, torch_zips, msgpacks, safetensors_headers, states, diffusers_folders),
        *PUBLIC,
    )
}
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def load(case):
    """What a user's command does first; a forked child has no other threads to work with."""
    torch.set_num_threads(1)
    load_expert(case.path, **case.options)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    check_family(FAMILIES[name], load, tmp_path)


def test_size_of_the_corpus(tmp_path):
    """As many attacks, and as many honest files, as the corpus is to have."""
    cases = {name: module.cases(tmp_path / name, tmp_path / "canary") for name, module in FAMILIES.items()}
    attacks = {name: [case for case in found if case.exit_code] for name, found in cases.items()}
    assert len(attacks["pickles"]) >= 60
    assert sum(len(attacks[name]) for name in ("safetensors_headers", "torch_zips", "msgpacks")) >= 30
    public = [module.__name__.rsplit(".", 1)[1] for module in PUBLIC]
    assert sum(len(attacks[name]) for name in public) >= 500
    assert sum(case.exit_code == 0 for name in public for case in cases[name]) >= 40
    assert sum(case.exit_code == 0 for found in cases.values() for case in found) >= 60
    assert len({case.name for found in cases.values() for case in found}) == sum(map(len, cases.values()))
