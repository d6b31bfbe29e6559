"""``--quad-check``: whether the trace is smooth between the nodes is measured, recorded and warned of."""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.cli.text import lines
from merged_diffusion.experts import arithmetic
from merged_diffusion.jobs import gamma_scans, quadrature_pilot
from merged_diffusion.jobs.cost import NOMINAL_EVALUATIONS

DIGITS = ("nll", "--data", "digits", "--json")
ROUGH = """
import torch

class Rough(torch.nn.Module):
    name, levels, image_shape, conditional, pixels = "rough", 17, (1, 8, 8), False, "centred"
    gamma_range = (-8.0, 5.0)

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.eval()

    def forward(self, z, gamma, cond=None):
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        return square.sqrt() * z / (0.49 * (1 - square) + square) + 0.02 * torch.sin(50 * z)

expert = Rough()
"""


SPIKED = (
    ROUGH.replace("rough", "spiked")
    .replace(
        "0.02 * torch.sin(50 * z)", "2 * torch.exp(-500 * (gamma + 2) ** 2).to(z.dtype).view(-1, 1, 1, 1) * z"
    )
    .replace("self.calls = 0", "self.weight = torch.nn.Parameter(torch.zeros(1))")
)


@pytest.fixture
def spiked(tmp_path):
    path = tmp_path / "spiked.py"
    path.write_text(SPIKED)
    return f"{path}:expert"


@pytest.fixture
def rough(tmp_path):
    path = tmp_path / "rough.py"
    path.write_text(ROUGH)
    return f"{path}:expert"


def records(folder):
    return md.load_scores(folder).records


def test_a_pilot_is_measured_and_kept_and_changes_no_record(run_cli):
    found = {}
    for check in ("pilot", "off"):
        result = run_cli(*DIGITS, "--limit", 3, "--quad-check", check, "--out", check)
        assert result.code == 0, result.err
        found[check] = result.json
    assert records("pilot") == records("off")
    assert found["off"].get("quadrature") is None
    told = found["pilot"]["quadrature"]
    assert told["n"] == 1
    assert 0 < told["quadrature_error"] < told["se_probe"]
    assert json.loads(Path("pilot/settings.json").read_text())["settings"]["quadrature"] == told
    assert run_cli("runs", "show", "pilot", "--json").json["quadrature"] == told


@pytest.mark.parametrize("kind", ["truncated-normal", "none"])
def test_what_a_pilot_found_is_read_back_with_the_scores(run_cli, kind):
    words = (*DIGITS, "--limit", 3, "--dequantise", kind, "--compare", "--preset", "fast", "--out", "run")
    told, found = run_cli(*words).json, md.load_scores("run")
    unit = "log_density_nats" if kind == "none" else "bits_per_dim"
    assert found.estimate().as_dict() == told[unit]
    error = told["quadrature"]["quadrature_error"]
    assert found.estimate().quadrature_error == error
    assert set(found[1:].quadrature_error) == {error}
    squares = found.se_value**2 + found.path_error**2 + error**2
    assert found.total_error == pytest.approx(squares**0.5, rel=1e-12)
    measured = tuple(replace(record, quadrature_error=error) for record in found)
    of_all = replace(found, records=measured, quadrature_of_pilot=None)
    assert np.array_equal(found.interval(total=True), of_all.interval(total=True))
    for row in told["compare"]:  # which have pilots of their own
        own = md.load_scores(f"run/{row['name']}").estimate()
        assert row[unit]["quadrature_error"] == own.quadrature_error == row["quadrature"]["quadrature_error"]
        assert own.quadrature_error != error


def test_a_run_whose_pilot_found_nothing_is_read_back_without(run_cli):
    assert run_cli(*DIGITS, "--limit", 2, "--preset", "fast", "--out", "run").code == 0
    path = Path("run/settings.json")
    kept = json.loads(path.read_text())
    del kept["settings"]["quadrature"]  # as older versions wrote it
    path.write_text(json.dumps(kept))
    found = md.load_scores("run")
    assert found.estimate().total_error is None
    assert "quadrature_error" not in found.to_dict()


