"""``train``: the card goes to the training as it is; a card that is refused leaves nothing."""

import json
from pathlib import Path

from tests.training.cards import recipe

from merged_diffusion import training
from merged_diffusion.experts.card import read_card


def test_card_and_place_are_handed_on(run_cli, monkeypatch):
    asked = []

    def train(card, out, **how):
        asked.append((card, out, how))
        return out

    monkeypatch.setattr(training, "train", train)
    words = ("--threads", 1, "--quiet", "--steps", 7, "--precision", "bf16", "--device", "cpu")
    more = ("--batch-per-device", 4, "--channels-last", "--samples", 3, "--tensorboard", "--wandb", "mine")
    result = run_cli("train", "card.toml", "--out", "results/vdm", *words, *more, "--json")
    assert result.code == 0, result.err
    ((card, out, how),) = asked
    assert (card, out) == (Path("card.toml"), Path("results/vdm"))
    del how["on_report"]
    assert how == {
        "threads": 1, "progress": False, "steps": 7, "precision": "bf16", "samples": 3, "tensorboard": True,
        "wandb": "mine",
        "machine": training.TrainingMachine(device="cpu", batch_per_device=4, channels_last=True),
    }  # fmt: skip
    assert result.json["out"] == "results/vdm"


def test_a_training_tells_a_line_of_json_a_report_and_goes_on_with_more_steps(run_cli, tmp_path):
    card = recipe(tmp_path, report=10)
    words = ("train", card, "--out", "out", "--threads", 1, "--device", "cpu", "--quiet", "--json-lines")
    lines = [json.loads(line) for line in run_cli(*words).out.splitlines()]
    assert [line["report"]["step"] for line in lines[:-1]] == [10, 20, 30]
    assert lines[-1] == {"command": "train", "out": "out"}
    kept = [json.loads(line) for line in Path("out/reports.jsonl").read_text().splitlines()]
    assert kept == [line["report"] for line in lines[:-1]]
    assert kept[-1]["images"] == 480
    assert kept[-1]["seconds_left"] == 0
    more = [json.loads(line) for line in run_cli(*words, "--steps", 50).out.splitlines()]
    assert [line["report"]["step"] for line in more[:-1]] == [40, 50]
    scored = run_cli(
        "nll", "--data", "digits", "--limit", 1, "--likelihood-expert", "out", "--tol", 0.5, "--json"
    )
    assert scored.code == 0, scored.err


def test_a_dry_run_tells_the_cost_and_writes_nothing(run_cli, tmp_path):
    card = recipe(tmp_path)
    result = run_cli("train", card, "--dry-run", "--threads", 1, "--device", "cpu", "--json")
    cost = result.json["cost"]
    assert cost["parameters"] == sum(p.numel() for p in read_card(card).expert().parameters())
    # Weights, gradients, two moments and one mean, in four bytes each.
    assert cost["kept"] == 20 * cost["parameters"]
    assert cost["device_hours"] == cost["seconds_a_step"] * 30 / 3600
    assert "device hours" in run_cli("train", card, "--dry-run", "--threads", 1, "--device", "cpu").out
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_ranks_other_than_the_first_say_nothing(run_cli, monkeypatch, tmp_path):
    from merged_diffusion.training.processes import ToldElsewhereError

    def train(*_, **__):
        raise ToldElsewhereError(3)

    monkeypatch.setattr(training, "train", train)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    result = run_cli("train", recipe(tmp_path), "--out", "out", "--json-lines")
    assert (result.code, result.out, result.err) == (3, "", "")


def test_card_that_is_not_there_is_code_4_and_writes_nothing(run_cli, tmp_path):
    result = run_cli("train", "nothing.toml", "--out", "run", "--json")
    assert result.code == result.json["code"] == 4
    assert "nothing.toml" in result.json["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_place_is_required(run_cli):
    assert run_cli("train", "card.toml").code == 2
