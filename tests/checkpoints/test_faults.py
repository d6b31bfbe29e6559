"""Section 2 of the table of faults: a test for each row, which bears its name.

Those of the pair's wiring (the same file twice, arguments swapped, a known release with another hash, the
licence) stand in tests/cli/test_public.py, with the commands that meet them.
"""

import logging
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.checkpoints import writers
from tests.faults.pickles import imported, text
from tests.faults.safetensors_headers import A, B, file
from tests.faults.states import CARD, edm_reference, vdm_reference

from merged_diffusion.cli import main
from merged_diffusion.errors import (
    CheckpointError,
    ExpertError,
    UnsafeFileError,
    UnsupportedCheckpointError,
    UsageError,
)
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.files.weights import MAX_HEADER_BYTES, N_SHOWN
from merged_diffusion.merge import MergedModel, Threshold


def own(folder, tensors=None, card=CARD):
    """An expert in the package's own format."""
    folder.mkdir()
    (folder / "card.toml").write_text(card)
    save_file(vdm_reference()[1] if tensors is None else tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (imported("os", "system") + text("true") + b"\x85R.", r"the global os\.system at offset 14"),
        (b"\x82\x01.", "the opcode EXT1 at offset 2"),
        (b"(ios\nsystem\n.", "the opcode INST at offset 3"),
        (b"]" * 200_000 + b".", "values on the stack at offset"),
        (b"N" + b"\x94" * 500_000 + b".", "opcodes and items at offset"),
    ],
    ids=["global", "extension opcode", "instance", "deep nesting", "memo expansion"],
)
def test_malicious_pickle(tmp_path, capsys, content, what):
    path = tmp_path / "network.pkl"
    path.write_bytes(b"\x80\x04" + content)
    with pytest.raises(UnsafeFileError, match=what) as caught:
        load_expert(path)
    assert "nothing was executed" in str(caught.value)
    assert isinstance(caught.value.fields["offset"], int)
    assert main(["nll", "--data", "digits", "--expert", str(path)]) == 4
    assert "nothing was executed" in capsys.readouterr().err


def test_malicious_pickle_of_declared_sizes_and_object_arrays(tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".")
    with pytest.raises(CheckpointError, match=f"{1 << 60} bytes declared where 1 are left"):
        load_expert(path)
    path.write_bytes(b"\x80\x04" + imported("numpy.core.multiarray", "_reconstruct") + b".")
    with pytest.raises(UnsafeFileError, match=r"numpy\.core\.multiarray\._reconstruct"):
        load_expert(path)


def test_pickle_that_is_honest_but_unknown(tmp_path):
    config, tensors = edm_reference()
    with pytest.raises(UnsupportedCheckpointError, match="the network is NewUNet, known: SongUNet") as caught:
        load_expert(writers.write_edm(tmp_path / "a.pkl", config | {"model_type": "NewUNet"}, tensors))
    assert "CallableExpert" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "error", "what"),
    [
        (file({"a": A, "b": B})[:-4], CheckpointError, "do not fit"),
        (file({"a": A, "b": {**B, "data_offsets": [4, 8]}}), CheckpointError, "overlap"),
        (file(b" " * (MAX_HEADER_BYTES + 1)), UnsafeFileError, "exceeds the limit"),
    ],
    ids=["truncated", "overlapping offsets", "header over the cap"],
)
def test_truncated_safetensors(tmp_path, content, error, what):
    folder = own(tmp_path / "expert")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(error, match=what):
        load_expert(folder)


def test_missing_keys_extra_keys_wrong_shapes(tmp_path):
    tensors = vdm_reference()[1]
    missing = [key for key in tensors if key.startswith("model.down_blocks.0")]
    state = {key: value for key, value in tensors.items() if key not in missing}
    state["model.conv_in.bias"] = state["model.conv_in.bias"][:-1].clone()
    state |= {f"model.new.{i}": torch.zeros(1) for i in range(N_SHOWN)}
    with pytest.raises(CheckpointError, match=f"; and {len(missing) + 1} more") as caught:
        load_expert(own(tmp_path / "expert", state))
    listed = caught.value.fields["differences"]
    assert len(listed) == len(missing) + N_SHOWN + 1
    assert {f"{key} is missing" for key in missing} < set(listed)
    assert "model.new.3 is not of this network" in listed
    assert any(row.startswith("model.conv_in.bias has shape") for row in listed)


def test_missing_keys_with_ema_against_raw_weights(tmp_path):
    path = writers.write_addtt(tmp_path / "run", *vdm_reference())
    torch.save({"step": 1, "model": vdm_reference()[1]}, path)
    with pytest.raises(UnsupportedCheckpointError, match="no state of an EMA") as caught:
        load_expert(path)
    assert "raw weights are never evaluated by accident" in caught.value.hint


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_or_inf_in_weights(tmp_path, value):
    tensors = vdm_reference()[1]
    tensors["model.conv_in.bias"][3] = value
    with pytest.raises(CheckpointError, match=r"model\.conv_in\.bias"):
        load_expert(own(tmp_path / "expert", tensors))


def test_wrong_precision_in_file_fp16(tmp_path, caplog):
    half = {key: value.half() for key, value in edm_reference()[1].items()}
    with caplog.at_level(logging.WARNING):
        expert = load_expert(writers.write_edm(tmp_path / "a.pkl", edm_reference()[0], half))
    assert "float16" in caplog.text
    assert expert.provenance["precision"] == "float16"


def test_class_conditional_model_used_without_labels(tmp_path, capsys):
    path = writers.write_edm(tmp_path / "cond.pkl", *edm_reference("cond"))
    np.save(tmp_path / "images.npy", np.zeros((2, *load_expert(path).image_shape), np.uint8))
    command = ["nll", "--data", str(tmp_path / "images.npy"), "--levels", "256", "--expert", str(path)]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert f"expert {path} is class-conditional" in message
    assert "--labels from-data" in message


def gaussian(shape=(1, 8, 8), ends=(-8.0, 5.0), levels=256, name="g"):
    return GaussianExpert(shape, variance=0.5, gamma_range=ends, levels=levels, name=name)


@pytest.mark.parametrize("other", [(1, 16, 16), (3, 8, 8)], ids=["size", "channels"])
def test_experts_with_different_image_size_or_channels(other):
    with pytest.raises(ExpertError, match="they cannot be merged"):
        MergedModel(gaussian(), gaussian(other, (-7.0, 8.0)), Threshold.gamma(0.0))


def test_parametrisation_unknown_for_a_callable():
    facts = {
        "time": "gamma", "input": "vp", "pixels": "centred", "levels": 256,
        "gamma_range": (-8.0, 8.0), "image_shape": (1, 8, 8),
    }  # fmt: skip
    with pytest.raises((ExpertError, UsageError), match="eps"):
        CallableExpert(lambda z, _: z, predicts="noise", **facts)
    with pytest.raises(TypeError, match="predicts"):
        CallableExpert(lambda z, _: z, **facts)


def test_data_convention_not_declared():
    facts = {
        "time": "gamma",
        "input": "vp",
        "levels": 256,
        "gamma_range": (-8.0, 8.0),
        "image_shape": (1, 8, 8),
    }
    with pytest.raises(TypeError, match="pixels"):
        CallableExpert(lambda z, _: z, predicts="eps", **facts)
