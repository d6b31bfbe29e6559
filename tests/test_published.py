"""The figures of the documents are those of the records that are kept beside them (recipes/publish.py)."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "recipes" / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_show_what_the_records_hold(publish):
    records = publish.kept()
    found = set()
    for document in publish.documents():
        text = document.read_text(encoding="utf-8")
        assert publish.published(text, records) == text, f"python recipes/publish.py write ({document.name})"
        found |= {name for _, name, _ in publish.MARK.findall(text)}
    sets = {f"{name}-{solver}" for name, scope in publish.SETS.items() for solver in scope.solvers}
    assert found == {"summary", *sets}


def test_a_figure_that_was_changed_by_hand_is_found(publish):
    records = publish.kept()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = f"{publish.chosen(records['photos'], 'adams')['bits_per_dim']:.3f}"
    assert text.count(f"**{shown}**") == 1
    edited = text.replace(f"**{shown}**", "**2.718**")
    assert publish.published(edited, records) == text


def test_records_are_of_one_version(publish):
    records = publish.kept()
    versions = [record["versions"] for record in records.values()]
    assert all(other == versions[0] for other in versions)
    for record in records.values():
        names = [{row["name"] for row in rows} for rows in record["likelihood"].values()]
        assert all(others == names[0] for others in names)
        assert f"eta {record['recommended']:.4f}" in names[0]


def test_reports_name_no_folder_of_a_machine():
    for page in sorted((ROOT / "docs" / "reports").glob("*.html")):
        text = page.read_text(encoding="utf-8")
        assert f"results/publish/{page.stem}/nll" in text
        assert not re.findall(r"(?:· |>)/(?:work|dev/shm|home|tmp|root)/", text), page.name
