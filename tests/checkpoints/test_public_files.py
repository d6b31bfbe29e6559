"""Honest files in every public format: recognised by content, loaded as the networks that they hold."""

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.checkpoints import writers

from merged_diffusion.errors import CheckpointError, UnsafeFileError, UnsupportedCheckpointError
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.cards import bundled_folder, load_expert
from merged_diffusion.experts.checkpoints.recognise import contents, recognise

REFERENCE = Path(__file__).parents[1] / "reference"
EDM, VDM = ("uncond", "aug9", "cond"), ("base", "attn", "like")


def reference(kind, name):
    folder = REFERENCE / kind / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


def edm_file(tmp_path, name="uncond", **options):
    return writers.write_edm(tmp_path / "network.pkl", *reference("edm", name), **options)


def eps_hat(expert, seed=0, size=8, cond=None):
    z = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return expert(z, torch.tensor([-8.0, -1.0, 4.0]), cond)


# ---- EDM


@pytest.mark.parametrize("name", EDM)
def test_edm_snapshot_is_the_network_of_the_reference(tmp_path, name):
    expert = load_expert(edm_file(tmp_path, name))
    config, tensors = reference("edm", name)
    assert expert.state_dict().keys() == tensors.keys()
    assert all(torch.equal(expert.state_dict()[key], value) for key, value in tensors.items())
    assert (expert.kind, expert.pixels, expert.levels) == ("edm", "ends", 256)
    assert expert.gamma_range == (-12.43, 8.764)
    assert expert.conditional == (config["label_dim"] > 0)
    found = np.load(REFERENCE / "edm" / name / "denoise.npz")
    sigma = torch.from_numpy(found["sigma_vec"]).double()
    gamma = 2 * sigma.log()
    alpha = 1 / (1 + sigma**2).sqrt()
    y = torch.from_numpy(found["x_vec"])
    cond = torch.from_numpy(found["class_ids"]).long() if expert.conditional else None
    with torch.no_grad():
        eps = expert((y * alpha.float().view(-1, 1, 1, 1)), gamma, cond)
    denoised = y.double() - sigma.view(-1, 1, 1, 1) * eps.double()
    # eps = (y - D)/sigma: what D is known to, times what the noise multiplies.
    np.testing.assert_allclose(denoised, found["D_vec"], atol=2e-4)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("ordered", "old_numpy"), [(False, False), (True, True)])
def test_edm_snapshot_in_every_protocol(tmp_path, protocol, ordered, old_numpy):
    path = edm_file(tmp_path, protocol=protocol, ordered=ordered, old_numpy=old_numpy)
    expert = load_expert(path)
    assert torch.equal(eps_hat(expert), eps_hat(load_expert(edm_file(tmp_path))))


def test_edm_network_without_arguments_has_those_of_its_preconditioning(tmp_path):
    config, tensors = reference("edm", "cond")
    ema = writers.edm_object(config, tensors)
    ema._init_kwargs = {key: value for key, value in config.items() if key != "precond"}
    ema.model._init_kwargs = {}
    with writers.edm_modules():
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"ema": ema}))
    expert, cond = load_expert(tmp_path / "a.pkl"), torch.tensor([0, 3, 9])
    expected = load_expert(edm_file(tmp_path, "cond"))
    assert torch.equal(eps_hat(expert, cond=cond), eps_hat(expected, cond=cond))


def test_edm_snapshot_states_where_it_is_from(tmp_path, caplog):
    expert = load_expert(edm_file(tmp_path))
    assert expert.provenance["format"] == "edm-pickle"
    assert len(expert.provenance["sha256"]) == 64
    assert not caplog.records


@pytest.mark.parametrize(
    ("other", "message"),
    [({"model_type": "AnyUNet"}, "network is AnyUNet"), ({"decoder_type": "skip"}, "decoder_type = 'skip'")],
)
def test_another_network_of_edm_is_named_and_refused(tmp_path, other, message):
    config, tensors = reference("edm", "uncond")
    with pytest.raises(UnsupportedCheckpointError, match=message):
        load_expert(writers.write_edm(tmp_path / "a.pkl", config | other, tensors))


