"""``sweep --metric vlb`` and ``sample``: rows are what the single commands give, and their table."""

import errno
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from merged_diffusion.runs import open_run

HEUN = ("--metric", "sample", "--sampler", "heun", "--steps", 4, "--num", 40)


def records(folder):
    return [replace(r, environment=None, rebatched=False) for r in open_run(folder).records()]


def drawn(folder):
    return (Path(folder) / "samples.npz").read_bytes()


def test_rows_of_a_bound_are_the_runs_of_vlb_to_the_last_bit(run_cli, sweep):
    options = ("--limit", 6, "--times", 5, "--repeats", 2, "--profile", "--batch-size", 4)
    result = run_cli(*sweep("--metric", "vlb", *options, "--etas", "0,0.3,1", "--out", "swept", "--json"))
    assert result.code == 0, result.err
    table = result.json
    assert (table["metric"], table["settings"]["times"]) == ("vlb", 5)
    for eta, folder in [(0, "quality"), (0.3, "eta-0.3000"), (1, "likelihood")]:
        alone = run_cli("vlb", *sweep(*options, "--eta", eta, "--out", f"alone-{eta}")[1:])
        assert alone.code == 0, alone.err
        assert records(f"swept/{folder}") == records(f"alone-{eta}")
    assert table["evaluations"] == {"spent": 6 * 3 * 10, "single_runs": 6 * 3 * 10}
    for line in table["rows"]:
        assert line["summary"]["repeats"]["n"] == 2
        best = next(row for row in table["rows"] if row["name"] == table["best"]["name"])
        means = [row["summary"]["bits_per_dim"]["mean"] for row in (line, best)]
        assert line["paired"]["difference"] == pytest.approx(means[0] - means[1], abs=1e-12)
    assert json.loads(Path("swept/sweep.json").read_text()) == table
    again = run_cli(*sweep("--metric", "vlb", *options, "--etas", "0,0.3,1", "--out", "swept", "--json"))
    assert again.json["evaluations"] == table["evaluations"]


def test_merged_rows_of_a_bound_have_the_same_times(run_cli, sweep):
    options = ("--metric", "vlb", "--ids", "0:3", "--times", 4, "--profile", "--etas", "0.2,0.5")
    assert run_cli(*sweep(*options, "--out", "swept")).code == 0
    gammas = [[r.profile["gamma"] for r in records(f"swept/eta-0.{k}000")] for k in (2, 5)]
    assert gammas[0] == gammas[1]


def test_other_times_and_another_metric_are_refused_in_the_same_sweep(run_cli, sweep):
    options = ("--ids", "0:2", "--etas", "0.2,0.5", "--out", "swept", "--json")
    assert run_cli(*sweep("--metric", "vlb", *options)).code == 0
    for other, told in [(("--metric", "vlb", "--times", 3), "times"), ((), "metric")]:
        result = run_cli(*sweep(*other, *options))
        assert (result.code, result.json["error"]["type"]) == (7, "RunMismatchError")
        assert told in result.json["error"]["message"]


def test_an_expert_that_raises_at_one_threshold_leaves_the_other_bounds_alone(run_cli, sweep):
    options = ("--metric", "vlb", "--ids", "0:4", "--times", 16, "--etas", "0.08,0.3,0.5", "--json")
    result = run_cli(*sweep(*options, quality="touchy"))
    assert result.code == 5
    errors = [line["error"] and line["error"]["message"] for line in result.json["rows"]]
    assert "expert touchy raised RuntimeError: not at this noise" in errors[0]
    assert errors[1:] == [None, None]


def test_rows_of_samples_are_what_sample_writes_byte_for_byte(run_cli, sweep, more_experts):
    table = run_cli(*sweep(*HEUN, "--etas", "0,0.3,1", "--out", "swept", "--json")).json
    common = (*HEUN[2:], "--threads", 1, "--device", "cpu")
    both = [word for role in ("likelihood", "quality") for word in (f"--{role}-expert", more_experts(role))]
    for model, folder in [
        ((*both, "--eta", 0.3), "eta-0.3000"),
        (("--expert", more_experts("likelihood")), "likelihood"),
    ]:
        assert run_cli("sample", *model, *common, "--out", f"{folder}.npz").code == 0
        assert drawn(f"swept/{folder}") == Path(f"{folder}.npz").read_bytes()
    assert table["data"] == {"name": "digits", "split": "train", "n": 40}
    assert table["settings"]["num"] == 40
    with np.load("swept/quality/samples.npz") as alone, np.load("swept/eta-0.3000/samples.npz") as merged:
        assert (alone["ids"] == merged["ids"]).all()