def test_one_of_twenty_images_is_measured_and_at_most_eight(run_cli, monkeypatch):
    asked = []

    def measured(plan, models, wanted):
        asked.append(wanted)
        return dict.fromkeys(models, quadrature_pilot.QuadratureCheck(0.001, 0.01, wanted, 0.005))

    monkeypatch.setattr(quadrature_pilot, "_measured", measured)
    monkeypatch.setattr(quadrature_pilot, "MOST", 3)
    for limit in (2, 2, 20, 21, 41, 61, 62):  # measured anew where there are more of them
        words = (*DIGITS, "--limit", limit, "--preset", "fast", "--out", "run")
        assert run_cli(*words).code == 0
    assert asked == [1, 2, 3]
    assert json.loads(Path("run/settings.json").read_text())["settings"]["quadrature"]["n"] == 3


def test_shards_measure_the_same_images(run_cli):
    found = [
        run_cli(*DIGITS, "--limit", 4, "--shard", f"{i}/2", "--out", f"shard-{i}").json["quadrature"]
        for i in range(2)
    ]
    assert found[0] == found[1]


def test_all_measures_every_image_and_no_value_changes(run_cli):
    words = (*DIGITS, "--limit", 2, "--probes", 3)
    assert run_cli(*words, "--out", "usual").code == 0
    whole = run_cli(*words, "--quad-check", "all", "--out", "all")
    assert whole.code == 0, whole.err
    for one, two in zip(records("all"), records("usual"), strict=True):
        assert (one.bits_per_dim, one.terms_nats) == (two.bits_per_dim, two.terms_nats)
        assert one.quadrature_error > 0
        assert two.quadrature_error is None
    assert whole.json["quadrature"]["n"] == 2
    assert whole.json["settings"]["quad_check"] == "all"


@pytest.mark.parametrize("check", [(), ("--quad-check", "all")], ids=["pilot", "all"])
def test_a_rough_trace_is_told_everywhere(run_cli, rough, check):
    words = ("nll", "--data", "digits", "--limit", 2, "--expert", rough, "--out", "run", *check)
    result = run_cli(*words)
    assert result.code == 0, result.err
    assert "warning: quadrature may miss" in result.err
    assert "warning: quadrature may miss" in result.out
    shown = run_cli("runs", "show", "run", "--json").json
    assert shown["rough_trace"] is True
    assert shown["quadrature"]["quadrature_error"] > 0.005
    assert "warning: quadrature may miss" in run_cli("runs", "show", "run").out
    report = run_cli("runs", "report", "run", "--out", "page.html")
    assert report.code == 0, report.err
    assert "quadrature may miss" in Path("page.html").read_text()
    off = run_cli(*words[:7], "--quad-check", "off", "--json")
    assert "quadrature may miss" not in off.err
    assert "rough_trace" not in off.json


def test_a_dry_run_and_a_finished_run_measure_nothing(run_cli, monkeypatch):
    monkeypatch.setattr(quadrature_pilot, "_measured", None)
    assert run_cli(*DIGITS, "--limit", 2, "--dry-run").code == 0
    assert run_cli(*DIGITS, "--limit", 2, "--quad-check", "off", "--out", "run").code == 0
    assert run_cli(*DIGITS, "--limit", 2, "--out", "run").code == 0
    assert run_cli(*DIGITS, "--limit", 2, "--preset", "paper").code == 0


def test_python_has_the_same(tmp_path):
    summary = md.evaluate("digits", limit=2, out=tmp_path / "run")
    assert summary.quadrature.n == 1
    assert not summary.rough_trace
    whole = md.evaluate("digits", limit=2, probes=md.Probes(companion=True))
    assert whole.quadrature.n == 2


@pytest.mark.parametrize("word", ["pilot", "all"])
def test_dopri5_has_nothing_to_measure(run_cli, word):
    result = run_cli("nll", "--data", "digits", "--limit", 1, "--quad-check", word, "--method", "dopri5")
    assert result.code == 2
    assert f"--quad-check {word} measures the quadrature of method adams" in result.err


