"""Trainings with what a recipe may aim at: they go on, they end as experts, and their bounds agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training import two_processes

import merged_diffusion as md
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card, read_card
from merged_diffusion.training import Recipe, fitting, train
from merged_diffusion.training.fitting import placed
from merged_diffusion.training.loss_by_gamma import loss_profile
from merged_diffusion.training.where import TrainingMachine

MEANING = {
    "vdm": {"predicts": "eps", "time": "gamma", "input": "vp"},
    "edm": {"predicts": "x0", "time": "log_edm_sigma_over_4", "input": "edm"},
}
MLP = {"type": "mlp", "width": 16, "blocks": 1, "dropout": 0.1}
UNET = {
    "architecture": "vdm-unet",
    "embedding_dim": 8,
    "n_blocks": 1,
    "norm_groups": 4,
    "fourier_exponents": [1],
}
SONG = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "dropout": 0.1}
DDPMPP = {"architecture": "ddpmpp", **SONG}
ADM = {"model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1}
TOLD = {"label_dim": 10, "augment_dim": 9}


def recipe(tmp_path, kind="vdm", network=None, name="recipe", **training):
    table = {"data": "digits", "seed": 3, "steps": 12, "batch": 16, "learning_rate": 2e-3, "ema": 0.9}
    table |= {"report": 6, "held_back": 32}
    if network is None:
        network = MLP | ({"periods": [1]} if kind == "vdm" else {})
    card = Card(
        name=name, kind=kind, **MEANING[kind], pixels="centred", levels=17, image_shape=(1, 8, 8),
        gamma_range=(-7.0, 5.0), network=network, labels="label_dim" in network, precision="float32",
        training={key: value for key, value in (table | training).items() if value is not None},
    )  # fmt: skip
    path = tmp_path / f"{name}.toml"
    path.write_text(card.toml())
    return path


def run(path, out):
    return train(path, out, threads=1, progress=False)


def digest(out):
    return read_card(out / "card.toml").sha256


AIMS = {
    "sigmoid": {"loss": "sigmoid", "sigmoid_bias": -1.0},
    "importance": {"gammas": "importance", "loss": "min-snr", "batch": 256},
}


@pytest.mark.parametrize("aim", AIMS)
def test_an_interrupted_training_of_an_aim_is_the_one_that_was_not(tmp_path, monkeypatch, aim):
    path = recipe(tmp_path, **AIMS[aim])
    whole = digest(run(path, tmp_path / "whole"))
    monkeypatch.setattr("merged_diffusion.training.pace.SAVE_SECONDS", 0.0)
    plain, laws = fitting.draw_batch, []

    def interrupted(expert, stated, images, step, learnt):
        laws.append(learnt.law())
        if step == 8:
            raise KeyboardInterrupt
        return plain(expert, stated, images, step, learnt)

    monkeypatch.setattr(fitting, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "parts")
    monkeypatch.setattr(fitting, "draw_batch", plain)
    assert digest(run(path, tmp_path / "parts")) == whole
    # The law had been learned before the interruption, so that going on needs it.
    assert (aim == "importance") == (hasattr(laws[-1], "shares") and len(set(laws[-1].shares.tolist())) > 1)


def test_parts_of_a_batch_have_the_gammas_of_the_whole(tmp_path):
    """The same law, the same rows, whatever their cut: the loss differs by rounding and nothing else."""
    values = {}
    for accumulate in (1, 4):
        aims = {"gammas": "importance", "accumulate": accumulate, "batch": 256}
        network = MLP | {"dropout": 0.0, "periods": [1]}
        path = recipe(tmp_path, network=network, name=f"p{accumulate}", **aims)
        out = run(path, tmp_path / f"out{accumulate}")
        values[accumulate] = float((out / "progress.csv").read_text().split(",")[-2])
    # Twelve steps of Adam in float32, whose first steps turn rounding of 1e-7 into as much of a step.
    assert values[1] == pytest.approx(values[4], rel=1e-4)


def test_two_processes_learn_one_law(tmp_path):
    """The profile of a whole batch, whoever computed which rows: weights and profile to 1e-10 in float64."""
    network = MLP | {"dropout": 0.0, "periods": [1]}
    words = {"gammas": "importance", "loss": "sigmoid", "batch": 128, "steps": 60, "precision": "float64"}
    path = recipe(tmp_path, network=network, **words)
    one = run(path, tmp_path / "one")
    assert two_processes.train(2, tmp_path, card=path, out=tmp_path / "two") == ["done", "done"]
    first, second = (load_file(out / "checkpoint.safetensors") for out in (one, tmp_path / "two"))
    assert first.keys() == second.keys() >= {"extra.square", "extra.rows"}
    assert int(first["extra.rows"].min()) > 8  # the law was learned, not uniform
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n} {m}")


@pytest.mark.parametrize(
    ("kind", "network", "words"),
    [
        ("vdm", UNET, {"loss": "uniform", "gammas": "importance"}),
        ("vdm", UNET, {"learned_ends": True}),
        ("edm", {"architecture": "ddpmpp", **SONG, **TOLD}, {"augment": 0.5, "label_dropout": 0.2}),
        ("edm", {"architecture": "ncsnpp", **SONG}, {"loss": "flow"}),
        ("edm", {"architecture": "adm", **ADM, **TOLD}, {"augment": 0.5, "label_dropout": 0.2, "loss": "p2"}),
    ],
    ids=["vdm-unet", "learned-ends", "ddpmpp", "ncsnpp", "adm"],
)
def test_a_public_network_trains_and_is_an_expert_at_once(tmp_path, kind, network, words):
    path = recipe(tmp_path, kind, network, steps=6, **words)
    out = run(path, tmp_path / "out")
    expert, card = md.load_expert(out), read_card(out / "card.toml")
    assert card.licence == ""
    start = placed(
        replace(card, data_std=0.7), Recipe.of(read_card(path)), TrainingMachine(), torch.device("cpu")
    )
    moved = [not torch.equal(a, b) for a, b in zip(expert.parameters(), start.parameters(), strict=False)]
    assert sum(moved) > len(moved) / 2
    z = torch.randn(2, 1, 8, 8)
    gamma = torch.tensor([-6.5, 4.0]).double()
    cond = torch.tensor([3, -1]) if expert.conditional else None
    assert torch.isfinite(expert(z, gamma, cond)).all()
    learns = "learned_ends" in words
    assert (card.gamma_range == (-7.0, 5.0)) != learns
    if learns:
        assert card.training["learned_from"] == [-7.0, 5.0]
        assert card.gamma_range == pytest.approx((-7.0, 5.0), abs=0.1)
    # The same command again finds it finished.
    before = (out / "card.toml").stat().st_mtime_ns
    assert run(path, out) == out
    assert (out / "card.toml").stat().st_mtime_ns == before


def test_buffers_that_were_drawn_are_part_of_the_expert(tmp_path):
    """NCSN++'s frequencies are never trained, and another draw of them is another network."""
    path = recipe(tmp_path, "edm", {"architecture": "ncsnpp", **SONG}, steps=2)
    out = run(path, tmp_path / "out")
    begun = placed(
        replace(read_card(path), data_std=0.7),
        Recipe.of(read_card(path)),
        TrainingMachine(),
        torch.device("cpu"),
    )
    assert torch.equal(md.load_expert(out).model.map_noise.freqs, begun.model.map_noise.freqs)


