"""Bad input gets a clear error and loses nothing: exit code, message, nothing written, no traceback."""

import numpy as np
import pytest
from PIL import Image

from merged_diffusion import errors
from merged_diffusion.cli import group, main

THRESHOLDS = [
    (["--eta", "-0.1"], "outside [0, 1]"),
    (["--eta", "1.5"], "outside [0, 1]"),
    (["--eta", "nan"], "outside [0, 1]"),
    (["--eta", "x"], "neither a number"),
    (["--eta", "auto", "--gamma", "1"], "--eta and --gamma"),
    (["--eta", "0.3", "--gamma", "-5"], "one threshold"),
    (["--gamma", "inf"], "finite"),
    (["--edm-sigma", "-1"], "positive"),
    (["--logsnr", "nan"], "finite"),
]
NUMBERS = [
    (["--limit", "0"], "--limit 0"),
    (["--limit", "8", "--ids", "0:8"], "--limit and --ids"),
    (["--ids", "5:5"], "no image"),
    (["--ids", "5"], "A:B"),
    (["--ids", "350:400"], "360"),
    (["--importance", "0"], "--importance 0"),
    (["--repeats", "0"], "--repeats 0"),
    (["--probes", "0"], "--probes 0"),
    (["--rtol", "0"], "rtol = 0"),
    (["--atol", "-1"], "atol = -1"),
    (["--rtol", "nan"], "rtol = nan"),
    (["--rtol", "1e-15"], "last place"),
    (["--tol", "0"], "tol = 0"),
    (["--h-max", "0"], "h-max = 0"),
    (["--tol", "0.01", "--rtol", "1e-4"], "tol 0.01 belongs to method adams"),
    (["--method", "dopri5", "--probe", "fresh"], "5,000 evaluations"),
    (["--method", "adams", "--step-control", "shared"], "step-control shared belongs to method dopri5"),
    (["--preset", "paper", "--method", "adams"], "--preset paper is of method dopri5"),
    (["--probe", "exact", "--probes", "2"], "probes = 2"),
    (["--dequantise", "none", "--importance", "2"], "draws none"),
    (["--batch-size", "0"], "--batch-size 0"),
    (["--seed", "-1"], "seed = -1"),
    (["--shard", "2/2"], "I/N"),
    (["--method", "euler"], "euler"),
    (["--labels", "cat"], "class number"),
    (["--device", "abacus"], "abacus"),
    (["--split", "validation"], "validation"),
]


def refused(result, code, text, folder):
    assert result.code == code, result.err
    assert text in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not [p for p in folder.iterdir() if p.suffix not in (".npz", ".npy")]


@pytest.mark.parametrize(("options", "text"), THRESHOLDS)
def test_threshold_is_refused(run_cli, pair, tmp_path, options, text):
    refused(run_cli(*pair("--out", "run", *options)), 2, text, tmp_path)


@pytest.mark.parametrize(("options", "text"), NUMBERS)
def test_number_is_refused(run_cli, pair, tmp_path, options, text):
    refused(run_cli(*pair("--eta", "0.3", "--out", "run", *options)), 2, text, tmp_path)


def test_eta_outside_of_both_experts_is_refused_before_the_run(run_cli, pair, tmp_path):
    refused(run_cli(*pair("--eta", "0.02", "--out", "run")), 2, "0.02", tmp_path)


@pytest.mark.parametrize(
    "option", [["--eta", "0.3"], ["--pair", "digits"], ["--compare"], ["--quality-expert", "x"]]
)
def test_one_expert_alone_excludes_what_belongs_to_two(run_cli, nll, tmp_path, option):
    refused(run_cli(*nll("one", "--out", "run", *option)), 2, option[0], tmp_path)


def test_two_experts_need_a_threshold(run_cli, pair, tmp_path):
    refused(run_cli(*pair("--out", "run")), 2, "--eta", tmp_path)