def test_bundled_experts_are_known_to_have_no_spike_and_nothing_is_measured(run_cli, monkeypatch):
    monkeypatch.setattr(gamma_scans, "_measured", None)
    found = run_cli(*DIGITS, "--limit", 1, "--quad-check", "all", "--out", "run").json
    assert set(found["gamma_scan"]) == {"likelihood", "quality"}
    assert all(scan["spikes"] == [] for scan in found["gamma_scan"].values())
    assert "spikes" not in found
    kept = json.loads(Path("run/settings.json").read_text())["settings"]["gamma_scan"]
    assert kept == found["gamma_scan"] == run_cli("runs", "show", "run", "--json").json["gamma_scan"]
    assert "gamma_scan" not in run_cli(*DIGITS, "--limit", 1, "--quad-check", "off").json


def test_a_spike_in_gamma_is_told_everywhere_and_measured_once(run_cli, spiked, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    words = ("nll", "--data", "digits", "--limit", 1, "--expert", spiked, "--preset", "fast")
    short = run_cli(*words, "--json").json
    assert "gamma_scan" not in short  # the scan would be more than the run
    result = run_cli(*words, "--quad-check", "all", "--out", "run")
    assert result.code == 0, result.err
    for text in (result.err, result.out, run_cli("runs", "show", "run").out):
        assert "warning: expert spiked changes within about" in text
    shown = run_cli("runs", "show", "run", "--json").json
    assert shown["spikes"] is True
    ((role, scan),) = shown["gamma_scan"].items()
    assert role in ("likelihood", "quality")
    assert abs(scan["spikes"][0]["gamma"] + 2.0) < 0.1
    report = run_cli("runs", "report", "run", "--out", "page.html")
    assert report.code == 0, report.err
    assert "expert spiked changes within about" in Path("page.html").read_text()
    monkeypatch.setattr(gamma_scans, "_measured", None)
    again = run_cli(*words, "--json", "--seed", 1)  # from the cache, however short the run
    assert "warning: expert spiked changes within about" in again.err
    assert again.json["spikes"] is True


def test_long_runs_are_scanned(run_cli, spiked, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gamma_scans, "SHARE", 100.0)
    words = ("nll", "--data", "digits", "--limit", 1, "--expert", spiked, "--preset", "fast", "--json")
    assert run_cli(*words).json["spikes"] is True
    assert len(list((tmp_path / "cache" / gamma_scans.FOLDER).iterdir())) == 1
    next((tmp_path / "cache" / gamma_scans.FOLDER).iterdir()).write_text("{")  # damaged: measured again
    assert run_cli(*words).json["spikes"] is True


def test_what_the_cache_keeps_is_of_this_code_and_this_object(run_cli, tmp_path, monkeypatch):
    """Equal weights say nothing of own code: a module has no hash, and a file may make two experts."""
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    smooth = SPIKED.replace("2 * torch.exp", "0 * torch.exp")
    words = ("nll", "--data", "digits", "--limit", 1, "--preset", "fast", "--json", "--quad-check", "all")
    Path("own_of_scans.py").write_text(smooth)
    assert "spikes" not in run_cli(*words, "--expert", "own_of_scans:expert").json
    Path("own_of_scans.py").write_text(SPIKED)
    sys.modules.pop("own_of_scans")
    importlib.invalidate_caches()
    shutil.rmtree("__pycache__", ignore_errors=True)
    assert run_cli(*words, "--expert", "own_of_scans:expert").json["spikes"] is True
    sys.modules.pop("own_of_scans")
    second = SPIKED.replace("Rough", "Second").replace("expert = ", "second = ")
    Path("both.py").write_text(smooth + second)
    assert "spikes" not in run_cli(*words, "--expert", "both.py:expert").json
    assert run_cli(*words, "--expert", "both.py:second").json["spikes"] is True
    monkeypatch.setattr(gamma_scans, "_measured", None)
    assert "spikes" not in run_cli(*words, "--expert", "both.py:expert", "--seed", 1).json


def test_a_scan_is_in_full_precision_and_a_share_of_what_this_worker_has_left(
    run_cli, spiked, tmp_path, monkeypatch
):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    seen, real = [], gamma_scans.scan_gamma

    def scan(*given, **how):
        seen.append(arithmetic.precision_here())
        return real(*given, **how)

    monkeypatch.setattr(gamma_scans, "scan_gamma", scan)
    words = ("nll", "--data", "digits", "--limit", 4, "--preset", "fast", "--expert", spiked)
    # A scan of 13 in gamma has 434 points, two passes each; an image has some thirty evaluations of two.
    monkeypatch.setattr(gamma_scans, "SHARE", 868 / (3 * 2 * NOMINAL_EVALUATIONS["adams"]))
    half = run_cli(*words, "--shard", "0/2", "--out", "run")
    assert half.code == 0, half.err
    assert seen == []
    assert run_cli(*words, "--precision", "bf16", "--accept-precision", "--out", "whole").code == 0
    assert seen == ["float32"]


# At gamma -6.9: below the threshold, where the merged model asks the likelihood expert, and not this one.
PAIRED = """
import sys
import torch
from {name} import Rough

class Smooth(Rough):
    def forward(self, z, gamma, cond=None):
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        return square.sqrt() * z / (0.49 * (1 - square) + square)

smooth = Smooth()
smooth.name = "smooth"
"""


@pytest.fixture
def unmet(tmp_path, monkeypatch):
    """A pair whose merged model at gamma -3 meets neither a spike of its quality expert nor its roughness."""
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)

    def made(text, name):
        (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / f"{name}_pair.py").write_text(PAIRED.format(name=name))
        experts = ("--likelihood-expert", f"{tmp_path / name}_pair.py:smooth")
        return (*experts, "--quality-expert", f"{tmp_path / name}.py:expert")

    return made


