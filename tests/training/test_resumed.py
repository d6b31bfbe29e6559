"""A training that goes on: from a kill at any write, with parameters without a gradient, stored anew."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch
from tests.training import two_processes
from tests.training.cards import recipe

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import CheckpointError, RunError, RunMismatchError
from merged_diffusion.experts.card import read_card
from merged_diffusion.runs.directory import Directory
from merged_diffusion.training import fitting, pace, train
from merged_diffusion.training.aim_of_recipe import aim_of
from merged_diffusion.training.fitting import trainable
from merged_diffusion.training.processes import Team
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.report_lines import LINES, PROGRESS
from merged_diffusion.training.state import TrainingState
from merged_diffusion.training.train_images import TrainImages


class KilledError(Exception):
    """A kill -9 at a place of the test's choice."""


def run(path, out, **options):
    return train(path, out, threads=1, progress=False, **options)


def digest(out):
    return read_card(out / "card.toml").sha256


@pytest.mark.parametrize("kill", ["the first snapshot", "the second snapshot", "the samples"])
def test_a_kill_at_a_report_loses_no_line_and_locks_no_folder(tmp_path, monkeypatch, kill):
    path = recipe(tmp_path, steps=12, report=4)
    whole = run(path, tmp_path / "whole")
    saves = []

    def save(self, *rest):
        saves.append(self.step)
        if len(saves) == {"the first snapshot": 1, "the second snapshot": 2}.get(kill):
            raise KilledError
        plain(self, *rest)

    plain, write_grid = TrainingState.save, "merged_diffusion.training.write_grid"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save)
        if kill == "the samples":
            patch.setattr(write_grid, lambda folder, *rest: killed(folder.make_folder("samples")))
        with pytest.raises(KilledError):
            run(path, tmp_path / "out", samples=1)
    out = run(path, tmp_path / "out")
    assert digest(out) == digest(whole)
    assert (out / PROGRESS).read_text() == (whole / PROGRESS).read_text()
    steps = [json.loads(line)["step"] for line in (out / LINES).read_text().splitlines()]
    assert steps == [4, 8, 12]


def test_sigterm_leaves_a_snapshot_and_the_old_handler(tmp_path, monkeypatch):
    path = recipe(tmp_path, report=0)
    whole = digest(run(path, tmp_path / "whole"))
    monkeypatch.setattr(pace, "SAVE_SECONDS", 1e9)
    plain = fitting.draw_batch

    def told(expert, stated, images, step, *rest):
        if step == 5:
            signal.raise_signal(signal.SIGTERM)
        return plain(expert, stated, images, step, *rest)

    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal was not taken note of"))
    try:
        own = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as patch:
            patch.setattr(fitting, "draw_batch", told)
            with pytest.raises(SystemExit) as stopped:
                run(path, tmp_path / "out")
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 143
    # The signal comes in step 5, whose process asks to end in the next one.
    with safetensors.safe_open(tmp_path / "out" / fitting.CHECKPOINT, framework="pt") as file:
        assert file.metadata()["step"] == "6"
    assert digest(run(path, tmp_path / "out")) == whole


def test_sigterm_of_one_process_ends_both_with_a_snapshot(tmp_path):
    card = recipe(tmp_path, report=0)
    said = two_processes.train(2, tmp_path, two_processes.told_to_end, card=card, out=tmp_path / "out")
    assert said == ["TerminatedError: 143"] * 2
    with safetensors.safe_open(tmp_path / "out" / fitting.CHECKPOINT, framework="pt") as file:
        assert file.metadata()["step"] == "6"


def test_a_draft_of_the_first_line_locks_no_folder_and_others_files_do(tmp_path):
    path = recipe(tmp_path, steps=2, report=1)
    for name in ("draft", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "draft" / f".{LINES}.1").write_text("{")  # of a process that was killed while it wrote
    run(path, tmp_path / "draft")
    assert not (tmp_path / "draft" / f".{LINES}.1").exists()
    (tmp_path / "mine" / PROGRESS).write_text("mine")  # without lines, which come first
    with pytest.raises(RunError, match="not empty"):
        run(path, tmp_path / "mine")


def killed(_made):
    raise KilledError


def test_a_line_is_written_before_its_snapshot(tmp_path, monkeypatch):
    # A kill right after the snapshot of step 4: the line of step 4 would never be written again.
    path = recipe(tmp_path, steps=8, report=4)
    plain = TrainingState.save

    def save(self, *rest):
        plain(self, *rest)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save)
        with pytest.raises(KilledError):
            run(path, tmp_path / "out")
    out = run(path, tmp_path / "out")
    steps = [json.loads(line)["step"] for line in (out / LINES).read_text().splitlines()]
    assert steps == [4, 8]


