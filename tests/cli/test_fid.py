"""``fid`` and ``fid-ref``."""

import numpy as np
import pytest
import torch
from tests.quality.writers import bare, pickled

from merged_diffusion import load_data
from merged_diffusion.quality import assess
from merged_diffusion.quality.manifolds import METRICS


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
    names = ["frechet", "kid", "precision", "recall", "density", "coverage", "copies"]
    assert [line.split()[0] for line in lines[1:]] == [
        *(f"{name}-classifier" for name in names),
        "frechet-pixels",
    ]
    assert "an ideal model at this n: 1.62" in lines[1]
    assert lines[1].endswith("biased")
    # These are images of train, every one; an ideal model has 1 % of copies.
    assert lines[7].split()[1] == "1"
    assert lines[7].endswith("an ideal model at this n: 0.00974")
    assert all("an ideal model at this n: " in line for line in lines[3:7])
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
    names = [figure["name"] for figure in found["metrics"]]
    assert names == [f"{name}-classifier" for name in ("frechet", "kid", *METRICS)]
    assert found["absent"] == {
        "copies-classifier": "s.npz holds the features of 100 of 360 images, not of all"
    }
    assert images["reference"]["about"]["split"] == "train"
    refused = run_cli("fid", "samples.npz", "--ref", "s.npz", "--data", "cifar10", "--json")
    assert (refused.code, refused.json["code"]) == (3, 3)
    assert run_cli("fid-ref", "digits", "s.npz", "--reference-features", "0", "--quiet").code == 0
    bare_of_features = run_cli("fid", "samples.npz", "--ref", "s.npz", "--json").json
    assert [figure["name"] for figure in bare_of_features["metrics"]] == ["frechet-classifier"]
    assert list(bare_of_features["absent"]) == [f"{name}-classifier" for name in (*METRICS, "copies")]
    shown = run_cli("fid", "samples.npz", "--ref", "s.npz", "--device", "cpu")
    assert "coverage-classifier: s.npz holds no features of single images" in shown.err


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


def named(found):
    return {figure["name"]: figure for figure in found["metrics"]}


def test_copies_are_looked_for_in_all_images_where_that_is_asked(run_cli, tmp_path, monkeypatch):
    from merged_diffusion.quality import whole_train

    photos = load_data("photos", split="train").select(ids=(0, 3000))
    monkeypatch.setattr(whole_train, "train_split", lambda *_: photos)
    monkeypatch.setitem(whole_train.known()["data"]["photos"], "sha256_train", photos.sha256)
    images = load_data("photos").images[:100].copy()
    images[:40] = photos.images[1000:1040]
    np.savez("samples.npz", images=images, ids=np.arange(100), levels=256)
    command = (
        "fid",
        "samples.npz",
        "--ref",
        "photos",
        "--device",
        "cpu",
        "--cache",
        "cache",
        "--features",
        "photos",
    )
    without = run_cli(*command, "--json").json
    assert list(without["absent"]) == ["copies-random-convolution"]
    told = run_cli(*command)
    assert "4000 of 320544 images, not of all; fid --ref photos --copies searches them" in told.err
    first, again = (run_cli(*command, "--copies", "--json") for _ in range(2))
    found = named(first.json)["copies-random-convolution"]
    # Forty are planted. Of the others none is so near to a photograph that it is not a part of.
    assert abs(found["value"] - 0.4) < 0.02
    assert found["n"] == 100
    assert found["se"] > 0
    assert "features of all 3000 images of photos/train, kept in" in first.err
    assert "features of all" not in again.err
    assert again.json["metrics"] == first.json["metrics"]
    assert first.json["absent"] == {}
    # What was there before is what it was.
    assert first.json["metrics"][:6] == without["metrics"]
    monkeypatch.setitem(whole_train.known()["data"]["photos"], "sha256_train", "0" * 64)
    stale = run_cli(*command, "--copies", "--json")  # of other images than the published ones
    assert stale.code == 3


def test_copies_are_looked_for_among_images_and_refused_in_part_of_them(run_cli, samples):
    np.savez("train.npz", images=load_data("digits", split="train").images, levels=17)
    by_images = run_cli(
        "fid", "samples.npz", "--ref", "train.npz", "--copies", "--device", "cpu", "--json"
    ).json
    assert named(by_images)["copies-classifier"]["value"] == 1
    run_cli("fid-ref", "digits", "s.npz", "--reference-features", "100", "--device", "cpu")
    refused = run_cli("fid", "samples.npz", "--ref", "s.npz", "--copies", "--json")
    assert refused.code == 2
    assert "s.npz does not hold the features of all its images" in refused.json["error"]["message"]


def test_the_images_go_through_the_network_once(run_cli, samples, monkeypatch):
    from merged_diffusion.quality import feature_network

    rows, once = [], feature_network.Extractor.__call__
    monkeypatch.setattr(
        feature_network.Extractor,
        "__call__",
        lambda self, images: rows.append((self.name, images)) or once(self, images),
    )
    found = run_cli("fid", "samples.npz", "--ref", "digits", "--device", "cpu", "--json").json
    assert len(found["metrics"]) == 8
    for name in ("digits", "pixels"):
        seen = np.concatenate([images for own, images in rows if own == name])
        assert (seen == samples).all()
        assert len(seen) == 200


def test_what_many_features_take_is_said_before(run_cli):
    images = np.random.default_rng(0).integers(256, size=(24, 3, 32, 32), dtype=np.uint8)
    np.savez("a.npz", images=images)
    command = ("fid", "a.npz", "--ref", "a.npz", "--features", "pixels", "--device", "cpu")
    shown = run_cli(*command)
    assert "note: 3072 features: 33 eigenvalue problems of size 24, about " in shown.err
    assert "0.0012 GB of memory" in shown.err
    assert "eigenvalue" not in run_cli(*command, "--quiet").err


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
