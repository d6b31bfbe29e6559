"""`experts convert`: every format becomes a folder that loads to the same bits, or nothing is left behind."""

import errno
import hashlib
import json
import math
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.checkpoints import writers

from merged_diffusion.errors import CheckpointError, ExpertError, StorageError, UnsupportedCheckpointError
from merged_diffusion.experts import converting
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.cards import bundled_folder, load_expert
from merged_diffusion.experts.converting import convert_expert
from merged_diffusion.experts.inspection import inspect_expert
from merged_diffusion.jobs.models import _identity
from merged_diffusion.runs.settings_file import differences

REFERENCE = Path(__file__).parents[1] / "reference"
FACTS = ("name", "kind", "gamma_range", "pixels", "levels", "image_shape", "conditional")
BUNDLED = ("digits-vdm", "digits-edm", "photos-vdm", "photos-edm", "scenes-vdm", "scenes-edm")


def reference(kind, name):
    folder = REFERENCE / kind / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


def edm(folder, name, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return writers.write_edm(folder / "network.pkl", *reference("edm", name), **options)


def half_edm(folder):
    config, tensors = reference("edm", "uncond")
    return writers.write_edm(folder / "half.pkl", config, {k: v.half() for k, v in tensors.items()})


def flax(folder, name, place="google", **options):
    return writers.write_flax(folder / place, reference("vdm", name)[1], **options)


SOURCES = {
    "edm": lambda folder: edm(folder, "uncond"),
    "edm, augmented, protocol 2": lambda folder: edm(
        folder, "aug9", protocol=2, ordered=True, old_numpy=True
    ),
    "edm, conditional": lambda folder: edm(folder, "cond"),
    "edm, half precision": half_edm,
    "addtt": lambda folder: writers.write_addtt(folder / "run", *reference("vdm", "base")),
    "addtt, attention": lambda folder: writers.write_addtt(folder / "run", *reference("vdm", "attn")),
    "addtt, learned ends": lambda folder: writers.write_addtt(
        folder / "run", *reference("vdm", "base"), schedule=(-12.0, -16.0)
    ),
    "flax": lambda folder: flax(folder, "base"),
    "flax, velocity": lambda folder: flax(folder, "base", "i-dode-cifar10"),
    "flax, fixed ends": lambda folder: flax(folder, "base", gamma=None),
    **{name: lambda folder, name=name: f"bundled:{name}" for name in BUNDLED},
}


def shape(expert):
    return tuple(size or 8 for size in expert.image_shape)


def eps_hat(expert, seed=0):
    """At a batch of three, with a label where it wants one."""
    z = torch.randn(3, *shape(expert), generator=torch.Generator().manual_seed(seed))
    cond = torch.tensor([0, 1, 2]) if expert.conditional else None
    with torch.no_grad():
        return expert(z, torch.tensor([-6.5, -1.0, 4.0], dtype=torch.float64), cond)


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", SOURCES)
def test_conversion_loads_to_the_same_bits(tmp_path, name):
    source = SOURCES[name](tmp_path)
    before = load_expert(source)
    card = convert_expert(source, tmp_path / "new" / "out")
    after = load_expert(tmp_path / "new" / "out")
    assert torch.equal(eps_hat(before), eps_hat(after))
    assert [getattr(before, fact) for fact in FACTS] == [getattr(after, fact) for fact in FACTS]
    assert getattr(before, "predicts", None) == getattr(after, "predicts", None)
    assert left(tmp_path / "new") == ["out", "out/card.toml", "out/model.safetensors"]
    assert card == read_card(tmp_path / "new" / "out" / "card.toml")


@pytest.mark.parametrize("name", SOURCES)
def test_card_states_the_weights_and_the_file_that_they_are_from(tmp_path, name):
    source = SOURCES[name](tmp_path)
    original = load_expert(source).provenance
    card = convert_expert(source, tmp_path / "out")
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    assert card.converted["sha256"] == original["sha256"]
    assert card.converted["format"] == original["format"]
    assert (card.licence, card.name) == (original["licence"], original["name"])
    dtypes = {str(value.dtype) for value in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert dtypes == {f"torch.{card.precision}"}
    # Exact in either: float16 only where the original has nothing else.
    assert card.precision == ("float16" if original["precision"] == "float16" else "float32")


def test_bundled_weights_keep_their_bytes(tmp_path):
    card = convert_expert("bundled:digits-edm", tmp_path / "out")
    original = load_file(bundled_folder("digits-edm") / "model.safetensors")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert original.keys() == written.keys()
    assert all(torch.equal(original[key], value) for key, value in written.items())
    assert card.training == read_card(bundled_folder("digits-edm") / "card.toml").training


def test_second_conversion_names_the_first_file(tmp_path):
    first = convert_expert(edm(tmp_path, "uncond"), tmp_path / "one")
    second = convert_expert(tmp_path / "one", tmp_path / "two")
    assert second == first
    assert second.converted["file"] == "network.pkl"


def test_strides_that_a_file_states_choose_no_bits(tmp_path):
    """A 1x1 kernel of a network in channels_last is as contiguous as any; its strides say otherwise."""
    config, tensors = reference("edm", "uncond")
    strange = {
        k: v.clone(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in tensors.items()
    }
    assert any(strange[key].stride() != value.stride() for key, value in tensors.items())
    path = writers.write_edm(tmp_path / "strange.pkl", config, strange)
    plain = load_expert(edm(tmp_path, "uncond"))
    expert = load_expert(path)
    found = {key: value.stride() for key, value in expert.state_dict().items()}
    assert found == {key: value.stride() for key, value in plain.state_dict().items()}
    assert torch.equal(eps_hat(expert), eps_hat(plain))


def test_conversion_does_in_the_place_of_the_public_file(tmp_path):
    name = "edm-cifar10-32x32-uncond-vp"
    convert_expert(edm(tmp_path, "uncond"), tmp_path / "cache" / "experts" / name)
    assert load_expert(name, cache=tmp_path / "cache").provenance["format"] == "safetensors"


def test_velocity_is_stated_in_the_card_and_can_be_changed_there(tmp_path, caplog):
    convert_expert(flax(tmp_path, "base"), tmp_path / "out")
    assert "nothing in it says what the network predicts" in caplog.text
    text = (tmp_path / "out" / "card.toml").read_text()
    (tmp_path / "out" / "card.toml").write_text(text.replace('predicts = "eps"', 'predicts = "velocity"'))
    caplog.clear()
    velocity = load_expert(tmp_path / "out")
    assert not caplog.records
    assert torch.equal(eps_hat(velocity), eps_hat(load_expert(flax(tmp_path, "base", "i-dode-cifar10"))))


@pytest.mark.parametrize("place", ["i-dode-cifar10", "elsewhere"])
def test_schedule_that_no_file_states_is_asked_for_with_both_words(tmp_path, caplog, place):
    convert_expert(flax(tmp_path, "base", place), tmp_path / "out")
    assert "VP" in caplog.text
    assert "SP" in caplog.text
    assert 'input = "sp"' in caplog.text
    card = tmp_path / "out" / "card.toml"
    text = card.read_text().replace('input = "vp"', 'input = "sp"')
    card.write_text(text.replace('predicts = "eps"', 'predicts = "velocity"'))
    caplog.clear()
    straight = load_expert(tmp_path / "out")
    assert not caplog.records
    assert inspect_expert(tmp_path / "out")["input"] == "sp"
    gamma = torch.tensor([-6.5, -1.0, 4.0], dtype=torch.float64)
    z = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # i-DODE's own formulas, of its own z at the same signal-to-noise ratio.
    sigma = torch.sigmoid(gamma / 2).view(-1, 1, 1, 1)
    theirs = z.double() * ((1 - sigma) ** 2 + sigma**2).sqrt()
    with torch.no_grad():
        out = straight.raw(theirs.float(), gamma).double()
        found = straight(z, gamma).double()
    exact = math.sqrt(2) * (1 - sigma) * out + theirs
    # Features of slope 2 pi 2^7 carry the rounding of z' (6e-8) into the network's output.
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-4 * float(out.abs().max()))


def test_run_of_one_meaning_is_not_gone_on_with_under_another(tmp_path):
    """The weights, and so their hash, are the same."""
    convert_expert(flax(tmp_path, "base"), tmp_path / "out")
    card = tmp_path / "out" / "card.toml"
    said = []
    for predicts, word in (("eps", "vp"), ("velocity", "vp"), ("velocity", "sp")):
        text = re.sub(r'predicts = "\w+"', f'predicts = "{predicts}"', card.read_text())
        card.write_text(re.sub(r'input = "\w+"', f'input = "{word}"', text))
        said.append({"experts": {"likelihood": _identity(load_expert(tmp_path / "out"), "x").as_dict()}})
    assert "predicts" not in said[0]["experts"]["likelihood"]  # as runs say it that were begun before
    assert set(differences(said[0], said[1])) == {
        f"experts.likelihood.{key}" for key in ("predicts", "input")
    }
    assert set(differences(said[1], said[2])) == {"experts.likelihood.input"}


def test_name_with_a_character_that_toml_refuses(tmp_path):
    path = edm(tmp_path, "uncond").rename(tmp_path / 'a"\x7f\t\u2028.pkl')
    assert convert_expert(path, tmp_path / "out").name == 'a"\x7f\t\u2028'
    assert load_expert(tmp_path / "out").name == 'a"\x7f\t\u2028'


# What is refused.


def test_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(StorageError, match="a folder that is not empty") as error:
        convert_expert("bundled:digits-vdm", tmp_path / "out")
    assert error.value.exit_code == 6
    assert left(tmp_path) == ["out", "out/notes"]


@pytest.mark.parametrize("out", ["file", "file/below", "link"])
def test_file_is_no_place_for_a_folder(tmp_path, out):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(StorageError):
        convert_expert("bundled:digits-vdm", tmp_path / out)
    assert left(tmp_path) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


def test_name_that_no_file_system_takes(tmp_path):
    with pytest.raises(StorageError):
        convert_expert("bundled:digits-vdm", tmp_path / ("x" * 300))
    assert left(tmp_path) == []


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    convert_expert("bundled:digits-vdm", tmp_path / "out")
    assert left(tmp_path / "out") == ["card.toml", "model.safetensors"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [0, 1])
def test_failure_leaves_nothing_behind(tmp_path, monkeypatch, failure, written):
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        if len(calls) > written:
            raise failure

    monkeypatch.setattr(os, "fsync", fail)
    expected = StorageError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        convert_expert("bundled:digits-vdm", tmp_path / "a" / "b" / "out")
    assert left(tmp_path) == []


def test_target_that_appears_meanwhile_is_left_alone(tmp_path, monkeypatch):
    def meet(*_):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other").write_text("theirs")

    monkeypatch.setattr(converting, "_check_same", meet)
    with pytest.raises(StorageError):
        convert_expert("bundled:digits-vdm", tmp_path / "out")
    assert left(tmp_path) == ["out", "out/other"]


def test_weights_that_change_on_their_way_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "save", lambda tensors: save_others(tensors))
    with pytest.raises(CheckpointError, match="tensors changed by being written"):
        convert_expert("bundled:digits-vdm", tmp_path / "out")
    assert left(tmp_path) == []


save = converting.save


def save_others(tensors):
    first = next(iter(tensors))
    return save(tensors | {first: tensors[first] + 1})


def test_broken_checkpoint_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "broken.pkl").write_bytes(edm(tmp_path / "in", "uncond").read_bytes()[:-5000])
    with pytest.raises(CheckpointError) as error:
        convert_expert(tmp_path / "broken.pkl", tmp_path / "a" / "out")
    assert error.value.exit_code == 4
    assert not (tmp_path / "a").exists()


def test_diffusers_folder_needs_no_conversion(tmp_path):
    from tests.experts.test_diffusers import DDPMScheduler, make_unet

    make_unet().save_pretrained(tmp_path / "in" / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "in" / "scheduler")
    with pytest.raises(UnsupportedCheckpointError, match="the folder itself is read"):
        convert_expert(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_code_is_not_run(tmp_path):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(ExpertError, match="is code"):
        convert_expert(f"{tmp_path / 'mine.py'}:expert", tmp_path / "out")
    assert left(tmp_path) == ["mine.py"]