def test_samples_are_measured_as_fid_does_and_the_least_distance_is_best(run_cli, sweep):
    table = run_cli(*sweep(*HEUN, "--etas", "0.1,0.3,0.6", "--out", "swept", "--json")).json
    figures = [line["summary"]["quality"]["primary"] for line in table["rows"]]
    assert {figure["name"] for figure in figures} == {"frechet-classifier"}
    for line, figure in zip(table["rows"], figures, strict=True):
        folder = line["folder"]
        fid = run_cli("fid", f"swept/{folder}/samples.npz", "--ref", "digits", "--json", "--threads", 1).json
        (same,) = (one for one in fid["metrics"] if one["name"] == figure["name"])
        assert (same["value"], same["se"]) == (figure["value"], figure["se"])
        assert line["summary"]["evaluations"]["total"] > 0
    best = min(table["rows"], key=lambda line: line["summary"]["quality"]["primary"]["value"])
    assert table["best"]["name"] == best["name"]
    for line, figure in zip(table["rows"], figures, strict=True):
        least = best["summary"]["quality"]["primary"]
        assert line["paired"]["difference"] == figure["value"] - least["value"]
        # The delete-one-group values of both come of the same groups of ids.
        steps = np.subtract(figure["replicates"], least["replicates"])
        n = len(steps)
        assert line["paired"]["se"] == pytest.approx(math.sqrt((n - 1) * steps.var()), abs=1e-12)


def test_text_of_samples_has_a_distance_for_each_threshold(run_cli, sweep, tmp_path):
    result = run_cli(*sweep(*HEUN, "--etas", "0.1,0.3"))
    assert result.code == 0, result.err
    heading, *rows, best, _close, _edge, evaluations, kept = result.out.splitlines()
    assert heading == "digits/train  40 images of heun  2 thresholds"
    assert all("frechet-classifier" in row and "evaluations/image" in row for row in rows)
    assert best.endswith("(differences from it are of the same ids and noise)")
    assert evaluations.startswith("evaluations: ")
    assert kept.startswith("not kept")
    assert not list(tmp_path.iterdir())