class Halved(torch.nn.Module):
    """Two weights, of which one takes no part in the loss, as those of augmentations that are not drawn."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))


@pytest.mark.parametrize("skips", [False, True], ids=["no gradient", "a step that fp16 skipped"])
def test_a_parameter_without_moments_is_read_again(tmp_path, skips):
    words = {"data": "digits", "seed": 0, "steps": 9, "batch": 2, "learning_rate": 0.1, "ema": 0.9}
    alone = Team(0, 1, torch.device("cpu"))
    stated = Recipe(**words, precision="fp16" if skips else "float32")
    state = TrainingState(Halved(), stated)
    losses = [state.net.used.square().sum() * (1e38 if skips else 1)]
    state.update(state.gradient(losses, alone)[0], np.arange(2))
    assert (state.updates == 0) == skips
    with Directory(tmp_path) as folder:
        state.save(folder, "file", {})
    again = TrainingState(Halved(), stated)
    again.load(tmp_path / "file", {})
    assert again.tensors().keys() == state.tensors().keys()
    assert all(torch.equal(value, state.tensors()[name]) for name, value in again.tensors().items())
    assert ("exp_avg.used" in again.tensors()) != skips
    assert "exp_avg.unused" not in again.tensors()
    for each in (state, again):
        each.update(each.gradient([each.net.used.square().sum()], alone)[0], np.arange(2))
    assert torch.equal(state.net.used, again.net.used)


def test_other_labels_under_the_same_pixels_are_refused(tmp_path):
    def with_labels(labels):
        return TrainImages(make_data("x", "train", images, 256, labels=labels), np.arange(4))

    images = np.zeros((4, 1, 8, 8), np.uint8)
    first, other = with_labels(np.array([0, 1, 0, 1])), with_labels(np.array([0, 1, 1, 1]))
    state = TrainingState(Halved(), Recipe(data="x", seed=0, steps=9, batch=2, learning_rate=0.1, ema=0.9))
    with Directory(tmp_path) as folder:
        state.save(folder, "file", {"training.steps": 9}, first.data.sha256, first.labels_sha256)
    state.load(tmp_path / "file", {"training.steps": 9}, first.data.sha256, first.labels_sha256)
    assert first.data.sha256 == other.data.sha256
    with pytest.raises(RunMismatchError, match="made from labels of SHA-256"):
        state.load(tmp_path / "file", {"training.steps": 9}, other.data.sha256, other.labels_sha256)


def test_a_finished_training_is_stored_in_another_precision(tmp_path):
    path = recipe(tmp_path, steps=6)
    whole = replace(read_card(path), precision="float32")
    (tmp_path / "whole.toml").write_text(whole.toml())
    out = run(path, tmp_path / "out")
    assert read_card(out / "card.toml").precision == "float16"
    run(tmp_path / "whole.toml", out)
    assert read_card(out / "card.toml").precision == "float32"
    assert digest(out) == digest(run(tmp_path / "whole.toml", tmp_path / "other"))
    (out / fitting.CHECKPOINT).unlink()
    with pytest.raises(RunMismatchError, match=r"stored in another precision, is not there"):
        run(path, out)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vdm", {"decay": "none", "decay_images": 100}, "decay_images = 100 beside decay = 'none'"),
        ("vdm", {"ema_ramp_up": 0.05}, "but no ema_half_life"),
        ("vdm", {"ema": None, "ema_half_life": 100.0, "ema_warmup": False}, "but no ema, whose"),
        ("vdm", {"warmup": 10, "warmup_images": 100}, "takes its place"),
        ("vdm", {"snr_cap": 4.0}, "snr_cap = 4.0 is a number of loss = 'min-snr', but the loss is 'uniform'"),
        ("vdm", {"p_std": 1.0}, "a number of loss = 'edm', but the loss is 'uniform'"),
        ("edm", {"loss": "p2", "sigmoid_bias": 1.0}, "a number of loss = 'sigmoid', but the loss is 'p2'"),
        ("edm", {"loss": "flow", "p2_power": 2.0}, "a number of loss = 'p2'"),
        ("vdm", {"seed": 2**31}, "seed = 2147483648 lies not from"),
    ],
)  # fmt: skip
def test_words_without_effect_are_refused(tmp_path, kind, changes, message):
    with pytest.raises(CheckpointError, match=message):
        run(recipe(tmp_path, kind, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_key_that_states_its_default_is_no_word_without_effect(tmp_path):
    run(recipe(tmp_path, steps=1, snr_cap=5.0, p_std=1.2, seed=2**31 - 1), tmp_path / "out")


@pytest.mark.parametrize(("data_std", "expected"), [(0.7, 0.7), (None, 0.5)])
def test_edm_s_loss_of_a_likelihood_expert_takes_the_card_s_data_std(tmp_path, data_std, expected):
    card = replace(read_card(recipe(tmp_path, loss="edm")), data_std=data_std)
    aim = aim_of(card, Recipe.of(card), trainable(card))
    # At gamma = 0, s = 1: the share is 1 + 1/s_d^2, in double precision.
    gamma = torch.zeros(1, dtype=torch.float64)
    assert float(aim.weight.share(gamma)) == pytest.approx(1 + expected**-2, rel=1e-12)
    path = tmp_path / "stated.toml"
    path.write_text(card.toml())
    out = run(path, tmp_path / "out", steps=1)
    path.write_text(replace(card, data_std=0.9).toml())
    with pytest.raises(RunMismatchError, match=r"data_std: .*there, 0.9 now"):
        run(path, out, steps=1)
