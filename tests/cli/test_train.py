"""``train``: the card goes to the training as it is; a card that is refused leaves nothing."""

from pathlib import Path

from merged_diffusion import training


def test_card_and_place_are_handed_on(run_cli, monkeypatch):
    asked = []

    def train(card, out, *, threads, progress):
        asked.append((card, out, threads, progress))
        return out

    monkeypatch.setattr(training, "train", train)
    result = run_cli("train", "card.toml", "--out", "results/vdm", "--threads", 1, "--quiet", "--json")
    assert result.code == 0, result.err
    assert asked == [(Path("card.toml"), Path("results/vdm"), 1, False)]
    assert result.json["out"] == "results/vdm"


def test_card_that_is_not_there_is_code_4_and_writes_nothing(run_cli, tmp_path):
    result = run_cli("train", "nothing.toml", "--out", "run", "--json")
    assert result.code == result.json["code"] == 4
    assert "nothing.toml" in result.json["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_place_is_required(run_cli):
    assert run_cli("train", "card.toml").code == 2
