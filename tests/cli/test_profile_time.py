"""``--profile-time``: part of the summary where it is asked for, and no part of what a run keeps."""

import json
from pathlib import Path

import pytest

COUNTS = ("frames", "waits", "waits_per_call", "network_calls", "rows_called", "useful_rows", "useful_share")
NO_CALL = "time        no network call"
OTHERS = ("seconds", "device_seconds", "outside_network", "verbs")


def adds_up(profile):
    *parts, total = profile["seconds"].values()
    return total == pytest.approx(sum(parts), rel=1e-12) and min(parts) >= 0


def test_summary_says_where_the_time_of_all_models_went(run_cli, pair):
    found = run_cli(*pair("--eta", 0.3, "--limit", 4, "--compare", "--profile-time", "--json")).json
    profile = found["time_profile"]
    assert set(profile) == {*COUNTS, *OTHERS}
    assert adds_up(profile)
    assert profile["seconds"]["total"] == pytest.approx(found["seconds"] + profile["seconds"]["data"])
    assert profile["seconds"]["data"] > 0
    assert profile["waits"] == profile["network_calls"] == profile["frames"]
    evaluations = sum(4 * row["evaluations"]["total"] for row in (found, *found["compare"]))
    assert profile["useful_rows"] == pytest.approx(evaluations)
    assert "profile_time" not in found["settings"]


def test_text_has_a_line_for_each_part(run_cli, nll):
    result = run_cli(*nll("one", "--limit", 4, "--profile-time"))
    lines = result.out.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("time "))
    *parts, counts, _ = lines[first + 1 :]
    assert [line.split()[0] for line in parts] == [
        *("network", "products", "arithmetic", "driver", "waits", "starts", "probes", "data", "records"),
        "other",
    ]
    assert "waits (1.00 a call)" in counts
    assert "time " not in run_cli(*nll("one", "--limit", 4)).out


def test_a_run_goes_on_with_it_and_without(run_cli, nll):
    timed = ("--profile-time", "--out", "run")
    first = run_cli(*nll("one", "--limit", 2, *timed, "--json")).json
    plain = run_cli(*nll("one", "--limit", 4, "--out", "run", "--json")).json
    last = run_cli(*nll("one", "--limit", 6, *timed, "--json"))
    assert "time_profile" not in plain
    # Of what this command did: two images of the six.
    profile = last.json["time_profile"]
    assert json.loads(Path("run/summary.json").read_text("utf-8"))["time_profile"] == profile
    share = profile["useful_rows"] / (6 * last.json["evaluations"]["total"])
    assert share == pytest.approx(1 / 3, abs=0.05)
    assert first["time_profile"]["useful_rows"] == 2 * first["evaluations"]["total"]
    # Nothing is left to do: the images were loaded, and no network called.
    idle = run_cli(*nll("one", "--limit", 6, *timed))
    assert [line for line in idle.out.splitlines() if line.startswith("time")] == [NO_CALL]
    assert "of it outside" not in idle.out
    assert "time_profile" not in run_cli("runs", "show", "run", "--json").json


@pytest.fixture
def interrupting(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("merged_diffusion.cli.progress.Progress.update", stop)


@pytest.mark.usefixtures("interrupting")
def test_what_was_interrupted_has_none(run_cli, nll):
    result = run_cli(*nll("one", "--limit", 4, "--profile-time", "--json"))
    assert result.code == 130
    partial = result.json["error"]["fields"]["partial"]
    assert partial["n"] == 1
    assert "time_profile" not in partial


@pytest.mark.usefixtures("interrupting")
@pytest.mark.parametrize("etas", ["0.2,0.4", "0,1"])  # rows scored together, and each alone
def test_sweep_that_was_interrupted_has_none(run_cli, sweep, etas):
    asked = sweep("--limit", 3, "--etas", etas, "--out", "sweep", "--profile-time", "--json")
    result = run_cli(*asked)
    assert result.code == 130
    # As a key: the hint repeats the command line of pytest, where a file's name may hold the word.
    assert '"time_profile":' not in json.dumps(result.json)
    assert any(line["summary"] for line in result.json["error"]["fields"]["partial"]["rows"])
    assert "time_profile" not in Path("sweep/sweep.json").read_text("utf-8")


def test_sweep_has_one_of_all_its_rows(run_cli, sweep):
    asked = sweep("--limit", 3, "--etas", "0,0.2,0.4", "--out", "sweep", "--json")
    found = run_cli(*asked, "--profile-time").json
    profile = found["time_profile"]
    assert adds_up(profile)
    assert profile["useful_rows"] == found["evaluations"]["spent"]
    shown = {line["name"]: "time_profile" in line["summary"] for line in found["rows"]}
    # Rows that were solved together have no time of their own.
    assert shown == {"quality": True, "eta 0.2000": False, "eta 0.4000": False}
    again = run_cli(*asked)
    assert again.code == 0
    assert "time_profile" not in again.json
    # With nothing left to do a row that was solved with others has none either.
    idle = run_cli(*asked, "--profile-time").json
    assert idle["time_profile"]["network_calls"] == 0
    assert {line["name"]: "time_profile" in line["summary"] for line in idle["rows"]} == shown
    assert NO_CALL in run_cli(*asked[:-1], "--profile-time").out.splitlines()
    refused = run_cli(*sweep("--limit", 3, "--metric", "vlb", "--profile-time"))
    assert refused.code == 2
    assert "profile-time belongs to metric nll" in refused.err


def test_samples_of_the_flow_have_one(run_cli, experts):
    asked = ("sample", "--expert", experts("one"), "--num", 3, "--threads", 1, "--device", "cpu")
    found = run_cli(*asked, "--out", "timed.npz", "--profile-time", "--json").json
    plain = run_cli(*asked, "--out", "plain.npz", "--json").json
    assert found["sha256"] == plain["sha256"]
    assert adds_up(found["time_profile"])
    assert "time_profile" not in plain
    assert "waits (1.00 a call)" in run_cli(*asked, "--out", "shown.npz", "--profile-time").out
    # Also where the images of other workers are not there yet.
    shared = run_cli(*asked, "--out", "shared.npz", "--profile-time", "--shard", "0/2")
    assert "1 images are other workers' to draw" in shared.out
    assert "waits (1.00 a call)" in shared.out
    refused = run_cli(*asked, "--sampler", "heun", "--profile-time")
    assert refused.code == 2
    assert "profile-time belongs to ode" in refused.err