@pytest.mark.parametrize("other", [{"model_type": "DhariwalUNet"}, {"embedding_type": "fourier"}])
def test_tensors_of_another_network_than_a_snapshot_says_are_refused(tmp_path, other):
    config, tensors = reference("edm", "uncond")
    with pytest.raises(CheckpointError, match="missing"):
        load_expert(writers.write_edm(tmp_path / "a.pkl", config | other, tensors))


def test_another_preconditioning_is_named_and_refused(tmp_path):
    config, tensors = reference("edm", "uncond")
    ema = writers.edm_object(config, tensors)
    ema._kind = "OtherPrecond"
    with writers.edm_modules():
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"ema": ema}))
    with pytest.raises(UnsupportedCheckpointError, match="preconditioning is OtherPrecond"):
        load_expert(tmp_path / "a.pkl")


def test_snapshot_of_half_precision_is_accepted_with_a_warning(tmp_path, caplog):
    config, tensors = reference("edm", "uncond")
    half = {key: value.half() for key, value in tensors.items()}
    expert = load_expert(writers.write_edm(tmp_path / "a.pkl", config, half))
    assert "float16" in caplog.text
    assert expert.provenance["precision"] == "float16"
    assert expert.state_dict()["model.map_layer0.weight"].dtype == torch.float32


@pytest.mark.parametrize("fault", ["missing", "extra", "transposed", "nan"])
def test_tensors_that_do_not_fit_are_listed(tmp_path, fault):
    config, tensors = reference("edm", "uncond")
    key = "model.map_layer1.weight"
    if fault == "missing":
        del tensors[key]
    elif fault == "extra":
        tensors["model.map_layer2.weight"] = torch.zeros(2)
        key = "model.map_layer2.weight"
    elif fault == "transposed":
        key = "model.map_layer0.weight"
        tensors[key] = tensors[key].t().contiguous()
    else:
        tensors[key] = tensors[key].clone().fill_(float("nan"))
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        load_expert(writers.write_edm(tmp_path / "a.pkl", config, tensors))


# ---- addtt


@pytest.mark.parametrize("name", VDM)
@pytest.mark.parametrize("new_ema", [False, True])
def test_addtt_model_is_the_ema_of_the_reference(tmp_path, name, new_ema):
    config, tensors = reference("vdm", name)
    expert = load_expert(writers.write_addtt(tmp_path / name, config, tensors, new_ema=new_ema))
    assert all(torch.equal(expert.state_dict()[key], value) for key, value in tensors.items())
    assert (expert.kind, expert.pixels, expert.levels, expert.name) == ("vdm", "centred", 256, name)
    assert expert.gamma_range == (config["gamma_min"], config["gamma_max"])
    found = np.load(REFERENCE / "vdm" / name / "network.npz")
    with torch.no_grad():
        eps = expert(torch.from_numpy(found["z_vec"]), torch.from_numpy(found["gamma_vec"]).double())
    np.testing.assert_allclose(eps, found["eps_vec"], atol=5e-5)


def test_addtt_folder_is_as_good_as_its_file(tmp_path):
    file = writers.write_addtt(tmp_path / "run", *reference("vdm", "base"))
    assert torch.equal(eps_hat(load_expert(file)), eps_hat(load_expert(file.parent)))


def test_attributes_of_a_state_dict_are_the_versions_of_its_modules_and_no_others(tmp_path):
    """``Module.state_dict()`` pickles them behind the items, as a state."""
    config, tensors = reference("vdm", "base")
    file = writers.write_addtt(tmp_path / "a", config, tensors)
    load_expert(file)
    state = writers.addtt_state(config, tensors)
    state["ema"].other = {}
    torch.save(state, file)
    with pytest.raises(UnsafeFileError, match="a state for a dict"):
        load_expert(file)


