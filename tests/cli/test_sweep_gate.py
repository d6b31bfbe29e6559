"""A gate as one more row of a sweep: its numbers, what it is compared with, and the report."""

from dataclasses import replace
from pathlib import Path

import pytest

import merged_diffusion as md
from merged_diffusion.soft_gate import digests

FEW = ("--data", "digits", "--limit", 4, "--threads", 1, "--device", "cpu", "--quiet")


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text(md.gate_toml(md.Gate(-7.0, 4.5)), encoding="utf-8")
    return path


@pytest.mark.parametrize("metric", ["nll", "vlb"])
def test_a_gate_is_one_more_row_and_its_own_run(run_cli, card, metric):
    words = ("sweep", *FEW, "--metric", metric, "--etas", "0.2,0.3,0.5,1", "--gate", card, "--out", "swept")
    swept = run_cli(*words, "--json")
    assert swept.code == 0, swept.err
    rows = {row["name"]: row for row in swept.json["rows"]}
    assert list(rows) == ["eta 0.2000", "eta 0.3000", "eta 0.5000", "likelihood", "gate"]
    alone = run_cli(metric, *FEW, "--gate", card, "--json", "--batch-size", 16)
    both = rows["gate"]["summary"], alone.json
    found, single = (summary["bits_per_dim"]["mean"] for summary in both)
    assert found == pytest.approx(single, abs=1e-5)
    # The best is a threshold, whatever the gate has; the gate's difference is paired with it.
    assert swept.json["best"]["name"] != "gate"
    assert rows["gate"]["paired"]["to"] == swept.json["best"]["name"]
    again = run_cli(*words, "--json")
    kept = [row["summary"]["bits_per_dim"] for row in again.json["rows"]]
    assert kept == [row["summary"]["bits_per_dim"] for row in swept.json["rows"]]


def test_the_report_of_a_sweep_shows_its_gate(run_cli, card):
    words = ("sweep", *FEW, "--etas", "0.2,0.3,0.5", "--gate", card, "--out", "swept")
    assert run_cli(*words).code == 0
    assert run_cli("runs", "report", "swept", "--out", "report.html").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "merged − gate:" in page
    assert "--gate" in page
    table = run_cli("runs", "export", "swept")
    assert "| gate |" in table.out


def test_samples_of_a_gate_are_a_row(run_cli, card):
    words = ("--metric", "sample", "--num", 20, "--sampler", "unipc", "--steps", 3, "--etas", "0.3")
    swept = run_cli("sweep", "--data", "digits", *words, "--gate", card, "--threads", 1, "--quiet", "--json")
    assert swept.code == 0, swept.err
    assert [row["name"] for row in swept.json["rows"]] == ["eta 0.3000", "gate"]


def test_a_run_under_a_gate_has_a_page(run_cli, card):
    assert run_cli("nll", *FEW, "--gate", card, "--out", "run").code == 0
    assert run_cli("runs", "report", "run", "--out", "report.html").code == 0


def test_a_sweep_refuses_images_that_its_gate_has_seen(run_cli, tmp_path):
    data = md.load_data("digits").select(limit=4)
    gate = replace(md.Gate(-7.0, 4.5), seen=frozenset(digests(data.images)))
    card = tmp_path / "seen.toml"
    card.write_text(md.gate_toml(gate), encoding="utf-8")
    swept = run_cli("sweep", *FEW, "--etas", "0.3", "--gate", card, "--json")
    assert swept.code != 0
    assert "would flatter it" in swept.err + swept.out
