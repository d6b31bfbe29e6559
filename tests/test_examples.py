"""The examples as files of experts: what their first lines say runs."""

import re
import shlex
from pathlib import Path

import pytest

from merged_diffusion.cli import main

ROOT = Path(__file__).parents[1]
COMMANDS = [
    found
    for path in sorted((ROOT / "examples").glob("*.py"))
    for found in re.findall(
        r"^    merged-diffusion (.*)$", path.read_text("utf-8").replace("\\\n", " "), re.MULTILINE
    )
]


def test_two_examples_show_a_command():
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_of_an_example_runs(line, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    assert main([*shlex.split(line), "--threads", "1", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^likelihood +\d\.\d+ ± \d\.\d+ bits/dim|bits/dim", out, re.MULTILINE)
    assert "running the code of examples/" in err


def test_every_example_is_listed():
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+\.py)`", text, re.MULTILINE)) == {
        path.name for path in (ROOT / "examples").glob("*.py")
    }
