"""Three experts from the command line: thresholds and a gate found, and used by the other commands."""

import re
import shutil

import numpy as np
import pytest

import merged_diffusion as md

FEW = ("--limit", 3, "--threads", 1, "--device", "cpu", "--quiet")


@pytest.fixture
def three(experts):
    return [word for name in ("likelihood", "two", "quality") for word in ("--expert", experts(name))]


@pytest.fixture
def card(run_cli, three, tmp_path):
    path = tmp_path / "three.toml"
    options = ("--form", "full", "--tune-limit", 8, "--exact", 0, "--no-test", "--out", path)
    assert run_cli("gate", "--data", "digits", *three, *options, *FEW).code == 0
    return path


def test_thresholds_are_found_and_can_be_given(run_cli, three, tmp_path):
    asked = ("--tune-limit", "8", "--json", "--out", str(tmp_path / "found"))
    done = run_cli("threshold", "--data", "digits", *three, *asked, *FEW)
    assert done.code == 0, done.err
    found = done.json
    assert set(found["rows"]) == {"switches", "likelihood", "expert-2", "quality"}
    assert all(choice["seconds"] > 0 for choice in found["found"]["choices"])
    assert (tmp_path / "found" / "threshold.json").exists()
    tried = found["confirmed"]["tried"]
    assert found["gammas"] == found["confirmed"]["gammas"] == tried[0]["gammas"]
    assert found["found"]["chosen"]["gammas"] in [one["gammas"] for one in tried]
    assert found["confirmed"]["n"] == 8
    assert all(one["seconds"] > 0 and one["bits_per_dim"]["mean"] > 0 for one in tried)
    gammas = ",".join(str(gamma) for gamma in found["gammas"])
    again = run_cli("nll", "--data", "digits", *three, f"--gammas={gammas}", "--json", *FEW)
    assert again.code == 0, again.err
    summary = again.json
    assert summary["bits_per_dim"]["mean"] == pytest.approx(
        found["rows"]["switches"]["bits_per_dim"]["mean"], abs=1e-6
    )


@pytest.mark.parametrize("more", [[], ["--no-confirm"]])
def test_what_threshold_prints_can_be_pasted(run_cli, three, more):
    done = run_cli("threshold", "--data", "digits", *three, "--tune-limit", "4", "--no-test", *more, *FEW)
    words = re.search(r"use them by (\S+)", done.out)
    assert words is not None
    assert ("by exact runs on 4 of them" in done.out) == (not more)
    assert run_cli("vlb", "--data", "digits", *three, words[1], *FEW).code == 0


def test_a_budget_is_kept_or_refused(run_cli, three):
    words = ("threshold", "--data", "digits", *three, "--tune-limit", "4")
    done = run_cli(*words, "--budget", 1e9, *FEW)
    assert done.code == 0, done.err
    assert "budget of 1e+09 s/image: kept" in done.out
    none = run_cli(*words, "--budget", 1e-9, "--no-test", *FEW)
    assert none.code == 2
    assert "choices of thresholds that were run the quickest" in " ".join(none.err.split())


def test_a_gate_of_three_serves_every_command(run_cli, three, card, tmp_path):
    scored = run_cli("nll", "--data", "digits", *three, "--gate", str(card), "--json", *FEW)
    assert scored.code == 0, scored.err
    # The second expert, which is the worst, may have no share.
    roles = {"total", "likelihood", "expert-2", "quality"}
    assert roles - {"expert-2"} <= set(scored.json["evaluations"]) <= roles
    assert run_cli("vlb", "--data", "digits", *three, "--gate", str(card), *FEW).code == 0
    drawn = tmp_path / "drawn.npz"
    few = ("--num", 2, "--sampler", "unipc", "--steps", 4, "--out", drawn, "--quiet")
    sampled = run_cli("sample", *three, "--gate", card, *few)
    assert sampled.code == 0, sampled.err
    with np.load(drawn) as columns:
        assert columns["images"].shape == (2, 1, 8, 8)


