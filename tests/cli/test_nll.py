"""``nll``: what it prints, what it keeps, and that a kept run goes on whatever stopped it."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.cli import report
from merged_diffusion.jobs import plan as planning
from merged_diffusion.jobs.kept_scores import load_scores
from merged_diffusion.runs import open_run

KEYS = {
    *("command", "data", "threshold", "n", "n_failed", "bits_per_dim", "terms_nats", "evaluations", "steps"),
    *("compare", "settings", "experts", "versions", "seconds", "seconds_outside_network"),
}


def numbers(folder):
    """What was computed: records without what names the process that did it."""
    return [replace(r, environment=None, rebatched=False) for r in open_run(folder).records()]


def test_a_mean_over_parts_of_one_photograph_says_why_it_has_no_error(run_cli):
    words = ("nll", "--data", "photos", "--preset", "fast", "--quad-check", "off")
    told = "the 2 images are of one cluster, as parts of one photograph: their mean has no error"
    assert told in run_cli(*words, "--ids", "0:2").out
    assert "one cluster" not in run_cli(*words, "--limit", 2).out
    assert "one cluster" not in run_cli(*words, "--ids", "0:1").out


def test_text_is_a_heading_a_row_per_model_and_paired_differences(run_cli, pair):
    result = run_cli(*pair("--eta", 0.3, "--limit", 8, "--compare"))
    assert result.code == 0, result.err
    # The experts of the tests are Gaussians, worse than a guess on digits.
    heading, merged, likelihood, quality, guess, kept = result.out.splitlines()
    assert re.fullmatch(r"digits/test  8 images  eta 0\.30 \(gamma -2\.884, edm_sigma 0\.2365\)", heading)
    assert re.fullmatch(r"merged      -?\d+\.\d{3} ± \d\.\d{3} bits/dim   \d+ evaluations/image", merged)
    row = (
        r"  -?\d+\.\d{3}   merged \N{MINUS SIGN} (?:likelihood|quality): [+-]\d\.\d{3} ± \d\.\d{3} \(paired\)"
    )
    assert re.fullmatch("likelihood" + row, likelihood)
    assert re.fullmatch("quality   " + row, quality)
    assert guess.startswith("warning: above the 4.087 bits/dim of guessing every grey level alike")
    assert kept == report.NOT_KEPT
    assert result.err.index("estimate:") >= 0


def test_likelihood_of_a_guided_flow_is_called_that(run_cli, pair, experts, tmp_path):
    options = pair("--eta", 0.3, "--limit", 2, "--guidance", 1.5, "--guide", experts("far"), "--out", "run")
    result = run_cli(*options)
    assert result.code == 0, result.err
    assert "guided: this is the likelihood of the guided flow, whose field denoises no data" in result.out
    assert load_scores(tmp_path / "run").unit == "bits/dim under the guided flow"
    assert run_cli(*pair("--eta", 0.3, "--limit", 2, "--out", "run")).code == 7


def test_json_is_the_summary(run_cli, pair):
    result = run_cli(*pair("--eta", 0.3, "--limit", 8, "--compare", "--json"))
    assert result.code == 0, result.err
    found = result.json
    assert set(found) >= KEYS
    assert found["n"] == found["data"]["n"] == 8
    assert set(found["threshold"]) == {"eta", "gamma", "edm_sigma", "logsnr"}
    assert set(found["bits_per_dim"]) >= {"mean", "se", "se_images", "se_clustered", "se_probe"}
    assert found["evaluations"]["total"] == pytest.approx(
        found["evaluations"]["likelihood"] + found["evaluations"]["quality"]
    )
    assert [other["name"] for other in found["compare"]] == ["likelihood", "quality"]
    for other in found["compare"]:
        assert set(other["paired"]) >= {"difference", "se", "se_images", "n"}
        difference = found["bits_per_dim"]["mean"] - other["bits_per_dim"]["mean"]
        assert other["paired"]["difference"] == pytest.approx(difference, abs=1e-12)


def test_terms_of_each_record_add_up_to_its_bits_per_dim(run_cli, nll):
    assert run_cli(*nll("one", "--limit", 3, "--out", "run")).code == 0
    for record in open_run("run").records():
        bits = -sum(record.terms_nats.values()) / (64 * 0.6931471805599453)
        assert record.bits_per_dim == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize("end", ["min", "max", "0", "1"])
def test_ends_of_eta_are_words_and_numbers(run_cli, pair, end):
    result = run_cli(*pair("--eta", end, "--limit", 2, "--json"))
    assert result.code == 0, result.err
    expected = {"min": (-7.006,), "max": (5.0,), "0": (), "1": ()}[end]
    assert tuple(leg["end"] for leg in result.json["legs"])[:-1] == expected


@pytest.mark.parametrize(
    ("likelihood", "quality", "end"), [("far", "quality", "max"), ("likelihood", "near", "min")]
)
def test_an_end_of_eta_lies_where_both_were_trained(run_cli, experts, likelihood, quality, end):
    # One expert reaches further than the other, so that the end of its range is no threshold.
    words = ("--data", "digits", "--limit", 2, "--threads", 1, "--device", "cpu")
    both = ("--likelihood-expert", experts(likelihood), "--quality-expert", experts(quality))
    found = run_cli("nll", *words, *both, "--eta", end, "--json")
    assert found.code == 0
    (leg,) = found.json["legs"]
    assert (leg["start"], leg["end"]) == (-7.876, 8.764)
    assert found.json["threshold"]["gamma"] == {"max": 8.764, "min": -7.876}[end]
    assert run_cli("threshold", *words, "--tune-limit", 8, *both, "--json").code == 0


def test_expert_alone_equals_eta_1(run_cli, experts, nll):
    common = ("--limit", 4, "--threads", 1, "--device", "cpu", "--quiet")
    alone = run_cli(*nll("likelihood", *common, "--out", "alone"))
    both = ("--likelihood-expert", experts("likelihood"), "--quality-expert", experts("quality"))
    merged = run_cli("nll", "--data", "digits", *both, "--eta", 1, *common, "--out", "merged")
    assert alone.code == merged.code == 0
    assert numbers("alone") == numbers("merged")


def test_larger_limit_goes_on_from_a_smaller_one(run_cli, nll):
    assert run_cli(*nll("one", "--limit", 4, "--out", "run")).code == 0
    first = numbers("run")
    result = run_cli(*nll("one", "--limit", 6, "--out", "run", "--json"))
    assert result.code == 0, result.err
    assert result.json["n"] == 6
    assert result.json["settings"]["batch_size"] == 4  # as recorded
    kept = {record.id: record for record in numbers("run")}
    assert all(kept[record.id] == record for record in first)
    again = run_cli(*nll("one", "--limit", 6, "--out", "run", "--json"))
    assert again.json["bits_per_dim"] == result.json["bits_per_dim"]


def test_union_of_shards_equals_a_single_run(run_cli, nll):
    options = ("--ids", "0:7", "--batch-size", 4)
    assert run_cli(*nll("one", *options, "--out", "single")).code == 0
    assert run_cli(*nll("one", *options, "--out", "parts", "--shard", "0/2")).code == 0
    partial = run_cli("runs", "show", "parts", "--json")
    assert partial.code == partial.json["code"] == 9
    assert partial.json["missing"] == [1, 3, 5]
    assert [r.id for r in open_run("parts").records()] == [0, 2, 4, 6]
    # Another number of workers finishes it.
    assert run_cli(*nll("one", *options, "--out", "parts", "--shard", "1/3")).code == 0
    assert run_cli(*nll("one", *options, "--out", "parts")).code == 0
    assert numbers("parts") == numbers("single")
    assert run_cli("runs", "show", "parts").code == 0


def test_blocks_that_share_their_steps_stay_whole(run_cli, nll):
    options = ("--ids", "0:6", "--batch-size", 2, "--step-control", "shared")
    assert run_cli(*nll("one", *options, "--out", "single")).code == 0
    assert run_cli(*nll("one", *options, "--out", "parts", "--shard", "1/2")).code == 0
    assert [r.id for r in open_run("parts").records()] == [2, 3]
    assert run_cli(*nll("one", *options, "--out", "parts", "--shard", "0/2")).code == 0
    assert numbers("parts") == numbers("single")
    larger = run_cli(*nll("one", "--ids", "0:8", *options[2:], "--out", "parts"))
    assert larger.code == 7
    assert "blocks.ids" in larger.err


def test_compare_may_be_added_to_a_kept_run(run_cli, pair):
    options = ("--eta", 0.3, "--limit", 3, "--out", "run")
    assert run_cli(*pair(*options)).code == 0
    before = numbers("run")
    result = run_cli(*pair(*options, "--compare", "--json"))
    assert result.code == 0, result.err
    assert numbers("run") == before
    assert [other["n"] for other in result.json["compare"]] == [3, 3]
    shown = run_cli("runs", "show", "run", "--json")
    assert shown.json["compare"] == result.json["compare"]
    compared = run_cli("runs", "compare", "run", "run/likelihood", "--json")
    paired = result.json["compare"][0]["paired"]
    assert compared.json["paired"] == paired


def test_other_settings_are_refused_and_named(run_cli, nll, experts):
    assert run_cli(*nll("one", "--limit", 2, "--out", "run")).code == 0
    before = numbers("run")
    result = run_cli(*nll("one", "--limit", 2, "--out", "run", "--tol", "1e-2", "--json"))
    assert result.code == result.json["code"] == 7
    assert list(result.json["error"]["fields"]["differences"]) == ["settings.tol"]
    assert run_cli(*nll("two", "--limit", 2, "--out", "run")).code == 7
    machine = run_cli(*nll("one", "--limit", 3, "--out", "run", "--batch-size", 3))
    assert machine.code == 7
    assert "--allow-rebatch" in machine.err
    assert numbers("run") == before
    marked = run_cli(
        *nll("one", "--limit", 3, "--out", "run", "--batch-size", 3, "--allow-rebatch", "--json")
    )
    assert marked.code == 0
    assert marked.json["rebatched"] is True
    assert [r.rebatched for r in open_run("run").records()].count(True) == 1


def test_nan_of_the_network_fails_its_images_only(run_cli, nll):
    result = run_cli(*nll("holed", "--ids", "0:8", "--out", "run", "--json"))
    assert result.code == result.json["code"] == 5
    assert 0 < result.json["n_failed"] < 8
    assert result.json["bits_per_dim"] is None
    assert result.json["error"]["type"] == "SolveError"
    statuses = {r.status for r in open_run("run").records()}
    assert statuses == {"ok", "nonfinite"}
    allowed = run_cli(*nll("holed", "--ids", "0:8", "--out", "run", "--allow-failed"))
    assert allowed.code == 5
    assert "the mean is over the" in allowed.out


def test_dry_run_shows_the_plan_and_writes_nothing(run_cli, pair, tmp_path):
    result = run_cli(*pair("--eta", 0.3, "--out", "run", "--dry-run", "--json"))
    assert result.code == 0, result.err
    assert result.json["dry_run"] is True
    assert result.json["n"] == 360
    assert result.json["estimate"]["seconds"] > 0
    assert result.json["estimate"]["rows"] == result.json["settings"]["batch_size"] == 64
    estimate = result.json["estimate"]
    assert 0 < estimate["check_seconds"] < estimate["seconds"]
    text = run_cli(*pair("--eta", 0.3, "--out", "run", "--dry-run"))
    assert "nothing was written" in text.out
    assert not list(tmp_path.iterdir())


def test_long_evaluation_is_kept_by_default_and_found_again(run_cli, nll, monkeypatch):
    monkeypatch.setattr(planning, "KEPT_SECONDS", -1.0)
    first = run_cli(*nll("one", "--limit", 2))
    assert first.code == 0, first.err
    (folder,) = Path("runs").iterdir()
    assert re.fullmatch(r"nll-digits-[0-9a-f]{8}", folder.name)
    assert f"run: {folder}" in first.err
    monkeypatch.setattr(planning, "KEPT_SECONDS", 600.0)
    second = run_cli(*nll("one", "--limit", 3))
    assert f"kept in {folder}: 3 images" in second.out


def test_environment_may_change_unless_it_must_not(run_cli, nll, monkeypatch):
    from merged_diffusion import runs

    assert run_cli(*nll("one", "--limit", 2, "--out", "run")).code == 0
    monkeypatch.setattr(runs, "versions", lambda: {"torch": "9.9"})
    assert run_cli(*nll("one", "--limit", 3, "--out", "run", "--strict-env")).code == 7
    noted = run_cli(*nll("one", "--limit", 3, "--out", "run"))
    assert noted.code == 0
    assert "torch" in noted.err


def test_global_switches_are_set_and_restored(run_cli, nll, monkeypatch):
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.get_default_dtype()
    seen = []
    real = planning.Plan.check_experts

    def look(self):
        seen.append((torch.get_num_threads(), torch.backends.cudnn.allow_tf32, _core.threads()))
        real(self)

    monkeypatch.setattr(planning.Plan, "check_experts", look)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run_cli(*nll("one", "--limit", 2)).code == 0
    assert seen == [(1, False, 1)]
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.get_default_dtype()) == before


def test_quiet_says_nothing_on_standard_error(run_cli, nll):
    assert run_cli(*nll("one", "--limit", 2, "--quiet")).err == ""


def started(process, folder, n):
    """Wait until a process has kept n records; how many there are."""
    for _ in range(1200):
        lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("images-*.jsonl"))
        if lines >= n or process.poll() is not None:
            assert process.poll() is None, process.communicate()
            return lines
        time.sleep(0.05)
    raise AssertionError("no records appeared")


def test_resume_after_kill_9_gives_what_an_unbroken_run_gives(run_cli, start, nll, tmp_path):
    options = ("--ids", "0:6", "--batch-size", 1, "--rtol", "1e-3", "--atol", "1e-3")
    process = start(*nll("slow", *options, "--out", "run"))
    started(process, tmp_path / "run", 2)
    process.kill()
    process.wait()
    kept = len(numbers(tmp_path / "run"))
    assert 2 <= kept < 6
    (log,) = (tmp_path / "run").glob("images-*.jsonl")
    log.write_bytes(log.read_bytes() + b'{"id":5,"bits')  # torn in the middle of a record
    result = run_cli(*nll("slow", *options, "--out", "run"))
    assert result.code == 0, result.err
    assert "cut 13 bytes" in result.err
    assert run_cli(*nll("slow", *options, "--out", "unbroken")).code == 0
    assert numbers("run") == numbers("unbroken")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_at_a_record_boundary(start, nll, tmp_path, number, code):
    options = ("--ids", "0:40", "--batch-size", 1, "--rtol", "1e-3", "--atol", "1e-3", "-o", "run")
    process = start(*nll("slow", *options))
    started(process, tmp_path / "run", 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    (log,) = (tmp_path / "run").glob("images-*.jsonl")
    assert log.read_bytes().endswith(b'"}\n')
    n = len(numbers(tmp_path / "run"))
    if number == signal.SIGINT:
        assert re.search(rf"digits/test  {n} images", out)
        assert f"interrupted, {40 - n} images are left" in err
        assert re.search(r"^to go on: merged-diffusion nll .* -o run$", err, re.MULTILINE)


def test_interrupt_under_json_is_one_object(start, nll, tmp_path):
    options = (
        "--ids",
        "0:40",
        "--batch-size",
        1,
        "--rtol",
        "1e-3",
        "--atol",
        "1e-3",
        "--out",
        "run",
        "--json",
    )
    process = start(*nll("slow", *options))
    started(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    found = json.loads(out)
    assert found["code"] == process.returncode == 130
    assert found["error"]["fields"]["partial"]["bits_per_dim"]["mean"] is not None


def test_second_process_on_the_run_is_refused_by_name(run_cli, start, nll, tmp_path):
    options = ("--ids", "0:40", "--batch-size", 1, "--out", tmp_path / "run")
    process = start(*nll("slow", *options))
    started(process, tmp_path / "run", 1)
    result = run_cli(*nll("slow", *options, "--json"))
    assert result.code == result.json["code"] == 7
    assert result.json["error"]["type"] == "RunLockedError"
    assert result.json["error"]["fields"]["pid"] == process.pid


def test_flipped_bit_is_code_7_with_its_offset(run_cli, nll, tmp_path):
    assert run_cli(*nll("one", "--limit", 3, "--out", "run")).code == 0
    (log,) = (tmp_path / "run").glob("images-*.jsonl")
    content = bytearray(log.read_bytes())
    content[30] ^= 4
    log.write_bytes(content)
    for arguments in (nll("one", "--limit", 4, "--out", "run", "--json"), ("runs", "show", "run", "--json")):
        result = run_cli(*arguments)
        assert result.code == 7
        assert result.json["error"]["type"] == "RunCorruptError"
        assert result.json["error"]["fields"]["offset"] == 0
    assert log.read_bytes() == content


def test_changed_data_is_refused_on_resume(run_cli, experts, tmp_path):
    images = np.random.RandomState(0).randint(0, 17, (3, 1, 8, 8)).astype(np.uint8)
    common = ("--levels", 17, "--expert", experts("one"), "--threads", 1, "--device", "cpu", "--out", "run")
    np.save(tmp_path / "images.npy", images)
    assert run_cli("nll", "--data", "images.npy", *common).code == 0
    np.save(tmp_path / "images.npy", images[::-1])
    result = run_cli("nll", "--data", "images.npy", *common)
    assert result.code == 7
    assert "data.sha256" in result.err


def test_reader_that_went_away_is_no_error(start, nll, tmp_path):
    process = start(*nll("one", "--limit", 2, "--out", "run"))
    process.stdout.close()
    process.stdout = open(os.devnull)  # noqa: SIM115, PTH123 communicate() wants a file
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert len(numbers(tmp_path / "run")) == 2


def test_run_in_float64_goes_on_and_keeps_its_name(run_cli, nll, monkeypatch):
    monkeypatch.setattr(planning, "KEPT_SECONDS", -1.0)
    for limit in (2, 3):
        result = run_cli(*nll("one", "--limit", limit, "--dtype", "float64"))
        assert result.code == 0, result.err
    (folder,) = Path("runs").iterdir()
    assert len(numbers(folder)) == 3


def test_adams_takes_a_fraction_of_the_evaluations(run_cli, pair):
    options = ("--eta", 0.3, "--limit", 4, "--json")
    adams = run_cli(*pair(*options, "--method", "adams"))
    dopri5 = run_cli(*pair(*options, "--method", "dopri5"))
    assert adams.code == dopri5.code == 0, adams.err
    asked = adams.json["settings"]
    assert (asked["tol"], asked["h_max"], asked["probe"]) == (0.003, 0.7, "fresh")
    assert asked["rtol"] is asked["atol"] is dopri5.json["settings"]["tol"] is None
    assert adams.json["evaluations"]["total"] < 0.6 * dopri5.json["evaluations"]["total"]
    # The trace of these experts is the same for every Rademacher probe: what differs is the path.
    found, expected = (result.json["bits_per_dim"]["mean"] for result in (adams, dopri5))
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("preset", "tol", "h_max"), [("fast", 0.03, 1.0), ("tight", 0.001, 0.5)])
def test_presets_of_adams(run_cli, pair, preset, tol, h_max):
    asked = run_cli(*pair("--eta", 0.3, "--limit", 1, "--preset", preset, "--json")).json["settings"]
    assert (asked["method"], asked["tol"], asked["h_max"]) == ("adams", tol, h_max)


def test_an_option_chooses_the_method_that_it_belongs_to(run_cli, pair):
    options = ("--eta", 0.3, "--limit", 1, "--json")
    assert run_cli(*pair(*options, "--h-max", 0.5)).json["settings"]["method"] == "adams"
    assert run_cli(*pair(*options, "--atol", 1e-4)).json["settings"]["method"] == "dopri5"


def test_failure_of_an_expert_alone_is_a_failure(run_cli, experts):
    # Merged, the holed expert is asked below its hole only.
    result = run_cli(
        *("nll", "--data", "digits", "--likelihood-expert", experts("holed"), "--device", "cpu"),
        *("--quality-expert", experts("quality"), "--gamma", "1.5", "--ids", "0:8", "--compare", "--json"),
        *("--threads", 1, "--out", "run"),
    )
    assert result.json["n_failed"] == 0
    assert result.code == result.json["code"] == 5
    assert "failed under the likelihood expert alone" in result.json["error"]["message"]
    assert {failure["model"] for failure in result.json["failures"]} == {"likelihood"}
    assert run_cli("runs", "show", "run").code == 5


def test_comparison_that_was_cut_off_is_incomplete(run_cli, pair):
    options = ("--eta", 0.3, "--limit", 3, "--out", "run")
    assert run_cli(*pair(*options)).code == 0
    assert run_cli(*pair(*options, "--compare")).code == 0
    (records,) = Path("run/quality").glob("images-*.jsonl")
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:1]))
    shown = run_cli("runs", "show", "run", "--json")
    assert shown.code == 9
    assert shown.json["n_missing"] == 2
