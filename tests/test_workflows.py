"""What runs elsewhere is checked here as far as it can be: files parse, and name what there is."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def loaded(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def commands(path: Path) -> str:
    """All that the jobs of a workflow run, a line each."""
    steps = [step for job in loaded(path)["jobs"].values() for step in job["steps"]]
    return "\n".join(step["run"] for step in steps if "run" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_jobs_with_limits_and_few_rights(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert True in workflow  # YAML 1.1 reads the key `on` so
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert all(("run" in step) != ("uses" in step) for step in job["steps"]), name
        assert all("@" in step["uses"] for step in job["steps"] if "uses" in step), name
        assert all(needed in workflow["jobs"] for needed in job.get("needs", ())), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_there_is(path: Path) -> None:
    steps = re.search(r"^steps=\((.*)\)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert steps
    text = commands(path)
    for words in re.findall(r"^\.ci/run(.*)$", text, re.MULTILINE):
        assert set(words.split()) <= set(steps[1].split())
    for name in re.findall(r"\.ci/\w+(?:\.py)?", text):
        assert (ROOT / name).exists(), name
    for group in re.findall(r"--group (\w+)", text):
        assert group in PROJECT["dependency-groups"], group
    for extras in re.findall(r"\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys(), extras


def test_every_version_that_is_promised_is_tested() -> None:
    matrix = loaded(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["tests"]["strategy"]["matrix"]
    named = [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    ]
    assert matrix["python"] == named
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_fields_with_names(path: Path) -> None:
    form = loaded(path)
    if path.name == "config.yml":
        assert all({"name", "url", "about"} == link.keys() for link in form["contact_links"])
        return
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_hooks_are_of_this_environment() -> None:
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        for name in re.findall(r"\S+\.py\b", hook["entry"]):
            assert (ROOT / name).exists(), name


def test_every_licence_that_is_allowed_is_named_once() -> None:
    allowed = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["licenses"]["allow"]
    assert allowed == sorted(set(allowed))


def test_the_version_of_rust_is_told_without_cargo() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "rust_version.py", "--print"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == cargo["workspace"]["package"]["rust-version"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a\nb\n", None),
        (b"a \nb\n", "line 1: spaces at the end of a line"),
        (b"a\r\nb\n", "line 1: a carriage return"),
        (b"a\n<<<<<<< ours\n", "line 2: a mark of a merge"),
        (b"a", "line 1: no newline at the end"),
        (b"\0 \n", None),
    ],
)
def test_faults_of_a_text_are_found(content: bytes, fault: str | None, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("text", ROOT / ".ci" / "text.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path / "text"
    path.write_bytes(content)
    assert module.faults(path) == ([] if fault is None else [fault])