def test_samples_that_were_killed_go_on_to_the_same_files(run_cli, sweep, start, tmp_path):
    options = ("--metric", "sample", "--sampler", "dpmpp-2m", "--num", 24, "--batch-size", 2)
    arguments = sweep(*options, "--etas", "0.2,0.5", "--out", "swept", likelihood="slow_likelihood")
    process = start(*arguments)
    deadline = time.monotonic() + 600
    part = tmp_path / "swept" / "eta-0.2000" / "samples.npz.part"
    while len(list(part.glob("0*.npz"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.wait()
    held = {path.name: path.read_bytes() for path in part.glob("0*.npz")}
    assert 2 <= len(held) < 12
    result = run_cli(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.json["evaluations"]["spent"] < 2 * 24 * 20
    whole = sweep(*options, "--etas", "0.2,0.5", "--out", "unbroken", likelihood="slow_likelihood")
    assert run_cli(*whole).code == 0
    for folder in ("eta-0.2000", "eta-0.5000"):
        assert drawn(f"swept/{folder}") == drawn(f"unbroken/{folder}")
        assert [path.name for path in sorted(Path("swept", folder).iterdir())] == [
            "samples.npz",
            "summary.json",
        ]


def test_what_is_drawn_and_measured_is_not_done_again_but_by_other_statistics(run_cli, sweep):
    options = sweep(*HEUN, "--etas", "0.2,0.5", "--out", "swept", "--json")
    first = run_cli(*options).json
    path = Path("swept/eta-0.2000/summary.json")
    kept = json.loads(path.read_text())
    kept["quality"]["primary"]["value"] = 7.0
    path.write_text(json.dumps(kept))
    second = run_cli(*options).json
    assert second["evaluations"] == first["evaluations"]
    assert second["rows"][0]["summary"]["quality"]["primary"]["value"] == 7.0
    kept["quality"]["reference"]["sha256"] = "of another file"
    for damaged in (json.dumps(kept), "{", "{}", "[]"):
        path.write_text(damaged)
        again = run_cli(*options).json["rows"][0]
        assert again["summary"]["quality"] == first["rows"][0]["summary"]["quality"]


def test_an_expert_that_raises_at_one_threshold_leaves_the_other_samples_alone(run_cli, sweep):
    options = (*HEUN[:-2], "--steps", 40, "--num", 32, "--etas", "0.08,0.3,0.5", "--out", "swept", "--json")
    result = run_cli(*sweep(*options, quality="touchy"))
    assert result.code == 5
    errors = [line["error"] and line["error"]["message"] for line in result.json["rows"]]
    assert "expert touchy raised RuntimeError: not at this noise" in errors[0]
    assert errors[1:] == [None, None]
    assert result.json["best"]["eta"] in (0.3, 0.5)
    assert not Path("swept/eta-0.0800/samples.npz").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("--metric", "sample", "--limit", 5),
            "limit 5 belongs to metric nll and vlb, and the metric is sample",
        ),
        (("--metric", "sample", "--ids", "0:4"), "belongs to metric nll and vlb"),
        (("--metric", "sample", "--preset", "fast"), "preset fast belongs to metric nll"),
        (("--metric", "sample", "--labels", "from-data"), "labels from-data belongs to metric nll and vlb"),
        (
            ("--metric", "sample", "--steps", 5),
            "steps 5 belongs to heun, dpmpp-2m, dpmpp-3m, unipc, deis, ipndm, dpm-v3 and ancestral",
        ),
        (("--metric", "sample", "--times", 5), "times 5 belongs to metric vlb"),
        (("--metric", "sample", "--num", 1), "num 1 lies below 2"),
        (("--metric", "sample", "--etas", "0.2,0.99"), "not trained"),
        (("--metric", "vlb", "--dequantise", "none"), "dequantise none belongs to metric nll"),
        (("--metric", "vlb", "--rtol", "1e-3"), "rtol 0.001 belongs to metric nll and sample"),
        (("--metric", "vlb", "--num", 5), "num 5 belongs to metric sample, and the metric is vlb"),
        (("--metric", "vlb", "--times", 0), "0"),
        (("--profile",), "profile belongs to metric vlb, and the metric is nll"),
        (("--sampler", "heun"), "sampler heun belongs to metric sample"),
        (("--labels", "cycle"), "labels cycle belongs to metric sample"),
        (("--metric", "fid"), "fid"),
    ],
)
def test_options_of_another_metric_are_refused_and_nothing_is_written(run_cli, sweep, tmp_path, more, told):
    result = run_cli(*sweep(*more, "--out", "swept"))
    assert result.code == 2
    assert told in result.err
    assert not list(tmp_path.iterdir())


def test_samples_of_a_public_set_need_its_statistics_before_anything_is_drawn(run_cli, sweep, tmp_path):
    words = list(sweep(*HEUN, "--cache", "cache", "--out", "swept"))
    words[words.index("digits")] = "cifar10"
    result = run_cli(*words)
    assert result.code == 4
    assert "inception-2015-12-05" in result.err
    assert "cifar10-32x32.npz" in result.err
    assert not (tmp_path / "swept").exists()


@pytest.fixture
def mine(tmp_path):
    """Images that are no known set, of the kind of digits."""
    images = np.random.RandomState(0).randint(17, size=(50, 1, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, levels=17)
    return "mine.npz"


def of(words, data):
    """A sweep of other data than digits."""
    words = list(words)
    words[words.index("digits")] = data
    return words


def test_samples_of_own_data_are_measured_against_them_as_fid_does(run_cli, sweep, mine):
    words = of(sweep(*HEUN, "--etas", "0.1,0.3", "--out", "swept"), mine)
    result = run_cli(*words, "--json")
    assert result.code == 0, result.err
    assert "measured against the 50 images of mine.npz themselves; --ref names others" in result.err
    assert "no FID as published" in result.err
    for line in result.json["rows"]:
        samples = f"swept/{line['folder']}/samples.npz"
        fid = run_cli("fid", samples, "--ref", mine, "--json", "--threads", 1).json
        quality = line["summary"]["quality"]
        assert [quality["primary"], *quality["others"]] == fid["metrics"]
        assert quality["reference"] == fid["reference"]
    data = result.json["data"]
    assert (data["name"], data["n"], data["reference"]["n"]) == ("mine.npz", 40, 50)
    assert data["reference"]["features"] == "digits"
    kept = {path: path.stat().st_mtime_ns for path in Path("swept").glob("*/summary.json")}
    again = run_cli(*words, "--json")
    assert again.json["rows"] == result.json["rows"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # neither drawn nor measured again


def test_samples_are_at_no_distance_from_themselves(run_cli, sweep, mine, more_experts):
    both = [word for role in ("likelihood", "quality") for word in (f"--{role}-expert", more_experts(role))]
    machine = ("--threads", 1, "--device", "cpu")
    assert run_cli("sample", *both, "--eta", 0.3, *HEUN[2:], *machine, "--out", "same.npz").code == 0
    assert run_cli("fid-ref", "same.npz", "same-statistics.npz", "--threads", 1).code == 0
    values = []
    for reference in ("same.npz", "same-statistics.npz"):
        words = of(sweep(*HEUN, "--etas", "0.1,0.3", "--ref", reference, "--json"), mine)
        result = run_cli(*words)
        assert result.code == 0, result.err
        assert "themselves" not in result.err
        values.append([line["summary"]["quality"]["primary"]["value"] for line in result.json["rows"]])
    # Two covariances of 40 images in 64 features: roots of rounding, 1e-8 each.
    assert abs(values[0][1]) < 1e-5 < values[0][0]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_another_reference_in_the_same_sweep_is_refused(run_cli, sweep, mine):
    options = (*HEUN, "--etas", "0.1,0.3", "--out", "swept")
    assert run_cli(*of(sweep(*options), mine)).code == 0
    np.savez("other.npz", images=np.load(mine)["images"][:30], levels=17)
    for more in (("--ref", "other.npz"), ("--features", "pixels"), ("--ref", "digits")):
        result = run_cli(*of(sweep(*options, *more), mine), "--json")
        assert (result.code, result.json["error"]["type"]) == (7, "RunMismatchError")


def test_a_report_of_own_data_shows_the_trade_off(run_cli, sweep, mine):
    options = ("--etas", "0.1,0.3", "--out")
    scored = of(sweep("--limit", 2, "--tol", 0.1, *options, "nll"), mine)
    drawn = of(sweep(*HEUN, "--ref", mine, *options, "samples"), mine)
    for words in (scored, drawn):
        result = run_cli(*words)
        assert result.code == 0, result.err
    result = run_cli("runs", "report", "nll", "samples", "--out", "report.html")
    assert result.code == 0, result.err
    text = Path("report.html").read_text()
    assert "Likelihood against sample quality" in text
    assert "--ref mine.npz" in text  # the command that makes it again


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("--ref", "photos"), 3, "17 grey levels"),
        (("--ref", "no-such-file"), 2, "no-such-file"),
        (("--ref", "wide.npz"), 3, "images [1, 9, 8] of 17 levels, but samples are [1, 8, 8] of 17 levels"),
        (("--metric", "nll", "--ref", "digits"), 2, "ref digits belongs to metric sample"),
    ],
)
def test_a_reference_that_cannot_be_one_is_refused_before_anything_is_drawn(
    run_cli, sweep, mine, tmp_path, more, code, told
):
    np.savez("wide.npz", images=np.ones((20, 1, 9, 8), dtype=np.uint8), levels=17)
    words = ("--metric", "nll") if "nll" in more else HEUN
    result = run_cli(*of(sweep(*words, *more, "--out", "swept"), mine))
    assert result.code == code
    assert told in result.err
    assert not (tmp_path / "swept").exists()


