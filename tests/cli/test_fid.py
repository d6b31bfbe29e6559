"""``fid`` and ``fid-ref``."""

import numpy as np
import pytest
import torch
from tests.quality.writers import bare, pickled

from merged_diffusion import load_data
from merged_diffusion.quality import assess


@pytest.fixture
def samples(tmp_path):
    """Some images of train, as ``sample`` writes its own."""
    train = load_data("digits", split="train")
    np.savez(tmp_path / "samples.npz", images=train.images[:200], ids=np.arange(200), levels=17)
    return train.images[:200]


def test_known_set_gives_its_metrics(run_cli, samples):
    threads = ("--threads", torch.get_num_threads())  # of another number the last bits would differ
    found = run_cli("fid", "samples.npz", "--ref", "digits", "--json", "--device", "cpu", *threads).json
    expected = assess(samples, "digits")
    for figure, other in zip(found["metrics"], [expected["primary"], *expected["others"]], strict=True):
        assert (figure["name"], figure["n"], figure["value"]) == (other["name"], other["n"], other["value"])
    assert found["images"]["n"] == 200
    assert found["reference"]["about"]["data"] == "digits"
    assert found["features"]["name"] == "digits"
    assert found["remarks"][0].startswith("200 images: biased upwards; compare it at equal n only")


def test_what_is_printed(run_cli, samples):
    shown = run_cli("fid", "samples.npz", "--ref", "digits", "--device", "cpu")
    lines = shown.out.splitlines()
    assert lines[0] == "samples.npz  200 images against 1437 of digits/train"
    names = ["frechet-classifier", "kid-classifier", "frechet-pixels"]
    assert [line.split()[0] for line in lines[1:]] == names
    assert "an ideal model at this n: 1.62" in lines[1]
    assert lines[1].endswith("biased")
    assert "FID" not in shown.out
    assert "biased upwards" in shown.err
    assert run_cli("fid", "samples.npz", "--ref", "digits", "--device", "cpu", "--quiet").err == ""


def test_samples_of_other_code_are_taken_and_it_is_said(run_cli, samples, tmp_path):
    train = load_data("photos", split="train")
    np.savez(tmp_path / "a.npz", train.images[:20].transpose(0, 2, 3, 1), np.arange(20))
    np.savez(tmp_path / "b.npz", images=train.images[:20])
    found, expected = (
        run_cli("fid", name, "--ref", "photos", "--features", "pixels", "--json", "--device", "cpu")
        for name in ("a.npz", "b.npz")
    )
    assert found.json["metrics"] == expected.json["metrics"]
    assert "a.npz: its arr_0, [N, H, W, C] of uint8, is taken for the images" in found.err
    assert "arr_0" not in expected.err


def test_statistics_made_here_are_taken(run_cli, samples):
    count = ("--reference-features", "100")
    made = run_cli("fid-ref", "digits", "s.npz", *count, "--json", "--device", "cpu").json
    assert made["reference"]["n_reference_features"] == 100
    assert made["reference"]["about"]["split"] == "test"
    found = run_cli("fid", "samples.npz", "--ref", "s.npz", "--data", "digits", "--json").json
    images = run_cli("fid", "samples.npz", "--ref", "digits", "--features", "pixels", "--json").json
    assert [figure["name"] for figure in found["metrics"]] == ["frechet-classifier", "kid-classifier"]
    assert images["reference"]["about"]["split"] == "train"
    refused = run_cli("fid", "samples.npz", "--ref", "s.npz", "--data", "cifar10", "--json")
    assert (refused.code, refused.json["code"]) == (3, 3)
    assert run_cli("fid-ref", "digits", "s.npz", "--reference-features", "0", "--quiet").code == 0
    bare_of_features = run_cli("fid", "samples.npz", "--ref", "s.npz", "--json").json
    assert [figure["name"] for figure in bare_of_features["metrics"]] == ["frechet-classifier"]


def test_statistics_and_images_as_reference_agree(run_cli, samples):
    run_cli("fid-ref", "digits", "s.npz", "--device", "cpu")
    np.savez("test.npz", images=load_data("digits").images, levels=17)
    by_file, by_images = (
        run_cli("fid", "samples.npz", "--ref", ref, "--json").json["metrics"] for ref in ("s.npz", "test.npz")
    )
    for one, other in zip(by_file, by_images, strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-9)
        # Groups are kept in float32.
        assert (one["se"] or 0) == pytest.approx(other["se"] or 0, rel=1e-3)


def test_a_zip_of_many_pictures_is_a_reference(run_cli):
    draw = ("sample", "--pair", "photos", "--num", 20, "--sampler", "dpmpp-2m", "--steps", 2)
    for out in ("a.zip", "a.npz"):
        assert run_cli(*draw, "--device", "cpu", "--threads", 1, "--out", out).code == 0
    by_zip, by_npz = (
        run_cli("fid", "photos", "--limit", 40, "--ref", ref, "--device", "cpu", "--json").json
        for ref in ("a.zip", "a.npz")
    )
    assert by_zip["reference"]["about"]["n"] == 20
    assert by_zip["metrics"] == by_npz["metrics"]


