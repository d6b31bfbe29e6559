"""Journals hold the lines that they always held: the same keys in the same order, and what came later."""

import json
from pathlib import Path

import pytest

STORED = Path(__file__).parents[1] / "reference" / "records"
HOLED = ("holed", "--ids", "0:8")
# How the stored lines were made, by the name of their file.
COMMANDS = {
    "adams": ("nll", "one"),
    "dopri": ("nll", "one", "--method", "dopri5"),
    "probes": ("nll", "one", "--method", "dopri5", "--probe", "independent", "--probes", "3"),
    "exact": ("nll", "one", "--probe", "exact"),
    "repeats": ("nll", "one", "--repeats", "2", "--importance", "2"),
    "none": ("nll", "one", "--dequantise", "none"),
    "holed": ("nll", *HOLED),
    "vlb": ("vlb", "one"),
    "vlbr": ("vlb", "one", "--repeats", "3", "--times", "4", "--profile"),
    "vlb1": ("vlb", "one", "--times", "1"),
    "vlbh": ("vlb", *HOLED),
}


def keys(path):
    return {tuple(json.loads(line)) for line in path.read_text("utf-8").splitlines()}


def with_freedom(stored):
    """The keys [..] of a line, and behind an error that is estimated how well it is known."""
    at = stored.index("se_probe") + 1 if "se_probe" in stored else len(stored)
    return (*stored[:at], *(["freedom"] if "se_probe" in stored else []), *stored[at:])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_journal_has_the_keys_of_the_stored_lines(run_cli, experts, name):
    command, expert, *options = COMMANDS[name]
    limit = () if "--ids" in options else ("--limit", 1)
    run_cli(command, "--data", "digits", "--expert", experts(expert), *options, *limit, "--out", "run")
    expected = keys(STORED / f"{name}.jsonl")
    if name != "exact":
        expected = set(map(with_freedom, expected))
    assert keys(next(Path("run").glob("images-*.jsonl"))) == expected
