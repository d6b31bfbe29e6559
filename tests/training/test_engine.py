"""The parts of a training: order of images, means of weights, rates, precision, data, reports, faults."""

import json
import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load
from tests.training.cards import recipe

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import (
    CheckpointError,
    DataError,
    DataIntegrityError,
    RunMismatchError,
    UsageError,
)
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.training import Recipe, TrainingMachine, image_cache, pace, train, training_cost
from merged_diffusion.training.batch_loss import draw_batch, loss_of_rows
from merged_diffusion.training.precision import check_precision
from merged_diffusion.training.processes import Team
from merged_diffusion.training.state import TrainingState
from merged_diffusion.training.train_data import check_data
from merged_diffusion.training.train_images import TrainImages, chosen_at
from merged_diffusion.training.weight_means import MeanRule, rules

ALONE = Team(0, 1, torch.device("cpu"))


def made(**changes):
    return Recipe(
        **(
            {"data": "digits", "seed": 5, "steps": 100, "batch": 8, "learning_rate": 0.5, "ema": 0.9}
            | changes
        )
    )


def run(path, out, **options):
    return train(path, out, threads=1, progress=False, **options)


def noise(n=40, levels=256, labels=None):
    random = np.random.RandomState(0)
    images = random.randint(0, levels, (n, 1, 8, 8)).astype(np.uint8)
    return make_data("noise", "train", images, levels, labels=labels)


def test_an_epoch_has_every_image_once_and_its_own_order():
    stated, n, generator = made(order="epochs", batch=8), 20, torch.Generator()
    whole = np.concatenate([chosen_at(stated, n, step, generator) for step in range(5)])
    assert sorted(whole[:20]) == sorted(whole[20:]) == list(range(20))
    assert whole[:20].tolist() != whole[20:].tolist()
    # Steps of another size go through the same order; another seed has another.
    other = np.concatenate(
        [chosen_at(made(order="epochs", batch=4), n, step, generator) for step in range(10)]
    )
    assert whole.tolist() == other.tolist()
    assert chosen_at(made(order="epochs", seed=6), n, 0, generator).tolist() != whole[:8].tolist()


def test_a_row_is_the_same_in_any_part():
    card = replace(read_card_of("edm"), data_std=0.7)
    stated = made(flips=True, order="epochs", p_uniform=0.2)
    images = TrainImages(noise(levels=17), np.arange(40))
    expert = card.expert(0).eval().double()
    for parameter in expert.parameters():
        parameter.data.add_(0.1)
    batch = draw_batch(expert, stated, images, 3)
    whole = float(loss_of_rows(expert, stated, images, batch, slice(0, 8)).value.detach())
    parts = [
        float(loss_of_rows(expert, stated, images, batch, slice(k, k + 2)).value.detach())
        for k in range(0, 8, 2)
    ]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-13)
    assert len({round(part, 6) for part in parts}) == 4


def read_card_of(kind, **changes):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return read_card(recipe(Path(folder), kind, **changes))


def test_a_half_life_halves_and_young_means_forget_faster():
    rule = MeanRule("h", half_life=1000.0)
    assert rule.keep(10**6, 250) ** 4 == pytest.approx(0.5)
    assert MeanRule("r", half_life=1000.0, ramp_up=0.05).keep(100, 10) == pytest.approx(0.5 ** (10 / 50))
    assert MeanRule("r", half_life=1000.0, ramp_up=0.05).keep(0, 10) == 0
    assert MeanRule("d", decay=0.99).keep(5, 1) == pytest.approx(6 / 15)
    assert MeanRule("d", decay=0.99, warms=False).keep(5, 1) == 0.99
    found = [rule.name for rule in rules(made(ema=[0.9, 0.9999], ema_half_life=500000.0))]
    assert found == ["0.9", "0.9999", "half-life-500000"]


