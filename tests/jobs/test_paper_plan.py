"""``paper --dry-run``: evaluations are the paper's, commands parse, hours are measured ones."""

import json
import shlex
from pathlib import Path

import pytest

from merged_diffusion.cli import group, main
from merged_diffusion.errors import DataError
from merged_diffusion.jobs import paper_plan
from merged_diffusion.reports.published import published


def test_evaluations_are_those_of_the_papers_tables():
    assert list(paper_plan.DRAWN) == published()["table2"]["cifar10"]["ode_evaluations"]
    by_name = {table.name.split(":")[0]: table for table in paper_plan.tables()}
    assert by_name["table 1"].products == 10_000 * 2975  # the row of NFE, added up
    assert by_name["table 2"].calls == 50_000 * (2241 + 12 * 256)


def test_each_command_of_the_plan_is_accepted():
    for table in paper_plan.tables():
        for line in table.commands:
            _, name, *words = shlex.split(line)
            command = group.get_command(None, name)
            if hasattr(command, "commands"):
                command, words = command.commands[words[0]], words[1:]
            command.make_context(name, list(words))


def test_what_is_missing_is_told_with_the_command_that_brings_it(tmp_path, capsys):
    assert main(["paper", "--dry-run", "--cache", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [file["present"] for file in plan["files"]] == [False] * 5
    assert all(file["get"].startswith("merged-diffusion fetch") for file in plan["files"])
    assert not any(table["possible"] for table in plan["tables"])
    assert {table["hours"] for table in plan["tables"]} == {None}
    assert main(["paper", "--dry-run", "--cache", str(tmp_path)]) == 0
    assert "missing: merged-diffusion fetch cifar10" in capsys.readouterr().out
    assert main(["paper"]) == 2


def test_hours_are_evaluations_times_the_measured_cost(tmp_path):
    file = tmp_path / "device.json"
    file.write_text(
        json.dumps({"device": "d", "parts": {"cost": {"product_seconds": 3.6, "call_seconds": 1}}})
    )
    cost = paper_plan.Cost.read(file)
    assert next(iter(paper_plan.tables())).hours(cost) == pytest.approx(29_750)
    with pytest.raises(DataError, match="holds no measured cost"):
        paper_plan.Cost.read(Path(__file__))
