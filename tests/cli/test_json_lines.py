"""``--json-lines``: each image as it is done, then the summary; whole also where a run is gone on with."""

import json
import os
import subprocess
import sys

import pytest
from tests.data.makers import png, write_folder

from merged_diffusion.data import load_data

SUMMARY = "summary"


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("command", ["nll", "vlb"])
def test_there_is_a_line_for_each_image_and_the_summary_is_the_last(run_cli, nll, command):
    words = (command, *nll()[1:], "--ids", "3:7")
    *rows, last = lines(run_cli(*words, "--json-lines").out)
    assert [row["id"] for row in rows] == [3, 4, 5, 6]
    for row in rows:
        assert {"id", "model", "status", "bits_per_dim", "terms_nats", "evaluations", "cluster"} <= set(row)
        assert not {"crc32", "environment", SUMMARY} & set(row)
        assert row["model"] == "likelihood"
    assert list(last) == [SUMMARY]
    found = run_cli(*words, "--json").json
    timed = ("seconds", "seconds_outside_network")
    assert {k: v for k, v in last[SUMMARY].items() if k not in timed} == {
        k: v for k, v in found.items() if k not in timed
    }
    assert sum(row["bits_per_dim"] for row in rows) / 4 == pytest.approx(
        found["bits_per_dim"]["mean"], rel=1e-12
    )


def test_a_line_names_the_file_of_its_image(run_cli, nll, tmp_path):
    images = load_data("digits")[:4]
    write_folder(tmp_path / "mine", {f"{k}.png": png(image) for k, image in enumerate(images)})
    words = ["mine" if word == "digits" else word for word in nll()]
    *rows, _ = lines(run_cli(*words, "--levels", 17, "--ids", "1:3", "--json-lines").out)
    assert [(row["id"], row["file"]) for row in rows] == [(1, "1.png"), (2, "2.png")]


def test_each_model_has_its_lines(run_cli, pair):
    *rows, last = lines(run_cli(*pair("--eta", 0.3, "--limit", 2, "--compare", "--json-lines")).out)
    assert [row["model"] for row in rows] == [
        m for m in ("merged", "likelihood", "quality") for _ in range(2)
    ]
    assert [row["name"] for row in last[SUMMARY]["compare"]] == ["likelihood", "quality"]


def test_a_run_that_is_gone_on_with_is_told_whole(run_cli, nll):
    first = lines(run_cli(*nll("one", "--limit", 2, "--out", "run", "--json-lines")).out)
    more = lines(run_cli(*nll("one", "--limit", 4, "--out", "run", "--json_lines")).out)
    assert more[:2] == sorted(first[:-1], key=lambda row: row["id"])
    assert len({row["id"] for row in more[:-1]}) == more[-1][SUMMARY]["n"] == 4
    again = lines(run_cli(*nll("one", "--limit", 4, "--out", "run", "--json-lines")).out)
    assert sorted(again[:-1], key=str) == sorted(more[:-1], key=str)


def test_a_failed_image_has_its_line_and_the_error_stands_in_the_summary(run_cli, nll):
    result = run_cli(*nll("holed", "--ids", "0:8", "--json-lines"))
    *rows, last = lines(result.out)
    assert result.code == last[SUMMARY]["code"] == 5
    failed = [row for row in rows if row["status"] != "ok"]
    assert failed
    assert all(row["bits_per_dim"] is None and row["gamma"] is not None for row in failed)
    assert len(failed) == last[SUMMARY]["n_failed"]


@pytest.mark.parametrize(
    ("words", "code"), [(("--eta", "7"), 2), (("--expert", "no.such:thing"), 4), (("--no-such",), 2)]
)
def test_an_error_is_a_line(run_cli, words, code):
    result = run_cli("nll", "--data", "digits", "--json-lines", *words)
    (only,) = lines(result.out)
    assert result.code == only["code"] == code
    assert only["error"]["message"]


def test_one_object_and_lines_exclude_each_other(run_cli, nll):
    result = run_cli(*nll("one", "--json-lines", "--quiet"), "--json")
    assert result.code == 2
    assert result.json["error"]["message"] == "--json and --json-lines were both given"


def test_lines_come_as_images_are_done_and_a_reader_that_goes_away_ends_the_command_quietly(nll, tmp_path):
    words = [sys.executable, "-m", "merged_diffusion", *map(str, nll("slow", "--limit", 64, "-b", 1, "-q"))]
    with subprocess.Popen(
        [*words, "--out", "run", "--json-lines"], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert "bits_per_dim" in json.loads(child.stdout.readline())
        assert child.poll() is None
        child.stdout.close()
        said = child.stderr.read()
        assert child.wait(timeout=60) == 0
    assert [line for line in said.splitlines() if "running the code" not in line] == []
    kept = next((tmp_path / "run").glob("images-*.jsonl")).read_bytes().splitlines()
    assert 1 <= len(kept) < 64