def test_every_mean_is_an_expert_and_is_the_mean_of_the_weights(tmp_path):
    """With weights w_n = n after step n, a mean of decay k from 0 is sum of k^(N-n) (1 - k) n."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    state = TrainingState(net, made(ema=[0.5, 0.9], ema_warmup=False))
    for n in range(1, 6):
        net.weight.data.fill_(float(n))
        state.means.update(net, n - 1, 8)
    for decay in (0.5, 0.9):
        expected = sum(decay ** (5 - n) * (1 - decay) * n for n in range(1, 6))
        assert float(state.means.of[f"{decay}"]["weight"]) == pytest.approx(expected, rel=1e-6)
    out = run(recipe(tmp_path, ema=[0.9, 0.99], ema_half_life=200, ema_warmup=False), tmp_path / "out")
    names = {load_expert(place).name for place in (out, out / "ema-0.99", out / "ema-half-life-200")}
    assert names == {"toy-vdm", "toy-vdm-ema-0.99", "toy-vdm-ema-half-life-200"}
    assert len({read_card(place / "card.toml").sha256 for place in (out, out / "ema-0.99")}) == 2


def test_rates_warm_up_and_fall_by_images():
    assert made(warmup_images=80, decay="none").rate(4) == pytest.approx(0.5 * 5 / 10)
    assert made(warmup_images=80, decay="none").rate(99) == 0.5
    root = made(warmup=0, decay="inverse-sqrt", decay_images=80)
    assert root.rate(10) == 0.5
    assert root.rate(40) == pytest.approx(0.25)
    cosine = made(warmup=0, decay_images=400)
    assert cosine.rate(25) == pytest.approx(0.5 * (0.02 + 0.98 / 2))
    assert cosine.rate(50) == cosine.rate(90) == pytest.approx(0.01)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_the_first_step_of_adam(optimiser):
    """Kingma and Ba 2015, algorithm 1: both moments are unbiased, so it is rate g/(|g| + epsilon)."""
    net = torch.nn.Linear(1, 1, bias=False).double()
    stated = made(
        optimiser=optimiser, betas=[0.3, 0.7], epsilon=0.1, weight_decay=0.2, gradient_norm=0.0,
        warmup=0, decay="none",
    )  # fmt: skip
    state, before = TrainingState(net, stated), net.weight.item()
    total, norm = state.gradient([3 * net.weight.sum()], ALONE)
    assert (total, norm) == pytest.approx((3 * before, 3.0))
    state.update(total, np.zeros(1, dtype=np.int64))
    # AdamW shrinks the weight by rate times decay; Adam adds decay times the weight to the gradient.
    g = 3.0 if optimiser == "adamw" else 3.0 + 0.2 * before
    start = before * (1 - 0.5 * 0.2) if optimiser == "adamw" else before
    assert net.weight.item() == pytest.approx(start - 0.5 * g / (abs(g) + 0.1), rel=1e-12)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_about_the_same(tmp_path, precision):
    """Layers of 8 or 11 bits: the loss of 60 steps is that of float32 within a few times 2^-8."""
    losses = []
    for name in ("float32", precision):
        out = run(
            recipe(tmp_path, steps=60, report=60, dropout=0.0, name=name), tmp_path / name, precision=name
        )
        losses.append(float((out / "progress.csv").read_text().splitlines()[-1].split(",")[2]))
        assert read_card(out / "card.toml").training["precision"] == name
        assert (
            load((out / "checkpoint.safetensors").read_bytes())["net.net.first.weight"].dtype == torch.float32
        )
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_a_gradient_that_overflows_fp16_is_skipped_and_counted():
    net = torch.nn.Linear(1, 1, bias=False)
    state, before = TrainingState(net, made(precision="fp16")), net.weight.item()
    total, norm = state.gradient([net.weight.sum() * 1e38], ALONE)  # times the scale of 65536
    assert not math.isfinite(norm)
    state.update(total, np.zeros(1, dtype=np.int64))
    assert (state.step, state.updates, net.weight.item()) == (1, 0, before)
    assert state.scaler.get_scale() == 32768
    state.update(*state.gradient([net.weight.sum()], ALONE)[:1], np.zeros(1, dtype=np.int64))
    assert (state.step, state.updates) == (2, 1)
    other = TrainingState(torch.nn.Linear(1, 1, bias=False), made(precision="fp16"))
    other.set_words(state.words())
    assert (other.updates, other.scaler.get_scale()) == (1, 32768)


@pytest.mark.parametrize(("precision", "message"), [("tf32", "NVIDIA"), ("float8", "none of float32")])
def test_precisions_that_are_not_there(tmp_path, precision, message):
    with pytest.raises((UsageError, CheckpointError), match=message):
        run(recipe(tmp_path), tmp_path / "out", precision=precision)
    assert not (tmp_path / "out").exists()


def test_ends_are_not_learned_where_there_is_no_float64():
    check_precision("float32", torch.device("mps"))
    check_precision("float32", torch.device("cpu"), learned_ends=True)
    with pytest.raises(UsageError, match="learned_ends on mps"):
        check_precision("float32", torch.device("mps"), learned_ends=True)


def test_parts_are_equal_or_refused():
    machine = TrainingMachine(batch_per_device=2)
    assert machine.parts(made(), 2, 1) == [slice(4, 6), slice(6, 8)]
    assert TrainingMachine().parts(made(accumulate=2), 1, 0) == [slice(0, 4), slice(4, 8)]
    with pytest.raises(
        UsageError, match=r"batch-per-device 3 is no equal part of the 4 .* possible are 1, 2, 4"
    ):
        TrainingMachine(batch_per_device=3).parts(made(), 2, 0)
    with pytest.raises(UsageError, match=r"not 3 equal shares.*start 2 processes"):
        machine.parts(made(), 3, 0)
    with pytest.raises(UsageError, match=r"are not 4 .accumulate. equal parts"):
        TrainingMachine().parts(made(accumulate=4), 4, 0)


def test_a_diverging_training_names_the_step_and_leaves_good_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(pace, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(Recipe, "rate", lambda _, step: 1e-3 if step < 20 else 1e30)
    with pytest.raises(CheckpointError, match="not finite at step 21: the training diverges"):
        run(recipe(tmp_path), tmp_path / "out")
    content = (tmp_path / "out" / "checkpoint.safetensors").read_bytes()
    words = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert words["step"] == "20"  # before the update that went wrong
    # Twenty steps of Adam move no weight by more than about 20 times the rate.
    fresh = dict(read_card(tmp_path / "recipe.toml").expert(3).named_parameters())
    moved = [(load(content)[f"net.{name}"] - value).abs().max() for name, value in fresh.items()]
    assert 0 < max(moved) < 0.1


def test_a_loss_that_explodes_is_a_divergence(tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "rate", lambda _, step: 1e-3 if step < 20 else 100.0)
    with pytest.raises(CheckpointError, match=r"the loss is .* after .* at step 21: the training diverges"):
        run(recipe(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out" / "card.toml").exists()


def test_other_images_under_the_same_name_are_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=noise(levels=17).images, levels=17)
    path = recipe(tmp_path, data=str(tmp_path / "set.npz"), steps=5)
    out = run(path, tmp_path / "out")
    (out / "card.toml").unlink()
    np.savez(tmp_path / "set.npz", images=noise(levels=17).images[::-1], levels=17)
    with pytest.raises(RunMismatchError, match="was made from images of SHA-256"):
        run(path, tmp_path / "out")


def test_a_key_that_is_left_out_means_its_default_and_parts_may_differ(tmp_path):
    out = run(recipe(tmp_path, steps=5), tmp_path / "out")
    (out / "card.toml").unlink()
    run(recipe(tmp_path, steps=5, warmup=200, decay="cosine", accumulate=4), tmp_path / "out")
    (out / "card.toml").unlink()
    with pytest.raises(RunMismatchError, match=r"training.optimiser: the default there, 'adam' now"):
        run(recipe(tmp_path, steps=5, optimiser="adam"), tmp_path / "out")


def test_labels_without_classes_and_classes_without_labels():
    card = replace(read_card_of("edm"), labels=True, network={"label_dim": 3})
    with pytest.raises(DataError, match="the set has no labels"):
        check_data(card, made(), noise(levels=17))
    with pytest.raises(DataError, match="labels run from 0 to 3, but the card states label_dim = 3"):
        check_data(card, made(), noise(levels=17, labels=np.arange(40) % 4))
    check_data(card, made(), noise(levels=17, labels=np.arange(40) % 3))


def test_a_mapped_set_trains_the_same_and_a_damaged_one_is_refused(tmp_path):
    plain = run(recipe(tmp_path), tmp_path / "plain")
    machine = TrainingMachine(data_cache=tmp_path / "cache")
    mapped = run(recipe(tmp_path), tmp_path / "mapped", machine=machine)
    digest = read_card(mapped / "card.toml").sha256
    assert digest == read_card(plain / "card.toml").sha256
    (place,) = (tmp_path / "cache").iterdir()
    found = image_cache.mapped(place.name, tmp_path / "cache")
    assert isinstance(found.images.base, np.memmap)
    assert not found.images.flags.writeable
    file = place / "pixels"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataIntegrityError, match="another SHA-256"):
        run(recipe(tmp_path), tmp_path / "other", machine=machine)


def test_what_is_held_back_is_the_recipe_s(tmp_path):
    np.savez(tmp_path / "set.npz", images=noise(levels=17).images, levels=17)
    path = recipe(tmp_path, data=str(tmp_path / "set.npz"), steps=2, held_back=7)
    assert read_card(run(path, tmp_path / "out") / "card.toml").results["images"] == 7
    tested = run(recipe(tmp_path, steps=2, held_back="test"), tmp_path / "test")
    assert read_card(tested / "card.toml").results["images"] == 360
    with pytest.raises(DataError, match="40 of 40 images are held back"):
        run(recipe(tmp_path, data=str(tmp_path / "set.npz"), held_back=40), tmp_path / "none")


def test_the_cost_counts_what_is_kept(tmp_path):
    card = recipe(tmp_path, ema=[0.9, 0.99])
    whole = training_cost(card, threads=1)
    half = training_cost(card, threads=1, machine=TrainingMachine(batch_per_device=8))
    assert whole.kept == 4 * 6 * whole.parameters
    assert (whole.rows, half.rows) == (16, 8)
    # All that an image keeps is per image but for a few numbers.
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.1)
    assert whole.seconds_a_step > 0


class Board:
    """TensorBoard and Weights & Biases, as far as they are asked."""

    def __init__(self, *where, **how):
        self.where, self.how, self.told = where, how, []

    def add_scalar(self, name, value, step):
        self.told.append((step, name, value))

    def log(self, values, step):
        self.told += [(step, name, value) for name, value in values.items()]

    def flush(self):
        pass

    def close(self):
        self.told.append("closed")

    finish = close


def test_boards_get_the_numbers_of_each_report(tmp_path, monkeypatch):
    made_boards = []

    def new(*where, **how):
        made_boards.append(Board(*where, **how))
        return made_boards[-1]

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=new))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=new))
    out = run(recipe(tmp_path, report=15), tmp_path / "out", tensorboard=True, wandb="mine")
    lines = [json.loads(line) for line in (out / "reports.jsonl").read_text().splitlines()]
    for board in made_boards:
        told = {(step, name): value for step, name, value in board.told[:-1]}
        assert told[15, "train_loss"] == lines[0]["train_loss"]
        assert told[30, "held_back_bits_per_dim"] == lines[1]["held_back_bits_per_dim"]
        assert board.told[-1] == "closed"
    assert made_boards[0].where == (str(out / "tensorboard"),)
    assert made_boards[1].how["project"] == "mine"


@pytest.mark.parametrize("option", [{"tensorboard": True}, {"wandb": "mine"}])
def test_a_board_that_is_not_installed_is_refused_before_anything_is_written(tmp_path, monkeypatch, option):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="is not installed here"):
        run(recipe(tmp_path), tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_samples_and_a_curve_are_pictures(tmp_path):
    from PIL import Image

    out = run(recipe(tmp_path, report=15), tmp_path / "out", samples=4)
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["000000015.png", "000000030.png"]
    with Image.open(out / "samples" / "000000030.png") as grid, Image.open(out / "loss.png") as curve:
        assert grid.size == (2 * 64 + 1, 2 * 64 + 1)
        assert curve.size[0] > 300
    assert (
        read_card(out / "card.toml").sha256
        == read_card(run(recipe(tmp_path, report=15), tmp_path / "without") / "card.toml").sha256
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": None}, "ema is missing"),
        ({"ema": []}, r"ema = \[\] is no float"),
        ({"ema": [0.9, 1.5]}, "ema = 1.5 lies not from 0 to below 1"),
        ({"betas": [0.9]}, "betas = .* are not two numbers"),
        ({"betas": [0.9, "x"]}, r"betas = .* is no list\[float\]"),
        ({"order": "random"}, "order = 'random' is none of draws, epochs"),
        ({"decay": "inverse-sqrt"}, "needs decay_images"),
        ({"held_back": "train"}, "held_back = 'train' is neither"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0 is not above 0"),
    ],
)  # fmt: skip
def test_recipes_that_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        run(recipe(tmp_path, **changes), tmp_path / "out")
