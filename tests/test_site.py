"""What the site's extensions make of signatures and tables."""

import importlib.util
from pathlib import Path

import pytest

import merged_diffusion as md

nodes = pytest.importorskip("docutils.nodes")
pytest.importorskip("sphinx")
EXTENSIONS = Path(__file__).parents[1] / "docs" / "_extensions"


def extension(name):
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("found", "written", "shown"),
    [
        (md.Likelihood.interval, "(level=LEVEL, *, total=False)", "(level=0.95, *, total=False)"),
        (md.log_likelihood, "(model, seed=SEED)", "(model, seed=0)"),
        (md.log_likelihood, "(model, seed=UNKNOWN)", "(model, seed=UNKNOWN)"),
        (md.load_data, "(name, *, note='A=B')", "(name, *, note='A=B')"),
        (md.UsageError, None, None),
    ],
)
def test_a_signature_shows_the_values_of_its_defaults(found, written, shown):
    made = extension("docstrings").defaults_as_values(None, "function", "name", found, None, written, None)
    assert (made and made[0]) == shown


def test_a_value_and_its_error_stay_together_in_tables_alone():
    page = nodes.document(None, None)
    page += nodes.paragraph("", "1.5 ± 0.1")
    page += nodes.entry("", nodes.paragraph("", "1.5 ± 0.1 (paired)"))
    extension("unbroken").whole_values(None, page)
    assert page[0].astext() == "1.5 ± 0.1"
    assert page[1].astext() == "1.5\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1 (paired)"


def test_short_options_alone_are_kept_on_one_line():
    page = nodes.document(None, None)
    codes = ["--repeats 8", "repeats", "--likelihood-expert network.py:expert"]
    page += [nodes.literal("", code) for code in codes]
    extension("unbroken").whole_options(None, page)
    assert [code["classes"] for code in page] == [["option"], [], []]
