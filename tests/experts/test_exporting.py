"""Weights as a file of the public code: its names, its values, its outputs; and what cannot be one."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from merged_diffusion.cli import main
from merged_diffusion.errors import CheckpointError, StorageError
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.exporting import export_addtt

# The fields of addtt's TrainConfig (its utils.py): its code reads config.yaml as exactly these.
FIELDS = {
    "embedding_dim", "n_blocks", "n_attention_heads", "dropout_prob", "norm_groups", "input_channels",
    "use_fourier_features", "attention_everywhere", "batch_size", "noise_schedule", "gamma_min", "gamma_max",
    "antithetic_time_sampling", "lr", "weight_decay", "clip_grad_norm",
}  # fmt: skip


def own_folder(public, path, case="base", **changes):
    """The public weights of a case as a folder of this package's own format."""
    config = json.loads((public.folder(f"vdm/{case}") / "config.json").read_text())
    keys = ("embedding_dim", "n_blocks", "n_attention_heads", "dropout_prob", "norm_groups")
    network = {key: config[key] for key in (*keys, "attention_everywhere", "fourier_exponents")}
    card = public.vdm_card(network, config["resolution"])
    path.mkdir()
    save_file(load_file(public.folder(f"vdm/{case}") / "weights.safetensors"), path / "model.safetensors")
    (path / "card.toml").write_text(replace(card, precision="float32", licence="mine", **changes).toml())
    return path


@pytest.mark.parametrize("case", ["base", "attn", "like"])
def test_an_exported_file_has_the_public_names_values_and_outputs(public, tmp_path, case):
    source = own_folder(public, tmp_path / "own", case)
    export_addtt(source, tmp_path / "theirs" / "model.pt")
    assert sorted(p.name for p in (tmp_path / "theirs").iterdir()) == ["config.yaml", "model.pt"]
    held = torch.load(tmp_path / "theirs" / "model.pt", weights_only=True)
    published = load_file(public.folder(f"vdm/{case}") / "weights.safetensors")
    # What VDM's load_state_dict and EMA's, both strict, are given there.
    assert held["model"].keys() == published.keys()
    heads = [f"{part}.{key}" for part in ("online_model", "ema_model") for key in published]
    assert held["ema"].keys() == {"initted", "step", *heads}
    for key, value in published.items():
        for found in (
            held["model"][key],
            held["ema"][f"online_model.{key}"],
            held["ema"][f"ema_model.{key}"],
        ):
            assert torch.equal(found, value)
    config = yaml.safe_load((tmp_path / "theirs" / "config.yaml").read_text())
    assert config.keys() == FIELDS
    assert (config["noise_schedule"], config["gamma_min"], config["gamma_max"]) == (
        "fixed_linear",
        -13.3,
        5.0,
    )

    expert, d = load_expert(tmp_path / "theirs" / "model.pt"), public.vectors(f"vdm/{case}/network")
    for gamma, z, eps in zip(d["gamma"], d["z"], d["eps"], strict=True):
        at = torch.full((len(z),), float(gamma), dtype=torch.float64)
        found = expert(torch.from_numpy(z), at)
        # 1e-5 of the largest: features of slope 2 pi 2^6 turn the last bit of z into 2e-5 of an output of 1.
        scale = max(1.0, float(abs(eps).max()))
        torch.testing.assert_close(found, torch.from_numpy(eps), rtol=0, atol=1e-5 * scale)


def test_learned_ends_are_those_of_the_public_clock(public, tmp_path):
    source = own_folder(public, tmp_path / "own", gamma_range=(-12.1, 4.5))
    export_addtt(source, tmp_path / "model.pt")
    held = torch.load(tmp_path / "model.pt", weights_only=True)
    assert float(held["model"]["gamma.b"]) == pytest.approx(-12.1)
    assert float(held["ema"]["ema_model.gamma.w"]) == pytest.approx(16.6)
    expert = load_expert(tmp_path / "model.pt")
    assert expert.gamma_range == pytest.approx((-12.1, 4.5), abs=1e-5)
    # The network's own clock is what it was: the same numbers at the same gamma.
    z = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gamma = torch.tensor([-10.0, 3.0]).double()
    assert torch.equal(expert(z, gamma), load_expert(source)(z, gamma))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 17}, "levels = 17, which is 256 there"),
        ({"pixels": "ends"}, "pixels = 'ends'"),
        ({"predicts": "velocity"}, "predicts = 'velocity'"),
    ],
)
def test_what_the_public_code_does_not_compute_is_refused(public, tmp_path, changes, message):
    source = own_folder(public, tmp_path / "own", **changes)
    with pytest.raises(CheckpointError, match=message):
        export_addtt(source, tmp_path / "out" / "model.pt")
    assert not (tmp_path / "out").exists()


def test_other_experts_and_taken_names_are_refused(public, tmp_path):
    with pytest.raises(CheckpointError, match="no likelihood expert"):
        export_addtt("bundled:digits-edm", tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="architecture = 'small'"):
        export_addtt("bundled:photos-vdm", tmp_path / "model.pt")
    source = own_folder(public, tmp_path / "own")
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(StorageError, match=r"config\.yaml: is there"):
        export_addtt(source, tmp_path / "model.pt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "own"]


def test_the_command_says_what_it_wrote(public, tmp_path, capsys):
    source = own_folder(public, tmp_path / "own")
    words = ["experts", "export", str(source), "--as", "addtt", "--out", str(tmp_path / "new" / "model.pt")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["config"] == str(tmp_path / "new" / "config.yaml")
    assert told["licence"] == "mine"
    assert main(words) == 6
    assert "is there" in capsys.readouterr().err
