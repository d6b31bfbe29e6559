"""Training: what it minimises, that interruptions change nothing, what it leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from tests.training.cards import recipe

from merged_diffusion.data import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import (
    CheckpointError,
    DataError,
    RunCorruptError,
    RunError,
    RunLockedError,
    RunMismatchError,
    StorageError,
)
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import Lock
from merged_diffusion.training import Recipe, fitting, loss_profile, pace, train
from merged_diffusion.training.baseline import gaussian_bits_per_dim
from merged_diffusion.training.fitting import Fitting
from merged_diffusion.training.loss_by_gamma import grid
from merged_diffusion.training.objectives import normal_gammas, quality_loss, uniform_gammas
from merged_diffusion.training.processes import Team
from merged_diffusion.training.state import TrainingState, ordered
from merged_diffusion.training.train_images import TrainImages
from merged_diffusion.training.where import TrainingMachine

RECIPES = Path(__file__).parents[2] / "recipes"


def run(path, out, **options):
    return train(path, out, threads=1, progress=False, **options)


@contextmanager
def interrupted_at(last):
    """A training that is interrupted before that step."""
    plain = fitting.draw_batch

    def interrupted(expert, stated, images, step, *rest):
        if step == last:
            raise KeyboardInterrupt
        return plain(expert, stated, images, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "draw_batch", interrupted)
        yield


def digest(out):
    return read_card(out / "card.toml").sha256


@pytest.mark.parametrize("kind", ["vdm", "edm"])
def test_training_leaves_an_expert_that_loads(tmp_path, kind):
    out = run(recipe(tmp_path, kind), tmp_path / "out")
    card, expert = read_card(out / "card.toml"), load_expert(out)
    assert expert.kind == kind
    assert card.training["data_sha256"].startswith("6ef542")
    assert card.results["images"] == 287
    assert len(card.results["loss"]) == len(grid(card.gamma_range)) == 48
    assert (card.data_std == 0.7084) == (kind == "edm")


def test_training_lowers_the_loss(tmp_path):
    short = run(recipe(tmp_path, steps=1, name="a"), tmp_path / "a")
    longer = run(recipe(tmp_path, steps=150, name="b"), tmp_path / "b")
    losses = [np.mean(read_card(out / "card.toml").results["loss"]) for out in (short, longer)]
    assert losses[1] < 0.9 * losses[0]


def test_the_same_recipe_gives_the_same_bits_whatever_the_global_generator(tmp_path):
    path = recipe(tmp_path)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = digest(run(path, tmp_path / "one"))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert digest(run(path, tmp_path / "two")) == one


def test_another_seed_gives_another_expert(tmp_path):
    outs = [run(recipe(tmp_path, seed=s, name=str(s)), tmp_path / f"o{s}") for s in (0, 1)]
    assert digest(outs[0]) != digest(outs[1])


@pytest.mark.parametrize("report", [0, 8])
def test_an_interrupted_training_gives_what_an_uninterrupted_one_gives(tmp_path, monkeypatch, report):
    path = recipe(tmp_path, report=report)
    whole = digest(run(path, tmp_path / "whole"))
    monkeypatch.setattr(pace, "SAVE_SECONDS", 1e9 if report else 0.0)
    with interrupted_at(17), pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "parts")
    assert digest(run(path, tmp_path / "parts")) == whole


def test_kill_9_loses_at_most_what_was_not_saved(tmp_path):
    path = recipe(tmp_path, steps=1200)
    script = (
        "import merged_diffusion.training as t; import merged_diffusion.training.pace as p;"
        "p.SAVE_SECONDS, p.SAVE_SHARE = 0.0, 1e9;"
        f"t.train({str(path)!r}, {str(tmp_path / 'out')!r}, threads=1, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ)
    saved = tmp_path / "out" / "checkpoint.safetensors"
    deadline = time.monotonic() + 600
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    length = int.from_bytes(saved.read_bytes()[:8], "little")
    metadata = json.loads(saved.read_bytes()[8 : 8 + length])["__metadata__"]
    assert int(metadata["step"]) > 0
    assert not (tmp_path / "out" / "card.toml").exists()
    train(path, tmp_path / "out", threads=1, progress=False)
    assert (tmp_path / "out" / "card.toml").exists()


def test_a_finished_training_is_left_as_it_is(tmp_path):
    path = recipe(tmp_path)
    out = run(path, tmp_path / "out")
    before = (out / "card.toml").stat().st_mtime_ns
    assert run(path, out) == out
    assert (out / "card.toml").stat().st_mtime_ns == before


def test_another_recipe_in_the_same_folder_is_refused_with_a_diff(tmp_path):
    out = run(recipe(tmp_path), tmp_path / "out")
    with pytest.raises(RunMismatchError, match=r"training\.steps: 30 there, 29 now"):
        run(recipe(tmp_path, steps=29), out)
    with pytest.raises(RunMismatchError, match=r"training\.batch: 16 there, 8 now"):
        run(recipe(tmp_path, steps=31, batch=8), out)
    (out / "card.toml").unlink()
    with pytest.raises(RunMismatchError, match=r"training\.steps"):
        run(recipe(tmp_path, steps=29), out)


def test_a_finished_training_goes_on_with_more_steps(tmp_path):
    short = run(recipe(tmp_path), tmp_path / "out")
    before = read_card(short / "card.toml")
    longer = recipe(tmp_path, steps=60, report=15)
    run(longer, short)
    after = read_card(short / "card.toml")
    assert after.training["raised_from"] == [30]
    assert after.training["steps"] == 60
    assert after.sha256 != before.sha256
    assert np.mean(after.results["loss"]) < np.mean(before.results["loss"])
    assert load_expert(short).kind == "vdm"
    # It is finished now, as any other.
    assert run(longer, short) == short
    rows = (short / "progress.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["45", "60"]


def test_what_cannot_be_raised(tmp_path, monkeypatch):
    out = run(recipe(tmp_path, warmup=5), tmp_path / "out")
    longer = recipe(tmp_path, steps=60, name="longer", warmup=5)
    (out / "checkpoint.safetensors").unlink()
    with pytest.raises(RunMismatchError, match=r"its checkpoint\.safetensors.* is not there"):
        run(longer, out)
    # A raised expert's own card is a recipe from the start, and says so of what it makes.
    raised = run(longer, run(recipe(tmp_path, warmup=5), tmp_path / "raised"))
    again = run(raised / "card.toml", tmp_path / "again")
    assert "raised_from" not in read_card(again / "card.toml").training
    assert digest(again) != digest(raised)
    # Nor is a training that has not come to its end: its learning rate has not fallen as its card says.
    monkeypatch.setattr(pace, "SAVE_SECONDS", 0.0)
    with interrupted_at(17), pytest.raises(KeyboardInterrupt):
        run(recipe(tmp_path, warmup=5), tmp_path / "parts")
    with pytest.raises(RunMismatchError, match=r"training\.steps: 30 there, 60 now"):
        run(longer, tmp_path / "parts")


def test_a_raised_training_that_was_interrupted_is_the_one_that_was_not(tmp_path, monkeypatch):
    longer = recipe(tmp_path, steps=60, name="longer")
    outs = [run(recipe(tmp_path), tmp_path / name) for name in ("whole", "parts")]
    whole = digest(run(longer, outs[0]))
    monkeypatch.setattr(pace, "SAVE_SECONDS", 0.0)
    with interrupted_at(44), pytest.raises(KeyboardInterrupt):
        run(longer, outs[1])
    assert digest(run(longer, outs[1])) == whole
    assert read_card(outs[1] / "card.toml").training["raised_from"] == [30]


@pytest.mark.parametrize("kind", ["vdm", "edm"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tmp_path, kind):
    gradients = []
    for accumulate in (1, 4):
        stated = Recipe.of(read_card(recipe(tmp_path, kind, accumulate=accumulate)))
        card = replace(read_card(recipe(tmp_path, kind)), data_std=0.7)
        expert = card.expert(0).eval()
        stated = replace(stated, gradient_norm=0.0)
        data = load_data("digits")
        images = TrainImages(data, np.arange(len(data)))
        alone = Team(0, 1, torch.device("cpu"))
        whole = Fitting(card, stated, images, data, expert, TrainingMachine(), alone)
        state = TrainingState(expert, stated)
        state.step = 5
        assert len(whole.machine.parts(stated, 1, 0)) == accumulate
        whole.gradient(state)
        gradients.append(torch.cat([p.grad.flatten() for p in expert.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_the_report_is_the_diffusion_term_of_the_held_back_images(tmp_path):
    out = run(recipe(tmp_path, report=10), tmp_path / "out")
    header, *rows = (out / "progress.csv").read_text().splitlines()
    assert header == "step,train_loss,held_back_bits_per_dim"
    assert [row.split(",")[0] for row in rows] == ["10", "20", "30"]
    card = read_card(out / "card.toml")
    expected = np.mean(card.results["loss"]) * 12 / 2 / np.log(2)
    # The profile has every image at every gamma, the report one gamma an image; weights in half precision.
    assert float(rows[-1].split(",")[2]) == pytest.approx(expected, rel=0.05)
    assert not (run(recipe(tmp_path, report=0, name="none"), tmp_path / "none") / "progress.csv").exists()


def test_the_report_changes_nothing(tmp_path):
    with_report = digest(run(recipe(tmp_path, report=7), tmp_path / "a"))
    assert digest(run(recipe(tmp_path, report=0), tmp_path / "b")) == with_report


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(RunCorruptError, match="delete it"):
        run(recipe(tmp_path), tmp_path / "out")


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with Directory(tmp_path / "out") as folder:
        held = Lock(folder, ".lock")
        assert held.acquire(0.0)
        with pytest.raises(RunLockedError, match="another process"):
            run(recipe(tmp_path), tmp_path / "out")
        held.release()


def test_out_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        run(recipe(tmp_path), tmp_path / "file" / "out")
    assert error.value.exit_code == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "steps is missing"),
        ({"rate": 1.0}, "rate is unknown"),
        ({"steps": "many"}, "steps = 'many' is no int"),
        ({"steps": 0}, "steps = 0 is not above 0"),
        ({"batch": -4}, "batch = -4 is not above 0"),
        ({"accumulate": 3}, r"batch = 16 is not 3 \(accumulate\) equal parts"),
        ({"report": -1}, "report = -1 is below 0"),
    ],
)
def test_recipes_that_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        run(recipe(tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_card_without_training_table(tmp_path):
    path = recipe(tmp_path)
    path.write_text(replace(read_card(path), training=None).toml())
    with pytest.raises(CheckpointError, match=r"no \[training\] table"):
        run(path, tmp_path / "out")


def test_data_of_another_hash_or_shape(tmp_path):
    with pytest.raises(RunMismatchError, match="SHA-256"):
        run(recipe(tmp_path, data_sha256="0" * 64), tmp_path / "out")
    with pytest.raises(DataError, match="the card states"):
        run(recipe(tmp_path, data="photos"), tmp_path / "other")


def test_a_loss_that_is_not_finite_stops_and_keeps_no_expert(tmp_path):
    with pytest.raises(CheckpointError, match="not finite at step"):
        run(recipe(tmp_path, "edm", learning_rate=1e30, warmup=1), tmp_path / "out")
    assert not (tmp_path / "out" / "card.toml").exists()


@pytest.mark.parametrize(
    "name", ["digits-vdm", "digits-edm", "photos-vdm", "photos-edm", "scenes-vdm", "scenes-edm"]
)
def test_bundled_experts_were_trained_by_the_recipes(name):
    from merged_diffusion.experts.cards import bundled_folder

    card, stated = read_card(bundled_folder(name) / "card.toml"), read_card(RECIPES / f"{name}.toml")
    follows = {k: card.training[k] for k in ("data_sha256", "raised_from") if k in card.training}
    trained = replace(card, sha256=None, results=None, data_std=None)
    assert trained == replace(stated, training=dict(stated.training) | follows)


def test_learning_rate_warms_up_and_ends_at_two_per_cent():
    stated = Recipe(data="digits", seed=0, steps=1000, batch=1, learning_rate=1.0, ema=0.9)
    assert stated.rate(0) == pytest.approx(1 / 200)
    assert stated.rate(200) == pytest.approx(1)
    assert stated.rate(1000) == pytest.approx(0.02)


def test_uniform_gammas_are_equally_spaced_on_the_range():
    gammas = uniform_gammas(16, (-4.0, 12.0)).sort().values
    torch.testing.assert_close(gammas.diff(), torch.ones(15).double())
    assert gammas.min() >= -4
    assert gammas.max() < 12


def test_normal_gammas_have_the_law_of_the_card():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        log_s = normal_gammas(100_000, (-12.0, 8.0), -0.4, 1.6, 0.0) / 2
        anywhere = normal_gammas(100_000, (-12.0, 8.0), -0.4, 1.6, 1.0)
    # Five standard errors of mean and standard deviation at n = 1e5.
    assert abs(float(log_s.mean()) + 0.4) < 5 * 1.6 / 316
    assert abs(float(log_s.std()) - 1.6) < 5 * 1.6 / 447
    assert anywhere.min() >= -12
    assert anywhere.max() <= 8
    assert abs(float(anywhere.mean()) + 2) < 5 * 20 / 12**0.5 / 316


def test_quality_loss_is_the_weighted_denoising_loss(tmp_path):
    """lambda |D - x|^2 with D = z/alpha - s eps_hat (Karras et al. 2022, eq. 8), from eps_hat alone."""
    expert = replace(read_card(recipe(tmp_path, "edm")), data_std=0.7).expert().eval().double()
    for p in expert.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    x, eps, gamma = (
        torch.randn(5, 1, 8, 8).double(),
        torch.randn(5, 1, 8, 8).double(),
        torch.linspace(-3, 5, 5).double(),
    )
    s = (gamma / 2).exp().view(-1, 1, 1, 1)
    y, scale = x + s * eps, 1 / (1 + s**2).sqrt()
    denoised = y - s * expert(y * scale, gamma)
    weight = (s**2 + 0.49) / (s * 0.7) ** 2
    torch.testing.assert_close(quality_loss(expert, x, eps, gamma), (weight * (denoised - x) ** 2).mean())


def test_profile_of_a_gaussian_is_the_known_one():
    """Data N(0, 1/4)-like and its exact expert: E |eps - eps_hat|^2 = alpha^2 s^2/(alpha^2 s^2 + sigma^2)."""
    from merged_diffusion.schedules import alpha, per_image, sigma

    levels, std = 256, 0.25
    v = np.clip(np.random.RandomState(0).normal(127.5, std * 128, (400, 1, 8, 8)).round(), 0, 255)
    data = make_data("gauss", "train", v.astype(np.uint8), levels)

    class Exact:
        pixels, gamma_range = "centred", (-4.0, 4.0)

        def __call__(self, z, gamma):
            return z * per_image(sigma(gamma) / (alpha(gamma) ** 2 * std**2 + sigma(gamma) ** 2), z)

    profile = loss_profile(Exact(), data)
    snr = np.exp(-profile.gamma) * std**2
    # The standard error over 400 x 64 values is at most 0.009; four of them.
    assert np.abs(profile.loss - snr / (1 + snr)).max() < 0.036


def test_experts_of_one_pair_meet_the_same_gammas():
    both = set(grid((-13.3, 5.0))) & set(grid((-12.43, 8.764)))
    assert len(both) == 70
    assert grid((-13.3, 5.0))[0] == -13.125


def test_gaussian_baseline_of_gaussian_data_is_its_entropy():
    """Independent normals of standard deviation 20 grey levels: log2(20 sqrt(2 pi e)) bits per value."""
    random = np.random.RandomState(0)
    train_v, test_v = (
        np.clip(random.normal(128, 20, (n, 1, 2, 2)).round(), 0, 255).astype(np.uint8)
        for n in (20_000, 2_000)
    )
    bits = gaussian_bits_per_dim(make_data("g", "train", train_v, 256), make_data("g", "test", test_v, 256))
    assert bits.shape == (2000,)
    # Standard deviation per value 0.72 bits: five standard errors of 8000 values.
    assert abs(bits.mean() - np.log2(20 * np.sqrt(2 * np.pi * np.e))) < 5 * 1.03 / np.sqrt(8000)


def test_the_same_state_is_the_same_checkpoint_whatever_the_process(tmp_path):
    path = recipe(tmp_path, steps=2)
    code = f"import merged_diffusion.training as t; t.train({str(path)!r}, {{!r}}, threads=1, progress=False)"
    found = set()
    for name in ("one", "two", "three"):
        out = tmp_path / name
        subprocess.run([sys.executable, "-c", code.format(str(out))], check=True)
        found.add((out / "checkpoint.safetensors").read_bytes())
    assert len(found) == 1


def test_metadata_of_a_checkpoint_is_in_order_and_the_tensors_are_what_they_were():
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, dtype=torch.float16)}
    pairs = {f"key {n}": "ü" for n in range(20)}
    first, second = (
        ordered(save(tensors, dict(order))) for order in (pairs.items(), reversed(pairs.items()))
    )
    assert first == second
    found = load(first)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    length = int.from_bytes(first[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(first[8 : 8 + length])["__metadata__"]) == sorted(pairs)


@pytest.mark.parametrize("name", ["model.safetensors", ".env", "notes.txt"])
def test_a_directory_of_other_things_is_not_trained_in(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        run(recipe(tmp_path), tmp_path / "out")
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [(name, "mine")]


def test_a_link_out_of_its_directory_is_not_trained_in(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="link"):
        run(recipe(tmp_path), tmp_path / "root" / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "name",
    [f".checkpoint.safetensors.{os.getpid()}", "checkpoint.safetensors.part", ".lock"],
    ids=["draft", "part", "lock"],  # two processes at the tests must collect the same names
)
def test_a_link_inside_leads_no_file_of_a_training_out_of_its_directory(tmp_path, name):
    (tmp_path / "kept").write_text("kept")
    out = run(recipe(tmp_path, steps=2), tmp_path / "out")
    for own in ("card.toml", "model.safetensors", ".lock"):
        (out / own).unlink()
    (out / name).symlink_to(tmp_path / "kept")
    with suppress(StorageError):
        run(recipe(tmp_path, steps=2), out)
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOLCK, errno.EIO])
def test_a_lock_of_a_training_that_cannot_be_had_is_a_storage_error(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StorageError):
        run(recipe(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_that_is_refused_before_its_first_step_leaves_nothing(tmp_path):
    with pytest.raises(RunMismatchError):
        run(recipe(tmp_path, data_sha256="ab"), tmp_path / "a" / "out")
    assert not (tmp_path / "a").exists()
