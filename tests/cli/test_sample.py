"""``sample``: an id is the same image in any command, in every form of output, and after any interruption."""

import io
import json
import signal
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from merged_diffusion import Deis, Guided, MergedModel, Threshold, load_pair, sample
from merged_diffusion.data import load_data
from merged_diffusion.samplers import Heun

PAIR = ("--pair", "digits", "--threads", 1, "--device", "cpu", "--rtol", 1e-2, "--atol", 1e-2)


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def drawn(path):
    with np.load(path, allow_pickle=False) as columns:
        return {key: columns[key] for key in columns.files}


def drawn_alike(one, two):
    first, second = drawn(one), drawn(two)
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_ids_are_the_same_images_in_any_command(run_cli):
    assert run_cli("sample", *PAIR, "--num", 24, "--out", "many.npz").code == 0
    few = run_cli("sample", *PAIR, "--ids", "10:14", "--out", "few.npz", "--json")
    assert few.code == 0, few.err
    many, part = drawn("many.npz"), drawn("few.npz")
    np.testing.assert_array_equal(part["images"], many["images"][10:14])
    np.testing.assert_array_equal(part["ids"], [10, 11, 12, 13])
    assert (many["images"].shape, many["images"].dtype, int(many["levels"])) == ((24, 1, 8, 8), np.uint8, 17)
    assert few.json["n"] == few.json["n_drawn"] == 4
    assert few.json["sha256"] == load_data("few.npz").sha256
    assert few.json["evaluations"]["total"] > 10


def test_a_class_that_no_expert_knows_changes_nothing_and_is_not_kept(run_cli):
    drawn = ("--num", 2, "--sampler", "heun", "--steps", 3, "--threads", 1, "--device", "cpu")
    plain = run_cli("sample", "--pair", "digits", *drawn, "--out", "a.npz", "--json")
    asked = run_cli("sample", "--pair", "digits", *drawn, "--class=3", "--out", "b.npz", "--json")
    assert "no expert is class-conditional: --labels changes nothing" in asked.err
    assert "--labels" not in plain.err
    assert drawn_alike("a.npz", "b.npz")
    assert asked.json["settings"] == plain.json["settings"]


def test_command_line_and_python_draw_the_same(run_cli):
    options = ("--pair", "digits", "--threads", 1, "--device", "cpu", "--sampler", "heun", "--steps", 6)
    assert run_cli("sample", *options, "--num", 3, "--out", "a.npz").code == 0
    found = sample(load_pair("digits"), 3, sampler=Heun(steps=6))
    np.testing.assert_array_equal(drawn("a.npz")["images"], found)


@pytest.mark.parametrize("sampler", ["ancestral", "dpmpp-2m", "heun", "unipc", "deis"])
def test_every_sampler_draws_with_the_steps_asked_for(run_cli, sampler):
    options = ("--pair", "digits", "--num", 2, "--threads", 1, "--device", "cpu", "--out", "a.npz", "--json")
    result = run_cli("sample", *options, "--sampler", sampler, "--steps", 5)
    assert result.code == 0, result.err
    assert (result.json["sampler"], result.json["settings"]["steps"]) == (sampler, 5)
    assert 5 <= result.json["evaluations"]["total"] <= 12


