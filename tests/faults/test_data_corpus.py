"""The data half of the corpus: each file is refused or read as it must be."""

import os

import pytest
from tests.faults import archives, arrays, batches, images, records
from tests.faults.harness import check_family

from merged_diffusion.data import load_data

FAMILIES = {
    module.__name__.rsplit(".", 1)[1]: module for module in (archives, arrays, batches, images, records)
}
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    # Python 3.12 and later warn of threads, which torch starts; the children never touch torch.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def load(case):
    """What a user's command does first."""
    load_data(case.path, **case.options)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    check_family(FAMILIES[name], load, tmp_path)


def test_size_of_the_corpus(tmp_path):
    """As many attacks, and as many honest files, as the corpus is to have."""
    cases = [
        case
        for name, module in FAMILIES.items()
        for case in module.cases(tmp_path / name, tmp_path / "canary")
    ]
    attacks = [case for case in cases if case.exit_code and case.name.startswith("archives/")]
    assert len(attacks) >= 40
    assert sum(case.exit_code == 0 for case in cases) >= 20
    assert len(cases) >= 300
