"""``nll --gate CARD``: which images, which other options, and which runs go on."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.pilot_runs import unseen
from merged_diffusion.soft_gate import digests

DIGITS = ("nll", "--data", "digits", "--threads", 1, "--json")


@pytest.fixture
def card(tmp_path):
    def write(name="gate.toml", **changed):
        path = tmp_path / name
        path.write_text(md.gate_toml(replace(md.Gate(-7.006, -3.0), **changed)), encoding="utf-8")
        return path

    return write


def test_the_pilot_asks_of_no_image_that_the_gate_has_seen(run_cli, card):
    data = md.load_data("digits")
    first = data.select(limit=1).ids  # what a pilot of one image measures
    seen = frozenset(digests(data.images[data.ids == first[0]]))
    ids = "0:2" if first[0] > 1 else "2:4"
    found = run_cli(*DIGITS, "--ids", ids, "--gate", card(seen=seen))
    assert found.code == 0, found.err
    assert found.json["quadrature"]["n"] == 1


def test_a_pilot_of_probes_asks_of_no_image_that_the_gate_has_seen(run_cli, card):
    images = md.load_data("digits").images
    np.savez("four.npz", images=images[:4], levels=17)
    words = ("nll", "--data", "four.npz", "--pair", "digits", "--ids", "0:1", "--threads", 1, "--json")
    few = ("--probes", "auto:0.5")
    found = run_cli(*words, *few, "--gate", card(seen=frozenset(digests(images[1:4]))))
    assert found.code == 0, found.err
    assert "on 1 images" in found.err


def test_a_pilot_without_an_image_says_so():
    data = md.load_data("digits").select(limit=3)
    gate = replace(md.Gate(-7.006, -3.0), seen=frozenset(digests(data.images)))
    with pytest.raises(UsageError, match="on all 3 images of digits"):
        unseen(SimpleNamespace(model=SimpleNamespace(gate=gate), whole=data))


def test_a_card_may_be_moved_and_another_gate_is_another_run(run_cli, card):
    words = (*DIGITS, "--out", "run", "--gate")
    assert run_cli(*words, card(), "--limit", 1).code == 0
    assert run_cli(*words, card("moved.toml"), "--limit", 2).code == 0
    other = run_cli(*words, card("other.toml", end=-2.5), "--limit", 3)
    assert other.code == 7
    assert len(md.load_scores("run").records) == 2


def test_a_gate_and_guidance_exclude_each_other(run_cli, card):
    words = ("--guidance", 1.5, "--guide", "bundled:digits-edm")
    found = run_cli(*DIGITS, "--limit", 1, "--gate", card(), *words)
    assert found.code == 2
    assert "excludes --guidance" in found.json["error"]["message"]


def test_noise_told_beside_a_companion_is_another_run(run_cli):
    words = (*DIGITS, "--probes", 4, "--out", "run")
    assert run_cli(*words, "--limit", 1).code == 0
    assert run_cli(*words, "--limit", 2, "--quad-check", "off").code == 0
    assert run_cli(*words, "--limit", 3, "--quad-check", "all").code == 7
    assert len(md.load_scores("run").records) == 2
    assert Path("run/settings.json").exists()


GUIDE = """
import torch

class Guide(torch.nn.Module):
    name, levels, image_shape, conditional, pixels = "guide", 17, (1, 8, 8), False, "centred"
    gamma_range = (-13.3, 9.0)

    def forward(self, z, gamma, cond=None):
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        return square.sqrt() * z / (0.49 * (1 - square) + square)

expert = Guide().eval()
"""


def test_another_guide_is_another_run(run_cli, tmp_path):
    path = tmp_path / "guide.py"
    words = (*DIGITS, "--out", "run", "--guidance", 1.2, "--guide", f"{path}:expert", "--limit")
    path.write_text(GUIDE)
    assert run_cli(*words, 1).code == 0
    path.write_text(GUIDE.replace("0.49", "0.36"))  # no weight differs
    assert run_cli(*words, 2).code == 7
