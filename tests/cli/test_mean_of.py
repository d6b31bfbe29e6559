"""``nll --mean-of``: the mean over a set from exact runs of some of its images."""

import json
from pathlib import Path

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.jobs import set_means

# Images of one grey each: nothing but the bound tells them apart.
GREYS = np.random.default_rng(0).integers(1, 16, (60, 1, 1, 1)).repeat(8, 2).repeat(8, 3).astype(np.uint8)


def test_estimate_is_that_of_the_records_and_of_the_choice(run_cli):
    words = ("nll", "--data", "digits", "--limit", 9, "--mean-of", 100, "--threads", 1, "--out", "run")
    found = run_cli(*words, "--json")
    assert found.code == 0, found.err
    told = found.json["mean_of"]
    assert (told["n"], told["n_set"], told["features"]) == (9, 100, ["roughness"])
    assert told["low"] < told["mean"] < told["high"]
    assert told["se"] == pytest.approx(np.hypot(told["se_choice"], told["se_probe"]))
    digits = md.load_data("digits")
    scores = md.load_scores("run")
    assert scores.ids.tolist() == digits.select(limit=9).ids.tolist()
    own = md.estimate_mean(scores, digits.select(limit=100)).as_dict()
    assert {key: told[key] for key in own if key != "left_out"} == {
        k: v for k, v in own.items() if k != "left_out"
    }
    settings = json.loads(Path("run/settings.json").read_text())
    assert settings["selections"] == [{"limit": 9, "ids": None, "mean_of": 100, "choice_seed": 0}]
    shown = run_cli("runs", "show", "run")
    assert f"mean of 100  {told['mean']:.4f} ± {told['se']:.4f} bits/dim, from 9 of them" in shown.out
    assert run_cli(*words).out.count("mean of 100") == 1


def test_nll_goes_on_with_the_run_and_the_run_with_a_mean(run_cli, nll):
    run = ("--batch-size", 16, "--out", "run")
    assert run_cli(*nll("one", "--limit", 8, "--mean-of", "all", *run)).code == 0
    records = Path("run/images-0000-of-0001.jsonl").read_text()
    more = run_cli(*nll("one", "--limit", 12, *run, "--json"))
    assert more.code == 0, more.err
    assert more.json["n"] == 12
    assert "mean_of" not in more.json
    assert Path("run/images-0000-of-0001.jsonl").read_text().startswith(records)
    assert "mean of" not in run_cli("runs", "show", "run").out
    again = run_cli(*nll("one", "--limit", 12, "--mean-of", "all", *run, "--json"))
    fresh = run_cli(*nll("one", "--limit", 12, "--mean-of", "all", "--batch-size", 16, "--json"))
    assert again.json["mean_of"] == fresh.json["mean_of"]
    # Of a run that holds more, the choice of this command alone.
    fewer = run_cli(*nll("one", "--limit", 8, "--mean-of", "all", *run, "--json"))
    assert (fewer.json["n"], fewer.json["mean_of"]["n"]) == (12, 8)


def test_shards_share_a_choice_and_the_last_one_tells(run_cli, nll):
    words = ("--limit", 10, "--mean-of", 50, "--batch-size", 16)
    first = run_cli(*nll("one", *words, "--shard", "0/2", "--out", "run"))
    assert "mean of 50  none: it takes a value of every image chosen, and 5 have none" in first.out
    last = run_cli(*nll("one", *words, "--shard", "1/2", "--out", "run", "--json"))
    whole = run_cli(*nll("one", *words, "--json"))
    assert last.json["mean_of"] == whole.json["mean_of"]


def test_people_read_whether_it_pays(run_cli, nll):
    told = run_cli(*nll("one", "--limit", 20, "--mean-of", "all")).out
    assert "by the choice of images" in told
    assert "by the probes; as a sample of what it was drawn from" in told
    assert "features  roughness; correlation" in told
    assert "times as many: they do not pay on these images" in told
    assert "left out  bound: is tried from 30 exact runs on, 20 were made" in told


