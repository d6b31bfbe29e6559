"""``vlb``: what is printed, kept, continued and refused."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from merged_diffusion.cli import main, workers
from merged_diffusion.runs.records import read_records


@pytest.fixture
def vlb(experts):
    """Arguments of ``vlb`` on digits under a merged pair of the file."""

    def arguments(*more, likelihood="likelihood", quality="quality"):
        return (
            *("vlb", "--data", "digits", "--likelihood-expert", experts(likelihood)),
            *("--quality-expert", experts(quality), "--eta", 0.3, "--threads", 1, "--device", "cpu", *more),
        )

    return arguments


def test_summary_holds_the_three_terms(run_cli, vlb):
    found = run_cli(*vlb("--limit", 8, "--times", 4, "--compare", "--json"))
    assert found.code == 0
    summary = found.json
    assert summary["command"] == "vlb"
    assert summary["n"] == summary["data"]["n"] == 8
    assert set(summary["terms_nats"]) == {"prior", "reconstruction", "diffusion"}
    nats = sum(summary["terms_nats"].values())
    assert summary["bits_per_dim"]["mean"] == pytest.approx(-nats / (64 * np.log(2)))
    assert summary["bits_per_dim"]["se_times"] > 0
    assert summary["evaluations"]["total"] == 4
    assert summary["settings"]["times"] == 4
    assert [row["name"] for row in summary["compare"]] == ["likelihood", "quality"]
    paired = summary["compare"][0]["paired"]
    difference = summary["bits_per_dim"]["mean"] - summary["compare"][0]["bits_per_dim"]["mean"]
    assert paired["difference"] == pytest.approx(difference)


def test_people_read_the_terms_and_the_repeats(run_cli, vlb):
    found = run_cli(*vlb("--limit", 8, "--times", 2, "--repeats", 3))
    assert "repeats     3, mean" in found.out
    assert "reconstruction" in found.out
    assert "bits/dim" in found.out


def test_repeats_tell_the_spread_of_the_sets_mean(run_cli, vlb):
    repeats = run_cli(*vlb("--limit", 8, "--times", 1, "--repeats", 10, "--json")).json["repeats"]
    assert repeats["n"] == len(repeats["means"]) == 10
    assert repeats["std"] == pytest.approx(np.std(repeats["means"], ddof=1))


def test_profile_is_kept_by_gamma(run_cli, vlb):
    run_cli(*vlb("--limit", 8, "--times", 5, "--repeats", 2, "--profile", "--out", "run"))
    summary = json.loads(Path("run/summary.json").read_text())
    gamma = summary["profile"]["gamma"]
    assert len(gamma) == 5
    assert gamma == sorted(gamma)
    (path,) = Path("run").glob("images-*.jsonl")
    records, _ = read_records(path)
    assert np.shape(records[0].profile["loss"]) == (2, 5)


def records_of(folder):
    found = {}
    for path in sorted(folder.glob("images-*.jsonl")):
        found |= {record.id: record for record in read_records(path)[0]}
    return found


def bits(folder):
    return {key: record.bits_per_dim for key, record in sorted(records_of(folder).items())}


def test_shards_and_a_longer_limit_give_the_records_of_one_run(run_cli, vlb, tmp_path):
    common = ("--times", 3, "--batch-size", 16)
    assert run_cli(*vlb("--limit", 24, *common, "--out", "whole")).code == 0
    assert run_cli(*vlb("--limit", 10, *common, "--out", "parts")).code == 0
    for shard in ("0/2", "1/2"):
        assert run_cli(*vlb("--limit", 24, *common, "--out", "parts", "--shard", shard)).code == 0
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["n"] == 24


def test_a_killed_bound_goes_on_where_it_stopped(run_cli, start, vlb, tmp_path):
    common = ("--limit", 48, "--times", 8, "--batch-size", 2, "--quiet")
    slow = vlb(*common, "--out", tmp_path / "run", likelihood="slow")
    process = start(*slow)
    deadline = time.monotonic() + 600
    while not (done := records_of(tmp_path / "run")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(done) < 48
    kept = records_of(tmp_path / "run")
    assert run_cli(*slow).code == 0
    whole = records_of(tmp_path / "run")
    assert len(whole) == 48
    assert all(whole[key] == record for key, record in kept.items())
    assert run_cli(*vlb(*common, "--out", tmp_path / "other", likelihood="slow")).code == 0
    assert bits(tmp_path / "other") == bits(tmp_path / "run")


def test_ranks_bound_shares_and_lost_images_are_code_9_with_their_list(run_cli, vlb, monkeypatch):
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    ranked = vlb("--ids", "0:8", "--times", 2, "--batch-size", 16, "--out", "run", "--json")

    monkeypatch.setenv("RANK", "0")
    lost = run_cli(*ranked)
    assert lost.code == lost.json["code"] == 9
    assert lost.json["missing"] == lost.json["error"]["fields"]["missing"] == [1, 3, 5, 7]
    monkeypatch.setenv("RANK", "1")
    assert main([str(word) for word in ranked]) == 0
    monkeypatch.setenv("RANK", "0")
    whole = run_cli(*ranked)
    assert whole.code == whole.json["n_missing"] == 0
    assert whole.json["n"] == 8


def test_other_times_are_refused_in_the_same_run(run_cli, vlb):
    assert run_cli(*vlb("--limit", 4, "--times", 2, "--out", "run")).code == 0
    found = run_cli(*vlb("--limit", 4, "--times", 3, "--out", "run", "--json"))
    assert found.code == 7
    assert "times" in found.json["error"]["message"]


def test_a_run_of_nll_is_no_run_of_vlb(run_cli, vlb):
    nll = ("nll", *vlb()[1:], "--limit", 2, "--out", "run")
    assert run_cli(*nll).code == 0
    assert run_cli(*vlb("--limit", 2, "--out", "run")).code == 7


def test_images_that_fail_leave_no_mean(run_cli, vlb):
    found = run_cli(*vlb("--limit", 16, "--json", quality="holed"))
    assert found.code == 5
    assert 0 < found.json["n_failed"] < 16
    assert found.json["bits_per_dim"] is None
    allowed = run_cli(*vlb("--limit", 16, "--allow-failed", "--json", quality="holed"))
    assert allowed.json["bits_per_dim"]["mean"] > 0


def test_a_dry_run_writes_nothing(run_cli, vlb, tmp_path):
    found = run_cli(*vlb("--limit", 4, "--dry-run", "--out", "run", "--json"))
    assert found.code == 0
    assert found.json["dry_run"]
    assert found.json["estimate"]["evaluations_per_image"] == 16
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [("--times", 0), ("--repeats", 0), ("--dequantise", "none"), ("--tol", 1)])
def test_what_the_bound_has_not_is_refused(run_cli, vlb, option):
    assert run_cli(*vlb(*option)).code == 2


def test_kept_bound_is_shown_and_compared_with_its_like_alone(run_cli, pair):
    scored = pair("--eta", 0.3, "--limit", 3)
    bound = run_cli("vlb", *scored[1:], "--out", "bound", "--json")
    assert bound.code == 0, bound.err
    shown = run_cli("runs", "show", "bound", "--json")
    assert shown.code == 0, shown.err
    for key in ("bits_per_dim", "terms_nats", "evaluations", "repeats", "profile", "paper"):
        assert shown.json[key] == bound.json[key]
    assert "reconstruction" in run_cli("runs", "show", "bound").out
    same = run_cli("runs", "compare", "bound", "bound", "--json")
    assert same.json["paired"]["difference"] == 0
    assert run_cli(*scored, "--out", "exact").code == 0
    other = run_cli("runs", "compare", "exact", "bound")
    assert other.code == 7
    assert "a bound is no likelihood" in other.err
