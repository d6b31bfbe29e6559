"""A wrong declaration on the command line: warned of before anything is scored, and in the summary."""

import numpy as np
import pytest

from merged_diffusion.data import load_data

FILE = """
import torch
import merged_diffusion as md

net = md.load_expert("bundled:photos-vdm").requires_grad_(False)


def declared(net, name):
    return md.CallableExpert(
        net, predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
        gamma_range=(-13.3, 5.0), image_shape=(3, 8, 8), name=name,
    )


def narrow():
    return md.GaussianExpert((3, 8, 8), variance=1e-3, gamma_range=(-13.3, 5.0), name="narrow")


def v():
    return md.CallableExpert(
        net, predicts="v", time="gamma", input="vp", pixels="centred", levels=256,
        gamma_range=(-13.3, 5.0), image_shape=(3, 8, 8), name="wrong",
    )


def half():
    def forward(z, gamma):
        with torch.no_grad():
            first = net(z, gamma)
        return 0.5 * first + 0.5 * net(z, gamma)

    return declared(forward, "half")
"""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "wrong_words.py").write_text(FILE)
    return lambda name: f"{tmp_path / 'wrong_words.py'}:{name}"


def test_a_result_above_a_uniform_guess_is_a_warning_in_the_summary(run_cli, source):
    words = ("nll", "--data", "photos", "--limit", 2, "--expert", source("narrow"))
    found = run_cli(*words, "--json")
    assert found.code == 0, found.err
    assert found.json["bits_per_dim"]["mean"] > 8
    assert found.json["above_uniform"] is True
    assert "narrow does not denoise these images" in found.err
    assert "guessing every grey level alike" in run_cli(*words).out


def test_a_sound_result_is_none(run_cli):
    found = run_cli("nll", "--data", "photos", "--limit", 2, "--expert", "bundled:photos-vdm", "--json")
    assert found.json["above_uniform"] is False
    assert "warning" not in found.err


def test_an_accepted_gradient_is_warned_of_once_and_recorded(run_cli, source):
    words = ("nll", "--data", "photos", "--limit", 2, "--expert", source("half"))
    refused = run_cli(*words)
    assert refused.code == 4
    assert "--accept-gradient half" in refused.err
    other = run_cli(*words, "--accept-gradient", "another")
    assert other.code == 4
    found = run_cli(*words, "--accept-gradient", "half", "--out", "kept", "--json")
    assert found.code == 0, found.err
    assert found.err.count("part of its gradient missing") == 1
    assert found.json["settings"]["accept_gradient"] == "half"
    assert run_cli(*words, "--accept-gradient", "half", "--out", "kept", "--json").code == 0


def test_a_plan_says_what_it_costs_once(run_cli):
    words = ("nll", "--data", "photos", "--limit", 2, "--dry-run", "--device", "cpu")
    found = run_cli(*words)
    assert (found.out + found.err).count("estimate:") == 1
    assert "estimate:" in run_cli(*words, "--json").err


@pytest.mark.parametrize(
    "words",
    [
        ("nll", "--expert", "v"),
        ("nll", "--expert", "v", "--out", "kept"),
        ("nll", "--likelihood-expert", "v", "--compare"),
        ("nll", "--likelihood-expert", "v", "--eta", "auto", "--tune-data", "tune.npz"),
        ("vlb", "--likelihood-expert", "v", "--compare"),
        ("sweep", "--likelihood-expert", "v", "--etas", "0.3,1"),
        ("threshold", "--likelihood-expert", "v", "--tune-limit", 4, "--no-confirm"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_everything_is_said_once_in_a_command_and_ends_with_the_line_to_paste(run_cli, source, words):
    command, role, name, *more = words
    np.savez("tune.npz", images=load_data("photos", split="train").images[:6])
    found = run_cli(command, "--data", "photos", "--limit", 2, role, source(name), "--threads", 1, *more)
    assert found.code == 0, found.err
    said = found.out + found.err
    assert len(said.splitlines()) == len(set(said.splitlines()))
    counted = {"running the code": 1, "does not denoise": 1, "cuda is not usable": None, "estimate:": None}
    for text, count in counted.items():
        assert said.count(text) == count if count else said.count(text) <= 1
    assert said.count("guessing every grey level alike") <= 1
    (line,) = [line for line in found.err.splitlines() if "does not denoise" in line]
    assert line.endswith('; write CallableExpert(net, predicts="eps", ...)')


def test_two_experts_of_one_name_are_warned_of_singly(run_cli, tmp_path):
    path = tmp_path / "same.py"
    path.write_text(
        FILE + "\n\ndef once(): return declared(lambda z, gamma: net(z, gamma) * 0 + 1, 'same')\n"
        "def thrice(): return declared(lambda z, gamma: net(z, gamma) * 0 + 3, 'same')\n"
    )
    both = ("--likelihood-expert", f"{path}:once", "--quality-expert", f"{path}:thrice", "--eta", 0.4)
    found = run_cli("vlb", "--data", "photos", "--limit", 2, "--threads", 1, *both)
    assert found.code == 0, found.err
    assert found.err.count("expert same does not denoise") == 2