@pytest.mark.parametrize("words", [{}, {"gammas": "importance"}], ids=["uniform", "importance"])
def test_the_bound_of_held_back_images_is_what_the_training_reported(tmp_path, words):
    given = {"steps": 120, "report": 120, "batch": 64, "held_back": None, **words}
    out = run(recipe(tmp_path, **given), tmp_path / "out")
    expert, card = md.load_expert(out), read_card(out / "card.toml")
    _, held = hold_back(md.load_data("digits", split="train"))
    bound = md.variational_bound(expert, held, times=32)
    d, n = 64, len(held)
    diffusion = -bound.terms_nats["diffusion"] / d / np.log(2)
    # progress.csv: each image at one gamma, the gammas evenly: its error is that of images at a gamma.
    reported = float((out / "progress.csv").read_text().splitlines()[-1].split(",")[2])
    profile = loss_profile(expert, held)
    spread = np.sqrt(profile.per_image.var(axis=1).mean()) * 12 / 2 / np.log(2)
    assert abs(reported - diffusion.mean()) < 4 * spread / np.sqrt(n)
    assert spread / np.sqrt(n) < 0.05 * reported
    # The card's results: every image at every gamma, so the same images leave the noise alone.
    own = profile.per_image.mean(axis=0) * 12 / 2 / np.log(2)
    np.testing.assert_allclose(profile.loss, card.results["loss"], atol=1e-6)
    error = (own - diffusion).std() / np.sqrt(n)
    assert abs((own - diffusion).mean()) < 4 * error
    assert error < 0.01 * reported


