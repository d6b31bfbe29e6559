"""``--probes auto:E``: a pilot chooses into how many colours a probe is cut, or says why it cannot."""

import json
from pathlib import Path

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.jobs import probe_pilot
from merged_diffusion.jobs.probe_pilot import Noise, at_least
from merged_diffusion.reports.repeat import command_lines
from merged_diffusion.reports.results import read

DIGITS = ("nll", "--data", "digits", "--json")
FEW = ("nll", "--data", "few.npz", "--pair", "digits", "--json")  # a pilot of all three


@pytest.fixture
def few(run_cli):  # which goes to a folder of its own
    """Three digits, in a file."""
    np.savez("few.npz", images=md.load_data("digits").images[:3], levels=17)


def test_as_many_are_taken_as_the_wish_needs(run_cli):
    """Nine of ten of the first digits have 0.048 bits/dim with one probe, 0.014 with six."""
    chosen = {}
    for wish in (0.1, 0.015):
        found = run_cli(*DIGITS, "--limit", 12, "--probes", f"auto:{wish}", "--out", f"run-{wish}")
        assert found.code == 0, found.err
        asked = found.json["settings"]
        assert asked["probe_error"] == wish
        chosen[wish] = asked["probes"]
        errors = md.load_scores(f"run-{wish}").se_probe
        assert np.mean(errors <= wish) >= 0.75
        assert f"probes auto:{wish}: {asked['probes']}, each a product of its own" in found.err
        assert "images); the noise of the dequantisation is not in that" in found.err
    assert chosen[0.1] == 1
    assert 4 <= chosen[0.015] <= 9


@pytest.mark.usefixtures("few")
def test_a_run_goes_on_with_what_it_recorded_whatever_is_measured_first(run_cli, monkeypatch):
    first = run_cli(*FEW, "--limit", 1, "--probes", "auto:0.015", "--out", "run")
    assert first.code == 0, first.err
    monkeypatch.setattr(probe_pilot, "_measured", None)
    more = run_cli(*FEW, "--limit", 2, "--probes", "auto:0.015", "--out", "run")
    assert more.code == 0, more.err
    assert more.json["settings"]["probes"] == first.json["settings"]["probes"] > 1
    assert more.json["n"] == 2
    assert run_cli(*FEW, "--limit", 2, "--probes", "auto:0.02", "--out", "run").code != 0


@pytest.mark.usefixtures("few")
def test_shards_of_a_set_of_few_images_choose_alike(run_cli):
    chosen = [
        run_cli(*FEW, "--limit", 2, "--shard", f"{i}/2", "--probes", "auto:0.015", "--out", f"shard-{i}")
        for i in range(2)
    ]
    one, two = (each.json["settings"]["probes"] for each in chosen)
    assert one == two > 1
    assert "on 3 images" in chosen[0].err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--probes", "auto:0"], "auto:0 is no error"),
        (["--probes", "auto:nan"], "auto:nan is no error"),
        (["--probes", "auto"], "neither a number nor auto:E"),
        (["--probes", "four"], "neither a number nor auto:E"),
        (["--probes", "auto:0.01", "--method", "dopri5"], "the probe is fixed"),
        (["--probes", "auto:0.01", "--probe", "exact"], "the probe is exact"),
        (["--probes", "auto:0.01", "--probe", "independent"], "the probe is independent"),
    ],
)
def test_what_cannot_be_chosen_is_refused(run_cli, options, text):
    result = run_cli("nll", "--data", "digits", "--limit", 2, *options)
    assert result.code == 2
    assert text in result.err


def test_more_than_64_colours_are_refused(run_cli):
    np.savez("few.npz", images=md.load_data("photos").images[:2], levels=256)
    result = run_cli("nll", "--data", "few.npz", "--pair", "photos", "--probes", "auto:1e-5", "--dry-run")
    assert result.code == 2
    assert "needs more than 64 colours" in result.err


@pytest.mark.parametrize("command", ["sweep", "threshold"])
def test_other_commands_take_a_number(run_cli, command):
    result = run_cli(command, "--data", "digits", "--probes", "auto:0.01", "--out", "other")
    assert result.code == 2
    assert "say how many" in result.err


def test_noise_falls_as_a_power_of_the_colours():
    noise = Noise(0.04, 0.04 / 9**0.8, 9)
    assert noise.colours_for(0.05) == 1
    assert noise.of(4) == pytest.approx(0.04 / 4**0.8)
    assert noise.of(noise.colours_for(0.001)) == pytest.approx(0.001)
    assert Noise(0.04, 0.04, 9).colours_for(0.01) == float("inf")
    assert Noise(0.04, 0.04, 1).colours_for(0.01) == float("inf")
    assert Noise(0.0, 0.0, 9).colours_for(0.01) == 1
    assert Noise(0.04, 0.0, 9).colours_for(0.01) == 9  # one leaves more than that


def test_an_error_that_is_told_to_ask_for_is_no_less():
    for error in (0.00123, 0.0012, 9.99e-4, 0.5, 1.35e-5):
        assert error <= float(at_least(error)) <= 1.1 * error


DENSE = """
import torch
import merged_diffusion as md

mix = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / DIM**0.5
cov = mix @ mix.T + 0.02 * torch.eye(DIM, dtype=torch.float64)
expert = md.GaussianExpert((1, 2, DIM // 2), covariance=cov, levels=256)
"""


@pytest.mark.parametrize("dim", [8, 20])
def test_images_of_few_values_get_the_exact_trace_where_colours_leave_too_much(run_cli, dim):
    Path("dense.py").write_text(DENSE.replace("DIM", str(dim)))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 2, dim // 2)).astype(np.uint8)
    np.savez("own.npz", images=images, levels=256)
    words = ("nll", "--data", "own.npz", "--expert", "dense.py:expert", "--json", "--limit", 2)
    one = run_cli(*words)
    assert one.json["bits_per_dim"]["se_probe"] > 1e-3
    found = run_cli(*words, "--probes", "auto:1e-6", "--out", "run")
    assert found.code == 0, found.err
    assert found.json["settings"]["probes"] == dim
    assert "are the exact trace" in found.err
    assert (md.load_scores("run").se_probe == 0).all()


@pytest.mark.parametrize(
    ("mark", "option", "value"),
    [("shared_probes", "--importance", 2), ("own_log_q", "--dequantise", "decoder")],
)
def test_a_run_whose_draws_were_others_is_not_gone_on_with(run_cli, mark, option, value):
    words = (*DIGITS, option, value, "--out", "run")
    assert run_cli(*words, "--limit", 1).code == 0
    place = Path("run/settings.json")
    kept = json.loads(place.read_text())
    again = " ".join(command_lines(read(Path("run"))))
    assert f"{option} {value}" in again
    assert mark.replace("_", "-") not in again
    assert kept["settings"].pop(mark) is True
    place.write_text(json.dumps(kept))
    assert run_cli(*words, "--limit", 2).code == 7