SPIKE = SPIKED.replace("(gamma + 2)", "(gamma + 6.9)")
LOW = ROUGH.replace("torch.sin", "torch.sigmoid(-20 * (gamma + 4)).to(z.dtype).view(-1, 1, 1, 1) * torch.sin")
QUICK = ("--data", "digits", "--limit", 1, "--preset", "fast")


def test_a_spike_that_only_an_expert_alone_meets_is_told_beside_it(run_cli, unmet, monkeypatch):
    monkeypatch.setattr(gamma_scans, "SHARE", 100.0)
    words = ("nll", *QUICK, *unmet(SPIKE, "spiked_low"), "--gamma", -3)
    alone = run_cli(*words, "--json")
    assert "changes within" not in alone.err
    assert "spikes" not in alone.json
    found = run_cli(*words, "--compare", "--out", "run")
    assert found.code == 0, found.err
    for text in (found.err, found.out, run_cli("runs", "show", "run").out):
        assert "expert spiked changes within about" in text
    assert "(met by quality)" in found.err
    assert "the quality expert alone: expert spiked" in found.out
    told = run_cli("runs", "show", "run", "--json").json
    assert "spikes" not in told
    marks = {row["name"]: row.get("spikes", False) for row in told["compare"]}
    assert marks == {"likelihood": False, "quality": True}
    assert run_cli("runs", "show", "run/quality", "--json").json["spikes"] is True
    off = run_cli(*words, "--compare", "--quad-check", "off")
    assert "changes within" not in off.err + off.out


def test_a_trace_that_is_rough_under_an_expert_alone_is_told_beside_it(run_cli, unmet):
    words = ("--preset", "tight", *unmet(LOW, "rough_low"), "--gamma", -3, "--compare", "--json")
    found = run_cli("nll", *QUICK[:4], *words)
    assert found.code == 0, found.err
    assert "rough_trace" not in found.json
    assert {row["name"]: row.get("rough_trace", False) for row in found.json["compare"]} == {
        "likelihood": False,
        "quality": True,
    }
    assert "quadrature may miss" in found.err


def test_a_sweep_tells_of_the_rows_that_meet_it_and_each_is_what_nll_finds(run_cli, unmet, monkeypatch):
    monkeypatch.setattr(gamma_scans, "SHARE", 100.0)
    experts = unmet(SPIKE, "spiked_of_sweep")
    found = run_cli("sweep", *QUICK, *experts, "--etas", "0,0.6,1", "--out", "sweep")
    assert found.code == 0, found.err
    assert "(met by quality)" in found.err
    assert "(rows quality)" in found.out
    assert "(rows quality)" in run_cli("runs", "show", "sweep").out
    page = run_cli("runs", "report", "sweep", "--out", "page.html")
    assert page.code == 0, page.err
    assert "(rows quality)" in Path("page.html").read_text()
    rows = {row["name"]: row["summary"] for row in json.loads(Path("sweep/sweep.json").read_text())["rows"]}
    assert {name for name, row in rows.items() if row.get("spikes")} == {"quality"}
    single = run_cli("nll", *QUICK, *experts, "--eta", 0.6, "--json").json
    row = rows["eta 0.6000"]
    for key in ("quadrature", "gamma_scan", "bits_per_dim"):
        assert row[key] == single[key]
    off = run_cli("sweep", *QUICK, *experts, "--etas", "0,1", "--quad-check", "off", "--json")
    assert "changes within" not in off.err
    assert not {"gamma_scan", "quadrature"} & set(off.json["rows"][0]["summary"])
    refused = run_cli("sweep", *QUICK[:4], *experts, "--metric", "vlb", "--quad-check", "off")
    assert refused.code == 2
    assert "quad-check off belongs to metric nll" in refused.err