@pytest.mark.parametrize("wrapped", ["module.{}", "{}", "ema_model.module.{}", "ema_model._orig_mod.{}"])
def test_names_of_a_wrapped_network_are_read_without_the_wrapper(tmp_path, wrapped, caplog):
    config, tensors = reference("vdm", "base")
    file = writers.write_addtt(tmp_path / "a", config, tensors)
    expected = eps_hat(load_expert(file))
    state = writers.addtt_state(config, tensors)
    state["ema"] = {
        wrapped.format(key.removeprefix("ema_model.") if "ema_model" in wrapped else key)
        if key.startswith("ema_model.")
        else key: value
        for key, value in state["ema"].items()
    }
    torch.save(state, file)
    caplog.clear()
    assert torch.equal(eps_hat(load_expert(file)), expected)
    assert ("parts of a wrapper" in caplog.text) == (wrapped != "{}")


def test_learned_ends_of_gamma_do_not_touch_the_networks_clock(tmp_path):
    fixed = load_expert(writers.write_addtt(tmp_path / "a", *reference("vdm", "base")))
    file = writers.write_addtt(tmp_path / "b", *reference("vdm", "base"), schedule=(-12.0, -16.0))
    learned = load_expert(file)
    assert learned.gamma_range == (-12.0, 4.0)
    assert torch.equal(eps_hat(fixed), eps_hat(learned))


def test_ema_that_has_not_begun_is_told(tmp_path, caplog):
    load_expert(writers.write_addtt(tmp_path / "a", *reference("vdm", "base"), initted=False))
    assert "EMA has not begun" in caplog.text


def test_raw_weights_are_not_taken_for_the_ema(tmp_path):
    config, tensors = reference("vdm", "base")
    file = writers.write_addtt(tmp_path / "a", config, tensors)
    torch.save({"step": 1, "model": tensors}, file)
    with pytest.raises(UnsupportedCheckpointError, match="no state of an EMA"):
        load_expert(file)


@pytest.mark.parametrize(
    ("value", "said", "hint"),
    [
        (
            {"model_state_dict": {"down_blocks.0.resnets.0.conv1.weight": 0}, "epoch": 3},
            "diffusers' U-Net",
            "FOLDER",
        ),
        ({"input_blocks.0.0.weight": 0, "time_embed.0.weight": 0}, "OpenAI's U-Net", "--as openai:"),
        (
            {"ema_model": {"module.input_blocks.0.0.weight": 0}, "net_model": {}},
            "OpenAI's U-Net",
            "--as torchcfm:",
        ),
        ({"ema": {"map_layer0.weight": 0}}, "EDM's network", "network-snapshot"),
        ({"ema": {"layer.weight": 0}}, "a file of torch.save, of no known family", "CallableExpert"),
        ([1, 2], "a file of torch.save, of no known family: it holds a list", "CallableExpert"),
    ],
)
def test_file_of_torch_is_called_what_its_names_say(tmp_path, value, said, hint):
    """Not addtt's without its config.yaml, whose lack would be to blame."""
    torch.save(filled(value), tmp_path / "model.pt")
    for source in (tmp_path, tmp_path / "model.pt"):
        with pytest.raises(CheckpointError, match=said) as caught:
            load_expert(source)
        assert hint in caught.value.hint
        assert "config.yaml" not in str(caught.value)