@pytest.mark.parametrize(
    ("kind", "network", "words", "message"),
    [
        ("vdm", None, {"loss": "elbo"}, "loss = 'elbo' is none of uniform, edm, simple"),
        ("vdm", None, {"gammas": "even"}, "gammas = 'even' is none of published, uniform, importance"),
        ("edm", None, {"augment": 0.12}, r"augment_dim = 0: a network of kind 'edm'"),
        ("edm", DDPMPP | {"augment_dim": 4}, {"augment": 0.1}, "augment_dim = 4"),
        ("edm", DDPMPP | {"augment_dim": 9}, {"augment": 1.2}, "augment = 1.2 is no share"),
        ("edm", DDPMPP | {"augment_dim": 9}, {"augment": 0.1, "flips": True}, "flips, too"),
        ("edm", None, {"label_dropout": 0.1}, "takes no classes"),
        ("vdm", None, {"learned_ends": True}, "needs architecture = 'vdm-unet', found 'small'"),
        ("vdm", UNET, {"learned_ends": True, "loss": "simple"}, "the bound itself"),
        ("edm", None, {"p_std": 0.0}, "p_std = 0.0 is not above 0"),
    ],
)  # fmt: skip
def test_words_that_do_not_fit(tmp_path, kind, network, words, message):
    with pytest.raises(CheckpointError, match=message):
        run(recipe(tmp_path, kind, network, **words), tmp_path / "out")
    assert not (tmp_path / "out").exists()


PAPER = Path(__file__).parents[2] / "recipes" / "paper"
# Parameters: of the public files (`tests/reference/*/parameters.tsv`), and of 256 channels by their formula.


def vdm_parameters(e, blocks):
    """Of VDM's U-Net by its layers: down and middle, up, attention, and embedding, first and last."""
    down, up, attention = 22 * e**2 + 6 * e, 33 * e**2 + 9 * e, 4 * e**2 + 6 * e
    ends = 20 * e**2 + 8 * e + 136 * e + 29 * e + 3
    return ends + (blocks + 2) * down + (blocks + 1) * up + attention


PUBLIC = {
    "cifar10-vdm": {"parameters": 30_577_667, "images": 1_280_000_000, "rate": 2e-4},
    "imagenet32-vdm": {"parameters": 122_136_579, "images": 1_024_000_000, "rate": 2e-4},
    "cifar10-edm": {"parameters": 55_733_891, "images": 200_000_000, "rate": 1e-3},
    "imagenet32-edm": {"parameters": 55_733_891, "images": 1_000_000_512, "rate": 1e-3},
}


@pytest.mark.parametrize("name", PUBLIC)
def test_recipes_of_the_paper_have_the_public_sizes_and_schedules(name):
    card, public = read_card(PAPER / f"{name}.toml"), PUBLIC[name]
    stated = Recipe.of(card)
    assert sum(p.numel() for p in card.blank().parameters()) == public["parameters"]
    assert stated.steps * stated.batch == public["images"]
    assert card.licence == ""
    assert stated.rate(stated.steps - 1) == public["rate"]
    if card.kind == "vdm":
        assert vdm_parameters(card.network["embedding_dim"], 32) == public["parameters"]
        assert stated.rate(0) == public["rate"]
        assert stated.gradient_norm * 18.3 / (2 * np.log(2)) == pytest.approx(1, abs=1e-4)
        assert stated.epsilon * 18.3 / (2 * np.log(2)) == pytest.approx(1e-8, rel=1e-4)
    else:
        # Half of the rate after 5 M images, all after 10 M.
        half, full = (round(images / stated.batch) for images in (5e6, 1e7))
        assert stated.rate(half) == pytest.approx(public["rate"] / 2, rel=1e-3)
        assert stated.rate(full) == public["rate"]
        assert stated.epsilon * 3072 == pytest.approx(1e-8, rel=1e-4)
        assert stated.augment == 0.12


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_one_step_at_full_size(name, tmp_path):
    """Of one image (two of EDM's): finite, and every weight that is not behind a zero moves."""
    card = read_card(PAPER / f"{name}.toml")
    rows = 1 if card.kind == "vdm" else 2
    images = np.random.RandomState(0).randint(0, 256, (8, 3, 32, 32)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, ids=np.arange(8), levels=256)
    words = {"data": str(tmp_path / "images.npz"), "held_back": 2, "batch": rows, "steps": 1, "report": 1}
    training = dict(card.training) | words
    training.pop("variant", None)  # of the public files of ImageNet32, which these images are not
    path = tmp_path / "card.toml"
    path.write_text(replace(card, training=training).toml())
    cost = md.training.training_cost(path, threads=1)
    print(
        f"{name}: {cost.seconds_a_step:.1f} s a step of {rows}, {cost.kept / 2**20:.0f} MiB of weights and "
        f"moments, {cost.activations / 2**20:.0f} MiB of activations, loss finite"
    )
    assert cost.parameters == PUBLIC[name]["parameters"]
