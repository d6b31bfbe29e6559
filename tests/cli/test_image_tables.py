"""Tables of images join with what else is known of the files, and say where they would not."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import merged_diffusion as md

NAMES = ["-a.png", "=b.png", "@c.png", "plain.png", "tab\tnew.png"]


@pytest.fixture
def scored(run_cli, tmp_path):
    """Files of odd names, scored by a run that was told their folder by a relative path."""
    (tmp_path / "odd").mkdir()
    for name, pixels in zip(NAMES, md.load_data("photos").images, strict=False):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "odd" / name)
    done = run_cli(
        *("nll", "--data", "odd", "--pair", "photos", "--eta", 0, "--threads", 1, "--device", "cpu"),
        *("--h-max", 3, "--tol", 0.1, "--out", "results/odd"),
    )
    assert done.code == 0, done.err
    return tmp_path / "results/odd"


def test_names_are_joined_by_parquet_and_told_of_in_csv(run_cli, scored):
    done = run_cli("runs", "export", scored, "--what", "images", "--out", "t.parquet")
    assert (done.code, done.err) == (0, "")
    assert pd.read_parquet("t.parquet")["file"].tolist() == NAMES
    done = run_cli("runs", "export", scored, "--what", "images")
    assert done.code == 0
    found = [row["file"] for row in csv.DictReader(io.StringIO(done.out))]
    changed = [one for one, name in zip(found, NAMES, strict=True) if one != name]
    assert len(changed) == 4
    assert f"warning: {len(changed)} texts are not as they were in CSV" in done.err
    assert "--out FILE.parquet" in done.err
    assert run_cli("runs", "export", scored, "--what", "images", "--quiet").err == ""


def test_a_relative_path_is_found_above_the_run(run_cli, scored, tmp_path, monkeypatch, caplog):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert md.load_scores(scored).to_dict()["file"].tolist() == NAMES
    # Other images of that name here are not taken for them.
    (tmp_path / "elsewhere/odd").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "elsewhere/odd/plain.png")
    assert md.load_scores("../results/odd").to_dict()["file"].tolist() == NAMES
    assert not caplog.records
    (tmp_path / "odd").rename(tmp_path / "moved")
    assert "file" not in md.load_scores(scored).to_dict()
    assert f"looked for in {tmp_path / 'elsewhere'} and in the folders above {scored}" in caplog.text


@pytest.mark.parametrize("name", ["t.xlsx", "t.txt"])
def test_an_ending_that_is_not_written_is_refused(run_cli, scored, tmp_path, name):
    done = run_cli("runs", "export", scored, "--what", "images", "--out", name)
    assert done.code == 2
    assert f"{name}: a table of images is written as csv or parquet" in done.err
    assert not (tmp_path / name).exists()
    done = run_cli("runs", "export", scored, "--what", "images", "--out", name, "--format", "csv")
    assert done.code == 0
    assert (tmp_path / name).read_text().startswith("id,file,status,")


@pytest.mark.parametrize("words", [("show",), ("export", "--what", "images"), ("compare", "drawn")])
def test_samples_are_told_to_be_samples(run_cli, words):
    drawn = ("--sampler", "heun", "--steps", 3, "--threads", 1, "--device", "cpu", "--out", "drawn")
    assert run_cli("sample", "--pair", "digits", "--num", 2, *drawn).code == 0
    done = run_cli("runs", *words, "drawn")
    assert done.code == 7, done.err
    assert "drawn: holds samples, which have no scores" in done.err
    assert "fid drawn --ref" in done.err
    assert "damaged" not in done.err