def test_forms_hold_the_same_images(run_cli, tmp_path):
    for out in ("a.npz", "a.zip", "folder", "a.png"):
        assert run_cli("sample", *PAIR, "--num", 5, "--out", out).code == 0
    expected = np.rint(255.0 * drawn("a.npz")["images"] / 16).astype(np.uint8)
    with zipfile.ZipFile("a.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        np.testing.assert_array_equal(pixels(io.BytesIO(archive.read(names[3]))), expected[3, 0])
    files = sorted((tmp_path / "folder").rglob("*.png"))
    assert [file.name for file in files] == [f"img{i:08d}.png" for i in range(5)]
    np.testing.assert_array_equal(pixels(files[4]), expected[4, 0])
    assert json.loads((tmp_path / "folder" / "settings.json").read_text())["command"] == "sample"
    assert pixels("a.png").shape == (2 * 65 - 1, 3 * 65 - 1, 3)
    assert not list(tmp_path.glob("*.part"))


def test_without_a_place_there_is_a_picture_and_it_is_named(run_cli, tmp_path):
    result = run_cli("sample", *PAIR, "--num", 2)
    assert result.code == 0, result.err
    assert "written to samples.png, one picture of all; --out samples.npz" in result.out
    assert (tmp_path / "samples.png").is_file()


def test_killed_command_goes_on_to_the_same_file(run_cli, start, tmp_path):
    options = ("sample", *PAIR, "--num", 64, "--rtol", 1e-5, "--atol", 1e-5, "--batch-size", 4)
    assert run_cli(*options, "--out", "whole.npz").code == 0
    process = start(*options, "--out", "killed.npz")
    part, end = tmp_path / "killed.npz.part", time.monotonic() + 600
    while len(list(part.glob("*.npz"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.npz").exists()
    again = run_cli(*options, "--out", "killed.npz", "--json")
    assert again.code == 0, again.err
    assert 0 < again.json["n_drawn"] < 64
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not part.exists()


def test_shards_draw_their_share_and_the_last_writes_the_file(run_cli, tmp_path):
    assert run_cli("sample", *PAIR, "--num", 6, "--out", "whole.npz").code == 0
    first = run_cli("sample", *PAIR, "--num", 6, "--out", "parts.npz", "--shard", "0/2", "--json")
    assert (first.json["n"], first.json["n_missing"]) == (3, 3)
    assert not (tmp_path / "parts.npz").exists()
    assert run_cli("sample", *PAIR, "--num", 6, "--out", "parts.npz", "--shard", "1/2").code == 0
    np.testing.assert_array_equal(drawn("parts.npz")["images"], drawn("whole.npz")["images"])


def test_finished_output_is_kept_and_other_settings_are_refused(run_cli, tmp_path):
    assert run_cli("sample", *PAIR, "--num", 2, "--out", "a.npz").code == 0
    before = (tmp_path / "a.npz").stat().st_mtime_ns
    again = run_cli("sample", *PAIR, "--num", 2, "--out", "a.npz", "--json")
    assert (again.code, again.json["n_drawn"]) == (0, 0)
    other = run_cli("sample", *PAIR, "--num", 2, "--out", "a.npz", "--seed", 1)
    assert other.code == 7
    assert "seed 0 there, 1 here" in other.err
    assert (tmp_path / "a.npz").stat().st_mtime_ns == before
    (tmp_path / "b.npz").write_text("mine")
    assert run_cli("sample", *PAIR, "--num", 2, "--out", "b.npz").code == 7
    assert (tmp_path / "b.npz").read_text() == "mine"


def test_grid_of_a_file_is_part_of_what_samples_are(run_cli, tmp_path):
    low, high = load_pair("digits").gamma_range
    (tmp_path / "grid.txt").write_text(f"gamma\n{high}\n3\n-1\n-4\n{low}\n")
    options = ("sample", *PAIR[:6], "--num", 2, "--sampler", "deis", "--out", "a.npz", "--json")
    first = run_cli(*options, "--sigmas", "grid.txt")
    assert first.code == 0, first.err
    assert first.json["evaluations"]["total"] == 5  # four steps and the threshold
    numbers = first.json["settings"]["sigmas"]
    assert run_cli(*options, "--sigmas", ",".join(map(str, numbers))).json["n_drawn"] == 0
    (tmp_path / "grid.txt").write_text(f"gamma\n{high}\n3\n-1\n-4.1\n{low}\n")
    other = run_cli(*options, "--sigmas", "grid.txt")
    assert other.code == 7
    assert "sigmas" in other.out
    (tmp_path / "grid.txt").write_text("edm_sigma\n80\n0.002\n")
    beyond = run_cli(*options[:-3], "--out", "b.npz", "--sigmas", "grid.txt")
    assert beyond.code == 2
    assert "the model at 0.01948715 (gamma -7.8760)" in beyond.out + beyond.err
    assert not (tmp_path / "b.npz.part").exists()


GUIDED = ("--guidance", 2, "--guide", "bundled:digits-vdm", "--guidance-interval", "-3,2")


def test_guided_samples_are_those_of_python_and_others_than_without(run_cli):
    options = ("sample", *PAIR[:6], "--num", 3, "--sampler", "deis", "--steps", 6, "--json")
    found = run_cli(*options, *GUIDED, "--out", "a.npz")
    assert found.code == 0, found.err
    pair = load_pair("digits")
    likelihood, quality = pair.experts
    guided = Guided(quality, likelihood, 2.0, interval=(-3.0, 2.0))
    model = MergedModel(likelihood, guided, Threshold.gamma(pair.threshold["gamma"]))
    np.testing.assert_array_equal(drawn("a.npz")["images"], sample(model, 3, sampler=Deis(6)))
    assert found.json["experts"]["quality"]["provenance"]["guidance"]["guidance_interval"] == [-3.0, 2.0]
    assert run_cli(*options, "--out", "a.npz").code == 7
    plain = run_cli(*options, "--guidance", 1, *GUIDED[2:], "--out", "b.npz")
    np.testing.assert_array_equal(drawn("b.npz")["images"], sample(pair, 3, sampler=Deis(6)))
    assert "guidance" not in plain.json["experts"]["quality"]["provenance"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--num", "0"], "--num 0"),
        (["--ids", "4:4"], "ids 4:4"),
        (["--num", "3", "--ids", "0:2"], "use one of them"),
        (["--steps", "5"], "steps"),
        (["--sampler", "heun", "--steps", "0"], "steps"),
        (["--sampler", "heun", "--rtol", "1e-3"], "rtol"),
        (["--sampler", "dpmpp-2m", "--clip"], "clip"),
        (["--sampler", "ancestral", "--s-churn", "1"], "churn"),
        (["--tol", "0.05"], "tol"),
        (["--guidance", "2"], "--guidance alone does not say"),
        (["--guide", "none-class"], "--guide alone does not say"),
        (["--guidance", "-1", "--guide", "none-class"], "--guidance -1.0 is no finite number"),
        (["--guidance", "2", "--guide", "x", "--guidance-interval", "2,-3"], "2,-3 is no LOW,HIGH"),
        (["--guidance", "2", "--guide", "x", "--guidance-interval", "2"], "'2' is not LOW,HIGH"),
        (["--sampler", "unipc", "--order", "4"], "order 4, possible are 2 and 3"),
        (["--sampler", "heun", "--order", "3"], "order 3 belongs to unipc, deis and dpm-v3"),
        (["--sampler", "deis", "--sigmas", "none.txt"], "possible are logsnr, edm, quadratic and the name"),
        (["--out", "a.jpg"], ".jpg"),
        (["--labels", "cycle"], "cycle"),
        (["--eta", "1.5"], "1.5"),
        (["--expert", "bundled:digits-vdm", "--eta", "auto"], "excludes --eta"),
        (["--image-shape", "3,32"], "C,H,W"),
    ],
)
def test_what_cannot_be_meant_is_refused(run_cli, tmp_path, options, text):
    result = run_cli("sample", "--pair", "digits", *options)
    assert result.code == 2, result.err
    assert text in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".png", ".npz", ""])
def test_a_refused_command_does_not_bind_the_next_one(run_cli, experts, tmp_path, ending):
    out = ("--out", f"a{ending}", "--num", 2, "--threads", 1, "--device", "cpu")
    wrong_shape = run_cli("sample", "--pair", "digits", "--image-shape", "3,8,8", *out)
    assert (wrong_shape.code, "1, 8, 8" in wrong_shape.err) == (2, True)
    # Found out only when the expert is asked, after the place was made.
    assert run_cli("sample", "--expert", experts("misshapen"), *out).code == 4
    assert not list(tmp_path.iterdir())
    assert run_cli("sample", *PAIR, *out).code == 0


def test_eta_auto_is_found_on_train_of_the_pair_and_kept(run_cli, tmp_path, monkeypatch):
    from merged_diffusion.thresholds import auto
    from merged_diffusion.thresholds.answers import Answer

    seen = []

    def found(experts, settings, *, eta_range=None, **tuning):
        seen.append((settings.data, sorted(experts), eta_range))
        return Answer(0.25, -3.716)

    monkeypatch.setattr(auto, "auto_threshold", found)
    options = ("sample", *PAIR, "--eta", "auto", "--num", 2, "--out", "a.npz")
    first = run_cli(*options, "--json")
    assert first.code == 0, first.err
    assert first.json["threshold"]["eta"] == 0.25
    assert seen == [("digits", ["likelihood", "quality"], (-7.876, 8.764))]
    again = run_cli(*options, "--json")
    assert (again.code, again.json["n_drawn"], len(seen)) == (0, 0, 1)
    both = ("--likelihood-expert", "bundled:digits-vdm", "--quality-expert", "bundled:digits-edm")
    refused = run_cli("sample", *both, "--eta", "auto", "--num", 2, "--out", "b.npz")
    assert (refused.code, "--pair" in refused.err) == (2, True)
    assert not (tmp_path / "b.npz.part").exists()


def test_no_experts_is_a_usage_error(run_cli):
    result = run_cli("sample", "--num", 2)
    assert result.code == 2
    assert "--pair digits, photos, scenes or cifar10" in result.err
