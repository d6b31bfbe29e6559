"""``--probes`` and ``--probe``: what a run records, and that older runs go on as they were begun."""

import json
from dataclasses import replace

import numpy as np

from merged_diffusion.jobs.evaluate import evaluate
from merged_diffusion.jobs.plan import place
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode.methods import Probes

COMMAND = ("nll", "--data", "digits", "--limit", "2", "--probes", "4", "--batch-size", "2")


def settings(folder):
    return json.loads((folder / "settings.json").read_text())["settings"]


def test_several_probes_are_colours_of_one_and_the_run_says_so(run_cli, tmp_path):
    assert run_cli(*COMMAND, "--out", "run").code == 0
    kept = settings(tmp_path / "run")
    assert (kept["probe"], kept["probes"], kept["scheme"]) == ("fresh", 4, "lattice")
    assert run_cli(*COMMAND, "--probe", "independent", "--out", "averaged").code == 0
    kept = settings(tmp_path / "averaged")
    assert (kept["probe"], kept["probes"]) == ("fresh", 4)
    assert "scheme" not in kept
    assert run_cli(*COMMAND, "--probe", "independent", "--out", "run").code == 7


def test_a_run_without_the_word_goes_on_with_independent_probes(run_cli, tmp_path):
    independent = run_cli(*COMMAND, "--probe", "independent", "--out", "old", "--json").json
    more = ("--limit", "3")
    gone_on = run_cli(*COMMAND, *more, "--out", "old", "--json")
    assert gone_on.code == 0, gone_on.err
    whole = run_cli(*COMMAND, *more, "--probe", "independent", "--out", "new", "--json").json
    assert gone_on.json["bits_per_dim"] == whole["bits_per_dim"]
    assert independent["n"] == 2


def test_a_sweep_without_the_word_goes_on_with_independent_probes(run_cli):
    sweep = ("sweep", *COMMAND[1:], "--etas", "0.1,0.3")
    assert run_cli(*sweep, "--probe", "independent", "--out", "old").code == 0
    again = run_cli(*sweep, "--out", "old")
    assert again.code == 0, again.err


def test_a_run_in_its_default_place_is_found_again(tmp_path, monkeypatch):
    """That of an older version, whose settings have not the word."""
    monkeypatch.chdir(tmp_path)
    asked = Settings.of({"data": "digits", "limit": 2, "probes": 4, "batch_size": 2})
    plan, _ = place(asked.averaging(), None)
    assert plan.default_out() != place(asked, None)[0].default_out()
    evaluate(asked.averaging(), out=plan.default_out())
    found, out = place(asked, None)
    assert out == plan.default_out()
    assert found.settings.probes == Probes(4, scheme="independent")
    # Where it was said, it counts.
    assert place(replace(asked, probes=Probes(4, scheme="lattice")), None)[1] is None


def test_the_command_that_repeats_a_run_names_independent_probes(run_cli, tmp_path):
    run_cli(*COMMAND, "--probe", "independent", "--out", "averaged")
    run_cli(*COMMAND, "--out", "cut")
    for folder, is_said in (("averaged", True), ("cut", False)):
        page = tmp_path / f"{folder}.html"
        assert run_cli("runs", "report", folder, "--out", page.name).code == 0
        text = page.read_text()
        assert ("--probe independent" in text) == is_said
        assert "--probes 4" in text
        assert "--scheme" not in text


def test_colours_tell_a_smaller_error(run_cli):
    found = {
        many: run_cli("nll", "--data", "digits", "--limit", "16", "--probes", many, "--json").json
        for many in ("1", "4")
    }
    ratio = np.divide(*(found[many]["bits_per_dim"]["se_probe"] for many in ("1", "4")))
    assert 2.0 < ratio < 4.5  # three by the variances of whole paths (`docs/results.md`)