def test_samples_of_another_kind_than_their_set_are_refused(run_cli, sweep):
    result = run_cli(*of(sweep(*HEUN), "photos"))
    assert result.code == 3
    assert "17 grey levels" in result.err


def test_a_dry_run_of_samples_names_the_rows_and_writes_nothing(run_cli, sweep, tmp_path):
    result = run_cli(*sweep(*HEUN, "--dry-run", "--json", "--out", "swept"))
    assert result.code == 0, result.err
    assert (result.json["metric"], result.json["settings"]["sampler"]) == ("sample", "heun")
    assert result.json["estimate"]["n_solves"] == 40 * len(result.json["rows"])
    assert result.json["estimate"]["evaluations_per_image"] == 7
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["summary.json", "samples.npz"])
def test_a_row_of_samples_that_cannot_be_read_is_code_6_and_the_same_command_goes_on(
    run_cli, sweep, monkeypatch, name
):
    from merged_diffusion.sweeps import drawn

    command = sweep(*HEUN, "--etas", "0,0.3", "--out", "swept", "--json")
    real = drawn.read_bytes

    def read(path):
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(drawn, "read_bytes", read)
    failed = run_cli(*command)
    assert failed.code == failed.json["code"] == 6
    assert name in failed.json["error"]["message"]
    monkeypatch.setattr(drawn, "read_bytes", real)
    again = run_cli(*command)
    assert again.code == 0
    assert all(row["summary"] is not None for row in again.json["rows"])