def test_people_read_what_no_error_tells(run_cli, nll):
    """Where it counts: of more than a tenth of the set."""
    few, words = ("--limit", 8, "--mean-of", 100), ("--limit", 8, "--mean-of", 10)
    assert "  draws  " not in run_cli(*nll("one", *few)).out
    told = run_cli(*nll("one", *words)).out
    assert "  draws     of the dequantisation have no part in that error, and 8 of 10 is more than" in told
    found = run_cli(*nll("one", *words, "--repeats", 2))
    assert "by noise and probes" in found.out
    assert "  draws  " not in found.out
    fixed = (*words, "--method", "dopri5", "--rtol", 0.1, "--atol", 0.1)
    found = run_cli(*nll("one", *fixed, "--json")).json["mean_of"]
    assert (found["untold"], found["se"], found["low"]) == (["probe", "draws"], None, None)
    told = run_cli(*nll("one", *fixed)).out
    assert "by the choice of images; no interval: nothing tells what the probe of an image leaves" in told
    told = run_cli(*nll("one", *fixed, "--plan-for", 1e-4)).out
    assert "plan      ± 0.0001 takes more than a tenth of the set" in told


def test_a_mean_that_was_kept_without_saying_what_is_not_told_is_made_again(run_cli, nll):
    words = nll("one", "--limit", 8, "--mean-of", 10, "--batch-size", 16, "--out", "run", "--json")
    found = run_cli(*words).json["mean_of"]
    kept = json.loads(Path("run/summary.json").read_text())
    del kept["mean_of"]["untold"]
    kept["mean_of"]["se"] = 0.0
    Path("run/summary.json").write_text(json.dumps(kept))
    assert "mean_of" not in run_cli("runs", "show", "run", "--json").json
    assert run_cli(*words).json["mean_of"] == found


def test_a_plan_measures_the_pilot_and_says_how_many(run_cli, nll, monkeypatch):
    monkeypatch.setattr("merged_diffusion.jobs.plan.PILOT_RUNS", 10)
    words = nll("one", "--mean-of", "all", "--batch-size", 16, "--out", "run")
    found = run_cli(*words, "--plan-for", 0.002, "--json")
    assert found.code == 0, found.err
    planned = found.json["mean_of"]["planned"]
    assert (found.json["n"], planned["se"]) == (10, 0.002)
    assert 10 < planned["runs"] <= 360
    told = run_cli(*words, "--plan-for", 0.002).out
    assert (
        f"± 0.002 takes at most about {planned['runs']} exact runs out of 360: --limit {planned['runs']} goes"
        in told
    )
    assert "out of reach" in run_cli(*words, "--plan-for", 1e-9).out
    alone = run_cli("nll", "--data", "digits", "--limit", 1, "--mean-of", "all", "--plan-for", 0.01)
    assert (alone.code, "measures one" in alone.err) == (2, True)
    assert run_cli(*words, "--limit", 12).code == 0


def test_a_bound_that_tells_what_pixels_do_not_is_a_feature(run_cli, nll, monkeypatch):
    np.savez("greys.npz", images=GREYS, levels=17)
    words = ["nll", "--data", "greys.npz", *nll("one", "--limit", 32, "--mean-of", "all")[3:]]
    monkeypatch.setattr(
        set_means, "TIMES", 256
    )  # few say too little of this model, whose losses are all noise
    monkeypatch.setattr(set_means.SetMeans, "_calls_of", lambda *_: 10**6)
    found = run_cli(*words, "--json").json["mean_of"]
    assert found["features"] == ["bound"]
    assert found["bound_calls"] == 256 * 60
    assert found["correlation"] > 0.9
    assert "the bound took 15360 network calls" in run_cli(*words).out
    monkeypatch.setattr(set_means, "LEAST_CORRELATION", 1.0)
    left_out = run_cli(*words, "--json").json["mean_of"]["left_out"]
    assert "and is used above 1.0" in left_out["bound"]


