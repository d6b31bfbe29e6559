"""The figures of the documents are those of the records that are kept beside them (recipes/publish.py)."""

import importlib.util
import re
import subprocess
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
    # Of those that were kept before a record named its commit, it is not known.
    assert len({record.get("commit") for record in records.values()}) == 1
    for record in records.values():
        names = [{row["name"] for row in rows} for rows in record["likelihood"].values()]
        assert all(others == names[0] for others in names)
        assert f"eta {record['recommended']:.4f}" in names[0]


def test_a_record_names_the_commit_it_is_of(publish, tmp_path):
    def git(*words):
        own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", "-C", tmp_path, *own, *words], check=True, capture_output=True, text=True
        )

    for folder in ("python", "docs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("one")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD").stdout.strip()
    (tmp_path / "docs" / "file").write_text("two")
    assert publish.commit(tmp_path) == head
    (tmp_path / "python" / "file").write_text("two")
    assert publish.commit(tmp_path) == f"{head} and changes"


def test_reports_name_no_folder_of_a_machine():
    for page in sorted((ROOT / "docs" / "reports").glob("*.html")):
        text = page.read_text(encoding="utf-8")
        assert f"results/publish/{page.stem}/nll" in text
        assert not re.findall(r"(?:· |>)/(?:work|dev/shm|home|tmp|root)/", text), page.name