def test_a_reference_of_other_levels_is_refused_by_its_own_levels(run_cli, samples):
    np.savez("photos.npz", images=load_data("photos").images[:20, :1], levels=256)
    refused = run_cli("fid", "samples.npz", "--ref", "photos.npz", "--device", "cpu", "--json")
    assert (refused.code, refused.json["code"]) == (3, 3)
    assert "photos.npz: images of 256 grey levels" in refused.json["error"]["message"]


def test_bare_statistics_warn(run_cli, samples, tmp_path):
    bare(tmp_path / "edm.npz", 32)
    shown = run_cli("fid", "samples.npz", "--ref", "edm.npz", "--features", "digits", "--device", "cpu")
    assert shown.code == 0
    assert "edm.npz holds mu and sigma alone" in shown.err


def test_edm2_pickles_are_taken_and_hostile_ones_refused(run_cli, samples, tmp_path):
    table = {"fid": {"mu": np.zeros(32), "sigma": np.eye(32)}}
    pickled(tmp_path / "edm2.pkl", table)
    assert run_cli("fid", "samples.npz", "--ref", "edm2.pkl", "--features", "digits").code == 0
    pickled(tmp_path / "edm2.pkl", {**table, "by": print})
    refused = run_cli("fid", "samples.npz", "--ref", "edm2.pkl", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (4, "UnsafeFileError")


def test_limit_and_ids_choose_images(run_cli):
    for options in (["--limit", "50"], ["--ids", "10:60"]):
        assert run_cli("fid", "digits", "--ref", "digits", *options, "--json").json["images"]["n"] == 50


def test_absent_inception_weights_are_exit_code_4(run_cli, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    for command in (["fid-ref", "images.npz", "s.npz"], ["fid", "images.npz", "--ref", "images.npz"]):
        refused = run_cli(*command, "--cache", "cache", "--json")
        assert refused.code == 4
        assert "weights-inception-2015-12-05-6726825d.pth" in refused.json["error"]["message"]
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fid", "digits"], 2, "Missing option '--ref'"),
        (["fid", "digits", "--ref", "nothing"], 2, "nor an existing path"),
        (["fid", "nothing", "--ref", "digits"], 2, "nor an existing path"),
        (["fid", "digits", "--ref", "digits", "--batch-size", "0"], 2, "--batch-size"),
        (["fid", "digits", "--ref", "digits", "--features", "resnet"], 2, "resnet"),
        (["fid", "digits", "--ref", "photos"], 3, "grey levels, photos features take 256"),
        (["fid", "digits", "--ref", "digits", "--limit", "1"], 2, "1 images have no covariance"),
        (["fid", "digits", "--ref", "digits", "--limit", "0"], 2, "does not lie in 1..360"),
        (["fid-ref", "digits", "s.txt"], 2, "does not end in .npz"),
        (["fid-ref", "digits", "no/s.npz"], 6, "there is no folder"),
        (["fid-ref", "digits", "s.npz", "--reference-features", "20000"], 2, "0<=x<=10000"),
    ],
)
def test_refusals(run_cli, arguments, code, words):
    refused = run_cli(*arguments, "--json")
    assert refused.code == code
    assert words in refused.json["error"]["message"]


def test_a_place_that_cannot_be_written_is_found_before_features_are_computed(run_cli, monkeypatch):
    from merged_diffusion.quality import statistics

    monkeypatch.setattr(statistics, "collect", lambda *_, **__: pytest.fail("computed"))
    refused = run_cli("fid-ref", "digits", "/proc/s.npz", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (6, "StorageError")


def test_help_does_not_load_torch():
    import subprocess
    import sys

    code = (
        "import sys; from merged_diffusion.cli import main; main(['fid', '--help']); main(['fid-ref', '-h']);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_picture_of_many_images_is_refused_with_the_command_that_keeps_them(run_cli):
    drawn = run_cli("sample", "--pair", "digits", "--num", 2, "--device", "cpu", "--tol", 0.01)
    assert "; --out samples.npz, samples.zip or a folder keeps each image, for fid" in drawn.out
    refused = run_cli("fid", "samples.png", "--ref", "digits")
    assert refused.code == 2
    assert "merged-diffusion sample with --out samples.npz, samples.zip or a folder" in refused.err
    more = ("sample", "--pair", "digits", "--num", 8, "--device", "cpu", "--tol", 0.01)
    assert "one picture" not in run_cli(*more, "--out", "samples.npz").out
    assert run_cli("fid", "samples.npz", "--ref", "digits", "--device", "cpu").code == 0