def test_the_bound_of_a_set_is_measured_once_for_the_same_records(run_cli, nll, monkeypatch):
    np.savez("greys.npz", images=GREYS, levels=17)
    monkeypatch.setattr(set_means, "TIMES", 256)
    monkeypatch.setattr(set_means.SetMeans, "_calls_of", lambda *_: 10**6)
    words = ["nll", "--data", "greys.npz", *nll("one", "--limit", 32, "--mean-of", "all")[3:]]
    words += ["--batch-size", 16, "--out", "run", "--json"]
    first = run_cli(*words)
    monkeypatch.setattr(set_means, "variational_bound", None)
    again = run_cli(*words)
    assert again.code == 0, again.err
    assert again.json["mean_of"] == first.json["mean_of"]


def test_a_summary_that_holds_no_mean_leaves_the_run_as_it_is(run_cli, nll):
    words = nll("one", "--limit", 8, "--mean-of", "all", "--batch-size", 16, "--out", "run")
    assert run_cli(*words).code == 0
    kept = json.loads(Path("run/summary.json").read_text())
    for broken in ({"mean": "a"}, [1], "none"):
        Path("run/summary.json").write_text(json.dumps(kept | {"mean_of": broken}))
        shown = run_cli("runs", "show", "run")
        assert shown.code == 0, shown.err


def test_a_bound_that_takes_longer_than_it_tells_is_left_out(run_cli, nll, monkeypatch):
    np.savez("greys.npz", images=GREYS, levels=17)
    monkeypatch.setattr(set_means, "TIMES", 256)
    monkeypatch.setattr(set_means.SetMeans, "_calls_of", lambda *_: 1)
    words = ["nll", "--data", "greys.npz", *nll("one", "--limit", 32, "--mean-of", "all", "--json")[3:]]
    found = run_cli(*words).json["mean_of"]
    assert found["features"] == []
    assert "its 15360 network calls on the set tell less than more exact runs" in found["left_out"]["bound"]


def test_an_expert_of_coupled_noise_has_no_bound_and_a_mean(run_cli, tmp_path, nll):
    source = Path(nll("one")[4].partition(":")[0]).read_text()
    more = """
def coupled():
    expert = Normal("coupled")
    expert.is_coupled = True
    return expert
"""
    (tmp_path / "coupled.py").write_text(source + more)
    words = ("nll", "--data", "digits", "--expert", f"{tmp_path}/coupled.py:coupled", "--threads", 1)
    found = run_cli(*words, "--limit", 30, "--mean-of", 40, "--json")
    assert found.code == 0, found.err
    assert "trained with coupled noise and images" in found.json["mean_of"]["left_out"]["bound"]


def test_failed_images_leave_no_mean(run_cli, nll):
    found = run_cli(*nll("holed", "--limit", 16, "--mean-of", "all"))
    assert found.code == 5
    assert "mean of 360  none" in found.out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--limit", 8, "--mean-of", "all", "--compare"), "gone from their difference"),
        (("--ids", "0:8", "--mean-of", "all"), "no random choice"),
        (("--limit", 8, "--mean-of", "all", "--allow-failed"), "no random choice"),
        (("--limit", 8, "--mean-of", "all", "--dequantise", "none"), "is of bits/dim"),
        (("--mean-of", "all"), "without --limit"),
        (("--limit", 8, "--mean-of", 4), "cannot be chosen out of --mean-of 4"),
        (("--limit", 8, "--mean-of", 361), "more than the 360 images"),
        (("--limit", 8, "--mean-of", 1), "from 2 up"),
        (("--limit", 8, "--mean-of", "some"), "neither a number of images nor all"),
        (("--limit", 8, "--plan-for", 0.01), "belongs to --mean-of"),
        (("--mean-of", "all", "--plan-for", 0), "no standard error"),
        (("--mean-of", "all", "--plan-for", "nan"), "no standard error"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused(run_cli, pair, options, text):
    found = run_cli(*pair("--eta", 0.5, *options))
    assert found.code == 2
    assert text in found.err


def test_bound_and_sweep_have_no_such_mean():
    settings = md.Settings(data="digits", limit=8, mean_of=20)
    with pytest.raises(md.UsageError, match="the bound was asked for"):
        md.evaluate(settings, metric="vlb")
    with pytest.raises(md.UsageError, match="features do not help differences"):
        md.sweep(settings)
    assert md.evaluate(settings).mean_of.n_set == 20