def test_a_run_of_three_goes_on_and_is_shown(run_cli, three, tmp_path):
    out = str(tmp_path / "run")
    words = ("nll", "--data", "digits", *three, "--gammas=-6,1", "--out", out)
    assert run_cli(*words, "--limit", "2", "--threads", "1", "--quiet").code == 0
    assert run_cli(*words, *FEW).code == 0
    shown = run_cli("runs", "show", out)
    assert "3 experts, switching at gamma -6.000, 1.000" in shown.out
    other = run_cli("nll", "--data", "digits", *three, "--gammas=-6,2", "--out", out, *FEW)
    assert other.code != 0
    assert "legs" in other.err
    # The same experts by other names: their weights, code and legs say that they are.
    source = three[1].rpartition(":")[0]
    shutil.copy(source, "copied.py")
    copied = [word.replace(source, "copied.py") for word in three]
    again = run_cli("nll", "--data", "digits", *copied, "--gammas=-6,1", "--out", out, *FEW)
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("command", "named", "words", "says"),
    [
        ("nll", 3, [], "without thresholds"),
        ("nll", 3, ["--gammas=-6"], "1 --gammas for 3 experts"),
        ("nll", 3, ["--gammas=1,-6"], "-6"),
        ("nll", 3, ["--gammas=-6,x"], "not numbers with commas"),
        ("nll", 2, [], "given 2 times"),
        ("nll", 3, ["--eta", "0.3"], "exclude --eta"),
        ("nll", 3, ["--gammas=-6,1", "--pair", "digits"], "exclude --pair"),
        ("nll", 3, ["--gammas=-6,1", "--compare"], "exclude --compare"),
        ("nll", 0, ["--gammas=-6,1"], "--gammas are the thresholds of three"),
        ("threshold", 1, [], "one --expert has no threshold"),
        ("threshold", 0, ["--budget", 1], "--budget is for three"),
        ("threshold", 3, ["--budget", "nan"], "nan seconds an image is no finite number"),
        ("threshold", 3, ["--budget", 0], "0 seconds an image is no finite number"),
        ("nll", 3, ["--gammas=-6,1", "--as", "vdm"], "where 3 models are named"),
        ("gate", 3, [], "add --form full"),
        ("gate", 1, [], "one --expert has no gate"),
    ],
)  # fmt: skip
def test_what_is_no_model_of_several_is_refused(run_cli, three, command, named, words, says):
    done = run_cli(command, "--data", "digits", *three[: 2 * named], *words, *FEW)
    assert done.code == 2
    assert says in " ".join(done.err.split())


def test_a_gate_of_a_pair_is_not_one_of_three(run_cli, three, tmp_path):
    from merged_diffusion import Gate, gate_toml

    card = tmp_path / "pair.toml"
    card.write_text(gate_toml(Gate(-7.0, -2.0)))
    done = run_cli("nll", "--data", "digits", *three, "--gate", str(card), *FEW)
    assert done.code == 2
    assert "is one of two experts, and 3 are given" in " ".join(done.err.split())


def test_statistics_of_several_are_refused_before_anything_is_measured(run_cli, three):
    done = run_cli("model-statistics", "--data", "digits", *three, "--out", "s.npz", "--quiet")
    assert done.code == 2
    assert "given 3 times, and statistics are of one expert or a pair" in " ".join(done.err.split())
    assert run_cli("model-statistics", "--data", "digits", "--gammas=-6,1", "--out", "s.npz").code == 2


@pytest.mark.parametrize(
    ("command", "n", "words"),
    [("threshold", 3, []), ("gate", 3, ["--form", "full"]), ("gate", 0, [])],
)
def test_images_that_are_reported_on_are_not_chosen_on(run_cli, three, monkeypatch, command, n, words):
    digits = md.load_data("digits")
    np.savez("tune.npz", images=digits.select(limit=2).images, levels=17)
    for place in ("thresholds.choose_switches.find_switches", "gating.gated.find_on"):
        monkeypatch.setattr(f"merged_diffusion.{place}", lambda *_, **__: pytest.fail("something was fitted"))
    done = run_cli(command, "--data", "digits", *three[: 2 * n], *words, "--tune-data", "tune.npz", *FEW)
    assert done.code == 2
    assert "2 of the 3 images to report on are among the 2" in " ".join(done.err.split())