def test_a_threshold_is_not_confirmed_over_a_spike_in_silence(run_cli, unmet, monkeypatch):
    monkeypatch.setattr(gamma_scans, "SHARE", 100.0)
    words = ("threshold", "--data", "digits", "--tune-limit", 3, "--no-test", "--preset", "fast")
    found = run_cli(*words, *unmet(SPIKE, "spiked_of_choice"), "--out", "chosen")
    assert found.code == 0, found.err
    assert "warning: expert spiked changes within" in found.err
    assert "warning: expert spiked changes within" in found.out
    kept = json.loads(Path("chosen/threshold.json").read_text())["gamma_scan"]
    assert abs(kept["quality"]["spikes"][0]["gamma"] + 6.9) < 0.1
    assert kept["likelihood"]["spikes"] == []


@pytest.mark.parametrize("command", ["threshold", "gate"])
def test_what_is_chosen_is_not_reported_over_a_rough_trace_in_silence(run_cli, unmet, command):
    words = (command, "--data", "digits", "--tune-limit", 3, "--limit", 2, "--preset", "tight", "--json")
    words += (*unmet(LOW, f"rough_of_{command}"), *(("--exact", 0) if command == "gate" else ()))
    found = run_cli(*words)
    assert found.code == 0, found.err
    assert "quadrature may miss" in found.err
    pilot = found.json["quadrature"]
    floors = {name: each["floor"] for name, each in pilot.items()}
    assert {"likelihood", "quality"} < set(floors)
    assert (
        pilot["quality"]["quadrature_error"] > floors["quality"] > 3 * pilot["likelihood"]["quadrature_error"]
    )
    every = run_cli(*words, "--quad-check", "all")
    assert {each["n"] for each in every.json["quadrature"].values()} == {2}
    assert {each["n"] for each in pilot.values()} == {1}
    off = run_cli(*words, "--quad-check", "off")
    assert "quadrature" not in off.json
    assert "quadrature may miss" not in off.err

    def rows(told):
        several = told["test"]["rows"] if command == "threshold" else told["rows"].values()
        return [row["bits_per_dim"]["mean"] for row in several]

    assert rows(off.json) == rows(found.json) == rows(every.json)


def test_a_gate_is_not_fitted_over_a_spike_in_silence(run_cli, unmet, monkeypatch):
    monkeypatch.setattr(gamma_scans, "SHARE", 100.0)
    words = ("gate", "--data", "digits", "--tune-limit", 3, "--limit", 1, "--preset", "fast", "--exact", 0)
    found = run_cli(*words, *unmet(SPIKE, "spiked_of_gate"))
    assert found.code == 0, found.err
    assert "warning: expert spiked changes within" in found.err
    assert "warning: expert spiked changes within" in found.out


DRAWS = " and the noise of the dequantisation, which --repeats tells"


@pytest.mark.parametrize(("repeats", "words"), [(1, DRAWS), (2, "")])
def test_a_means_own_errors_say_whether_the_noise_of_draws_is_among_them(repeats, words):
    found = md.evaluate(md.Settings(data="digits", limit=2, repeats=repeats, quad_check="all"))
    large = replace(found.means.bits_per_dim, total_error=1.0)
    told = lines(replace(found, means=replace(found.means, bits_per_dim=large)))
    assert (
        f"its probes and its solver leave 1 bits/dim in the mean, beside the choice of images{words}" in told
    )