def filled(value):
    """With a tensor for each zero."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    return torch.zeros(1) if value == 0 else value


def test_zips_that_are_no_file_of_torch_are_called_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(UnsupportedCheckpointError, match=r"arrays of numpy \(npz\), no checkpoint"):
        load_expert(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("net/unet/config.json", "{}")
    with pytest.raises(UnsupportedCheckpointError, match="a packed folder, no checkpoint"):
        load_expert(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        for name in ("c/data.pkl", "c/code/__torch__.py", "c/constants.pkl"):
            archive.writestr(name, b"")
    with pytest.raises(UnsupportedCheckpointError, match="TorchScript, a program"):
        load_expert(tmp_path / "c.pt")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 143000000\n"


@pytest.mark.parametrize(
    "name", ["a.pkl", "a.pt", "run/model.pt", "own/model.safetensors", "vdm/ckpt-7.flax", "a.unheard"]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [(POINTER, "Git LFS"), (b"<html>\nSign in", "a page of a web server"), (b"", "empty")],
)
def test_file_that_stands_for_another_is_called_that(tmp_path, name, content, said):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if path.parent.name == "own":
        card = read_card(bundled_folder("digits-vdm") / "card.toml")
        (path.parent / "card.toml").write_text(card.toml())
    for source in {path, path if path.parent == tmp_path else path.parent}:
        with pytest.raises(CheckpointError, match=said) as caught:
            load_expert(source)
        assert caught.value.hint


def test_addtt_without_its_configuration(tmp_path):
    file = writers.write_addtt(tmp_path / "a", *reference("vdm", "base"))
    (file.parent / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"config\.yaml: no such file"):
        load_expert(file)


# ---- flax


@pytest.mark.parametrize("gamma", [(-13.2, 18.5), None])
def test_flax_checkpoint_is_its_network_with_googles_options(tmp_path, gamma):
    _, tensors = reference("vdm", "base")
    folder = writers.write_flax(tmp_path / "google", tensors, gamma)
    expert = load_expert(folder)
    ends = (-13.3, 5.0) if gamma is None else tuple(np.float32(gamma).astype(float).cumsum())
    assert expert.gamma_range == pytest.approx(ends, abs=1e-6)
    options = {"fourier_exponents": [6, 7], "fourier_order": "channel", "norm_eps": 1e-6}
    card = contents(recognise(folder)).card
    expected = replace(card, network=card.network | options | {"time_range": [-13.3, 5.0]}).expert()
    # The groups of the network are not in a flax file: Google's are 32.
    assert expected.state_dict().keys() == tensors.keys()
    assert all(torch.equal(expert.state_dict()[key], value) for key, value in tensors.items())


def test_flax_file_by_itself_and_the_folder_of_several(tmp_path):
    _, tensors = reference("vdm", "base")
    folder = writers.write_flax(tmp_path / "google", tensors)
    (folder / "ckpt-9.flax").write_bytes(b"\x84")
    named = load_expert(folder / "ckpt-7.flax")
    assert torch.equal(named.state_dict()["model.conv_in.weight"], tensors["model.conv_in.weight"])
    load_expert(folder)
    (folder / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match="holds 2 checkpoints"):
        load_expert(folder)


def test_place_of_i_dode_says_that_it_predicts_the_velocity(tmp_path):
    _, tensors = reference("vdm", "base")
    velocity = load_expert(writers.write_flax(tmp_path / "i-dode-cifar10", tensors))
    assert velocity.predicts == "velocity"
    assert load_expert(writers.write_flax(tmp_path / "other", tensors)).predicts == "eps"


def test_raw_params_are_not_taken_for_the_ema(tmp_path):
    _, tensors = reference("vdm", "base")
    state = writers.flax_state(tensors)
    del state["ema_params"]
    (tmp_path / "ckpt-1.flax").write_bytes(writers.packed(state))
    with pytest.raises(UnsupportedCheckpointError, match="no ema_params"):
        load_expert(tmp_path / "ckpt-1.flax")


def monotone(rng, n=1024):
    """Parameters of the schedule `learnable_nnet`, of either sign."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    first = {"kernel": np.array([[-18.3]], np.float32), "bias": np.array([-13.3], np.float32)}
    return {"l1": first, "l2": {"kernel": draw(1, n), "bias": draw(n)}, "l3": {"kernel": draw(n, 1)}}


