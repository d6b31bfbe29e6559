"""``sweep``: its rows are single runs to the last bit, whatever stops it or fails; bad lists are refused."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from merged_diffusion.runs import open_run

FAST = ("--rtol", "1e-3", "--atol", "1e-3")


def numbers(folder):
    return [replace(r, environment=None, rebatched=False) for r in open_run(folder).records()]


def single(sweep_arguments, eta):
    """The command of one row."""
    return ("nll", *sweep_arguments[1:], "--eta", eta)


@pytest.mark.parametrize("method", ["dopri5", "adams"])
def test_rows_are_the_runs_of_nll_to_the_last_bit_and_cost_less(run_cli, sweep, method):
    options = ("--limit", 6, "--batch-size", 4, "--method", method)
    result = run_cli(*sweep(*options, "--out", "swept", "--json"))
    assert result.code == 0, result.err
    table = result.json
    names = [line["name"] for line in table["rows"]]
    assert names[0] == "quality"
    assert names[-1] == "likelihood"
    assert names[1].startswith("eta 0.0523")
    for eta, folder in [
        ("min", names[1].replace(" ", "-")),
        (0.3, "eta-0.3000"),
        (1, "likelihood"),
        (0, "quality"),
    ]:
        assert run_cli(*single(sweep(*options, "--out", "alone-" + str(eta)), eta)).code == 0
        assert numbers(f"swept/{folder}") == numbers(f"alone-{eta}")
    counted = [
        sum(r.evaluations.values()) for name in names for r in numbers(f"swept/{name.replace(' ', '-')}")
    ]
    assert table["evaluations"]["single_runs"] == sum(counted)
    assert table["evaluations"]["spent"] < 0.75 * sum(counted)
    assert json.loads(Path("swept/sweep.json").read_text()) == table


def test_a_row_goes_on_as_the_run_of_a_single_command(run_cli, sweep):
    options = (*FAST, "--batch-size", 4)
    assert run_cli(*sweep("--ids", "0:3", "--etas", "0.2,0.4", *options, "--out", "swept")).code == 0
    single_run = single(sweep("--ids", "0:5", *options, "--out", "swept/eta-0.2000"), 0.2)
    assert run_cli(*single_run).code == 0
    assert len(numbers("swept/eta-0.2000")) == 5
    shown = run_cli("runs", "compare", "swept/eta-0.2000", "swept/eta-0.4000", "--json")
    assert shown.json["n"] == 3


def test_text_has_a_row_for_each_threshold_the_best_and_what_was_saved(run_cli, sweep):
    result = run_cli(*sweep("--limit", 5, "--etas", "0.5,0,0.2", *FAST))
    assert result.code == 0, result.err
    heading, *rows, best, close, _edge, saved, kept = result.out.splitlines()
    assert heading == "digits/test  5 images  3 thresholds"
    assert [row.split("  ")[0] for row in rows] == ["quality", "eta 0.2000", "eta 0.5000"]
    assert sum("\N{MINUS SIGN} best: +" in row for row in rows) == 2
    assert best.startswith("best: ")
    assert close.startswith("as good within 2 standard errors: eta ")
    assert " of single runs" in saved
    assert kept.startswith("not kept")


def test_a_sweep_that_was_killed_goes_on_with_what_is_missing(run_cli, sweep, start, tmp_path):
    options = ("--ids", "0:4", "--etas", "0.2,0.5", "--batch-size", 2, *FAST)
    arguments = sweep(*options, likelihood="slow_likelihood")
    process = start(*arguments, "--out", "swept")
    deadline = time.monotonic() + 600
    folders = ("eta-0.2000", "eta-0.5000")
    logs = [tmp_path / "swept" / folder / "images-0000-of-0001.jsonl" for folder in folders]
    while sum(log.read_bytes().count(b"\n") for log in logs if log.exists()) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = {folder: len(numbers(tmp_path / "swept" / folder)) for folder in folders}
    assert 2 <= sum(before.values()) < 8
    result = run_cli(*arguments, "--out", "swept", "--json")
    assert result.code == 0, result.err
    assert run_cli(*arguments, "--out", "unbroken").code == 0
    for folder in folders:
        assert numbers(f"swept/{folder}") == numbers(f"unbroken/{folder}")
    # A third time there is nothing left to do.
    again = run_cli(*arguments, "--out", "swept", "--json")
    assert again.json["evaluations"] == result.json["evaluations"]


def test_another_list_and_more_images_go_on_in_the_same_sweep(run_cli, sweep):
    options = ("--batch-size", 4, *FAST, "--out", "swept", "--json")
    assert run_cli(*sweep("--ids", "0:2", "--etas", "0.2,0.4", *options)).code == 0
    first = numbers("swept/eta-0.4000")
    result = run_cli(*sweep("--ids", "0:4", "--etas", "0.3,0.4", *options))
    assert result.code == 0, result.err
    assert [line["summary"]["n"] for line in result.json["rows"]] == [4, 4]
    assert numbers("swept/eta-0.4000")[:2] == first
    other = run_cli(*sweep("--ids", "0:4", "--etas", "0.3", "--seed", 1, *options))
    assert (other.code, other.json["error"]["type"]) == (7, "RunMismatchError")
    assert "seed" in other.json["error"]["message"]


def test_images_that_fail_at_one_threshold_leave_the_others_alone(run_cli, sweep):
    # The hole lies between gamma 2 and 4, where the likelihood expert is in charge at eta 0.7 and 1 alone.
    options = ("--ids", "0:6", "--etas", "0.1,0.3,0.7,1", "--json", *FAST)
    result = run_cli(*sweep(*options, likelihood="holed_likelihood"))
    assert result.code == result.json["code"] == 5
    failed = {line["name"]: line["error"] is not None for line in result.json["rows"]}
    assert failed == {"eta 0.1000": False, "eta 0.3000": False, "eta 0.7000": True, "likelihood": True}
    assert result.json["rows"][2]["error"]["type"] == "SolveError"
    assert result.json["best"]["name"] in ("eta 0.1000", "eta 0.3000")
    assert "2 of 4 thresholds failed" in result.json["error"]["message"]
    sound = run_cli(*sweep(*options))
    assert sound.code == 0
    assert (
        sound.json["rows"][0]["summary"]["bits_per_dim"] == result.json["rows"][0]["summary"]["bits_per_dim"]
    )


def test_an_expert_that_raises_at_one_threshold_leaves_the_others_alone(run_cli, sweep):
    options = ("--ids", "0:4", "--etas", "0.08,0.3,0.5", "--out", "swept", "--json", *FAST)
    result = run_cli(*sweep(*options, quality="touchy"))
    assert result.code == 5
    errors = [line["error"] and line["error"]["message"] for line in result.json["rows"]]
    assert "expert touchy raised RuntimeError: not at this noise" in errors[0]
    assert errors[1:] == [None, None]
    assert result.json["rows"][0]["summary"] is None
    assert result.json["best"]["eta"] in (0.3, 0.5)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--etas", "0.2,0.2"), "twice"),
        (("--etas", "0.30001,0.30002"), "four decimals"),
        (("--etas", "0.2,much"), "'much'"),
        (("--etas", "0.2,1.4"), "1.4"),
        (("--etas", "0.2,nan"), "nan"),
        (("--etas", ""), "''"),
        (("--etas", "0.001"), "not trained"),
        (("--etas", "0.2,0.99"), "not trained"),
        (("--eta", "0.2"), "--eta"),
        (("--etas", "0.2", "--gamma", "-3"), "--gamma"),
        (("--etas", "0.2", "--limit", "0"), "limit"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused_and_nothing_is_written(run_cli, sweep, tmp_path, more, told):
    result = run_cli(*sweep(*more, "--out", "swept"))
    assert result.code == 2
    assert told in result.err
    assert not (tmp_path / "swept").exists()


def test_a_directory_of_other_things_is_refused(run_cli, sweep, tmp_path):
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "thesis.tex").write_text("dear")
    result = run_cli(*sweep("--ids", "0:2", "--etas", "0.2", "--out", "swept"))
    assert result.code == 7
    assert "thesis.tex" in result.err
    assert [path.name for path in (tmp_path / "swept").iterdir()] == ["thesis.tex"]


def test_damaged_and_newer_tables_are_told(run_cli, sweep, tmp_path):
    (tmp_path / "swept").mkdir()
    for text, told in [("{", "not the table"), ('{"format": 99}', "format 99")]:
        (tmp_path / "swept" / "sweep.json").write_text(text)
        result = run_cli(*sweep("--ids", "0:2", "--etas", "0.2", "--out", "swept"))
        assert result.code == 7
        assert told in result.err


def test_dry_run_names_the_rows_and_writes_nothing(run_cli, sweep, tmp_path):
    result = run_cli(*sweep("--limit", 3, "--dry-run", "--json", "--out", "swept"))
    assert result.code == 0, result.err
    assert [row["name"] for row in result.json["rows"]][:2] == ["quality", "eta 0.0523"]
    assert result.json["dry_run"]
    assert not (tmp_path / "swept").exists()


def test_steps_shared_by_images_run_singly_and_equal(run_cli, sweep):
    options = ("--ids", "0:4", "--step-control", "shared", "--batch-size", 4, *FAST)
    result = run_cli(*sweep(*options, "--etas", "0.2,0.4", "--out", "swept", "--json"))
    assert result.code == 0, result.err
    assert result.json["evaluations"]["spent"] == result.json["evaluations"]["single_runs"]
    assert run_cli(*single(sweep(*options, "--out", "alone"), 0.4)).code == 0
    assert numbers("swept/eta-0.4000") == numbers("alone")