@pytest.mark.parametrize("data", ["cifar", "nowhere/images.npz"])
def test_unknown_data_is_a_usage_error(run_cli, experts, tmp_path, data):
    result = run_cli("nll", "--data", data, "--expert", experts("one"), "--out", "run")
    refused(result, 2, data, tmp_path)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((2, 1, 8, 8), np.float32), "float32"),
        (np.zeros((2, 1, 8, 8), np.int64), "int64"),
        (np.zeros((2, 8, 8, 1), np.uint8), "[2, 8, 8, 1]"),
        (np.zeros((2, 1, 28, 28), np.uint8), "28"),
        (np.full((2, 1, 8, 8), 17, np.uint8), "17"),
    ],
)
def test_images_of_another_kind_are_refused(run_cli, experts, tmp_path, images, text):
    np.save(tmp_path / "images.npy", images)
    result = run_cli(
        *("nll", "--data", "images.npy", "--levels", 17, "--expert", experts("one"), "--device", "cpu"),
        *("--out", "run"),
    )
    refused(result, 3, text, tmp_path)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("misshapen", 4, "shape"),
        ("raising", 4, "no weights today"),
        ("other_levels", 3, "256"),
        ("nobody", 4, "nobody"),
    ],
)
def test_unsound_expert_is_refused_before_the_run(run_cli, nll, tmp_path, name, code, text):
    refused(run_cli(*nll(name, "--limit", 2, "--out", "run")), code, text, tmp_path)


def test_reversed_gamma_range_is_a_usage_error(run_cli, nll, tmp_path):
    result = run_cli(*nll("reversed_range", "--limit", 2, "--out", "run"))
    refused(result, 2, "-7", tmp_path)


@pytest.mark.parametrize("source", ["results/nothing", "nothing.py:expert", "bundled:nothing"])
def test_expert_that_is_not_there_is_refused(run_cli, tmp_path, source):
    result = run_cli("nll", "--data", "digits", "--expert", source, "--out", "run")
    refused(result, 4, "nothing", tmp_path)


def test_place_that_cannot_be_written_is_code_6(run_cli, nll, tmp_path):
    (tmp_path / "occupied.npy").touch()
    refused(run_cli(*nll("one", "--limit", 2, "--out", "occupied.npy/run")), 6, "occupied.npy", tmp_path)


def test_error_under_json_is_one_object_with_its_code(run_cli, pair):
    result = run_cli(*pair("--eta", "2", "--json"))
    assert result.code == result.json["code"] == 2
    assert set(result.json) == {"error", "code"}
    assert set(result.json["error"]) == {"type", "message", "fields", "hint"}
    assert result.json["error"]["type"] == "UsageError"


def test_usage_error_of_click_under_json_is_one_object_too(run_cli):
    result = run_cli("nll", "--json")
    assert result.code == result.json["code"] == 2
    assert "--data" in result.json["error"]["message"]


CODES = {
    errors.UsageError: 2,
    errors.ExpertRangeError: 2,
    errors.DataError: 3,
    errors.DataIntegrityError: 3,
    errors.DataNotFoundError: 3,
    errors.ExpertError: 4,
    errors.CheckpointError: 4,
    errors.UnsupportedCheckpointError: 4,
    errors.UnsafeFileError: 4,
    errors.SolveError: 5,
    errors.StorageError: 6,
    errors.RunError: 7,
    errors.RunLockedError: 7,
    errors.RunMismatchError: 7,
    errors.RunCorruptError: 7,
    errors.ResourceError: 8,
    errors.IncompleteError: 9,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_error_has_its_exit_code(monkeypatch, capsys, kind, code):
    def fail(*args, **kwargs):
        raise kind("what happened", hint="what to do", value=float("nan"))

    monkeypatch.setattr(group, "main", fail)
    assert main(["nll"]) == code
    assert capsys.readouterr().err == "error: what happened; what to do\n"


def test_unexpected_exception_is_code_1_and_asks_for_a_report(monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(group, "main", fail)
    monkeypatch.delenv("MERGED_DIFFUSION_DEBUG", raising=False)
    assert main(["nll"]) == 1
    err = capsys.readouterr().err
    assert "report it" in err
    assert "Traceback" not in err
    monkeypatch.setenv("MERGED_DIFFUSION_DEBUG", "1")
    assert main(["nll"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_picture_is_no_expert(run_cli, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    done = run_cli("nll", "--data", "photos", "--expert", "one.png")
    assert done.code not in (0, 1)
    assert "one.png: a picture, and no model; images are given by --data" in done.err
    assert "i-DODE" not in done.err


def test_a_file_as_the_place_of_a_run_is_refused_at_once(run_cli, tmp_path):
    (tmp_path / "samples.png").write_bytes(b"mine")
    done = run_cli("nll", "--data", "photos", "--expert", "nowhere", "--out", "samples.png")
    assert done.code == 2
    assert "'--out' / '-o': Directory 'samples.png' is a file." in done.err
    assert (tmp_path / "samples.png").read_bytes() == b"mine"