def test_ends_of_a_monotone_schedule_are_those_of_its_network(tmp_path):
    _, tensors = reference("vdm", "base")
    state = writers.flax_state(tensors)
    gamma = state["ema_params"]["gamma"] = monotone(np.random.default_rng(0))
    (tmp_path / "ckpt-1.flax").write_bytes(writers.packed(state))

    def at(t):
        """As the public code writes it."""
        h = t * abs(gamma["l1"]["kernel"][0, 0]) + gamma["l1"]["bias"][0]
        inner = 2.0 * (t - 0.5) * np.abs(gamma["l2"]["kernel"][0]) + gamma["l2"]["bias"]
        bent = 2 * (1 / (1 + np.exp(-inner.astype(float))) - 0.5)
        return h + bent @ np.abs(gamma["l3"]["kernel"][:, 0]) / 1024

    assert load_expert(tmp_path / "ckpt-1.flax").gamma_range == pytest.approx((at(0.0), at(1.0)), abs=1e-5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("names", r"parameters \['l1'\]"), ("size", "do not fit together"), ("type", "no array of its size")],
)
def test_other_schedules_are_named_and_refused(tmp_path, fault, message):
    _, tensors = reference("vdm", "base")
    state = writers.flax_state(tensors)
    gamma = monotone(np.random.default_rng(0), 8)
    if fault == "names":
        gamma = {"l1": gamma["l1"]}
    elif fault == "size":
        gamma["l2"]["bias"] = gamma["l2"]["bias"][:3]
    else:
        gamma["l3"] = {"kernel": 3}
    state["ema_params"]["gamma"] = gamma
    (tmp_path / "ckpt-1.flax").write_bytes(writers.packed(state))
    with pytest.raises(CheckpointError, match=message):
        load_expert(tmp_path / "ckpt-1.flax")


# ---- others


def test_unknown_content(tmp_path):
    (tmp_path / "model.pkl").write_text("hello")
    (tmp_path / "mine.py").write_text("expert = None")
    with pytest.raises(UnsupportedCheckpointError, match=r"Python code.*mine\.py:expert"):
        load_expert(tmp_path / "mine.py")
    with pytest.raises(UnsupportedCheckpointError, match="of no known format"):
        load_expert(tmp_path / "model.pkl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedCheckpointError, match="folder of no known format"):
        load_expert(tmp_path / "empty")


# ---- damage


def test_storage_under_another_name_than_it_is_listed_by(tmp_path):
    path = edm_file(tmp_path)
    content = bytearray(path.read_bytes())
    # The key of the first storage, in the last of its five pickles: a list of one text.
    at = content.index(b"]q\x00X")
    content[at + 8] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="or by other names"):
        load_expert(path)


def test_head_of_a_later_storage_is_read_where_it_differs(tmp_path):
    path = edm_file(tmp_path)
    content = bytearray(path.read_bytes())
    stated = b"little_endianq\x02"
    at = content.rindex(stated) + len(stated)
    assert content[at] == pickle.NEWTRUE[0]
    content[at] = pickle.NEWFALSE[0]
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="big-endian"):
        load_expert(path)


def test_damaged_zip_of_torch_is_a_checkpoint_that_is_refused(tmp_path):
    """With exit code 4: the archive's own error is one of data, 3."""
    config, tensors = reference("vdm", "base")
    path = writers.write_addtt(tmp_path / "a", config, tensors)
    content = bytearray(path.read_bytes())
    content[content.index(tensors["model.conv_in.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError) as error:
        load_expert(path)
    assert error.value.exit_code == 4


@pytest.mark.parametrize("options", [{"num_blocks": 60_000}, {"num_blocks": 5, "channel_mult": [1] * 40}])
def test_more_blocks_than_the_file_can_hold_are_not_begun(tmp_path, options):
    """Making them would take minutes, though no memory."""
    config, tensors = reference("edm", "uncond")
    path = writers.write_edm(tmp_path / "a.pkl", config | {"img_resolution": 8} | options, tensors)
    with pytest.raises(CheckpointError, match=r"num_blocks = \d+, in a file of \d+ tensors"):
        load_expert(path)
