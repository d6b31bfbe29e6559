"""Experts on disk: what loads, and what is refused with which words."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from merged_diffusion.catalogue.entries import known
from merged_diffusion.errors import CheckpointError, ExpertError, UnsafeFileError
from merged_diffusion.experts.card import Card, card_of, read_card
from merged_diffusion.experts.cards import bundled_folder, load_expert
from merged_diffusion.files.weights import MAX_HEADER_BYTES, check_header

NAMES = ("digits-vdm", "digits-edm", "photos-vdm", "photos-edm", "scenes-vdm", "scenes-edm")
CARD = Card(
    name="toy", kind="vdm", predicts="eps", time="gamma", input="vp", pixels="centred", levels=17,
    image_shape=(1, 8, 8), gamma_range=(-7.876, 5.0), precision="float32",
    network={"type": "mlp", "width": 8, "blocks": 1, "dropout": 0.0, "periods": [1]},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    content = save({k: v.contiguous() for k, v in CARD.expert().state_dict().items()})
    (tmp_path / "model.safetensors").write_bytes(content)
    card = replace(CARD, sha256=hashlib.sha256(content).hexdigest())
    (tmp_path / "card.toml").write_text(card.toml())
    return tmp_path


def rewrite(folder, change):
    """The folder with its weights changed, and the card agreeing with them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    recard(folder)


def recard(folder, **changes):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    card = replace(read_card(folder / "card.toml"), sha256=digest, **changes)
    (folder / "card.toml").write_text(card.toml())


def test_card_survives_a_round_trip(folder):
    card = read_card(folder / "card.toml")
    assert replace(card, sha256=None) == CARD
    (folder / "card.toml").write_text(card.toml())
    assert read_card(folder / "card.toml") == card


@pytest.mark.parametrize("name", NAMES)
def test_bundled_expert_loads_in_evaluation_mode(name):
    expert = load_expert(f"bundled:{name}")
    assert (expert.name, expert.kind) == (name, name[-3:])
    assert not expert.training
    assert not any(p.requires_grad for p in expert.parameters())
    z = torch.randn(2, *expert.image_shape)
    assert expert(z, torch.zeros(2, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_are_small_and_trained_by_the_recipe_on_the_known_data(name):
    card = read_card(bundled_folder(name) / "card.toml")
    most = 4_000_000 if "scenes" in name else 800_000
    assert (bundled_folder(name) / "model.safetensors").stat().st_size <= most
    assert card.training["data_sha256"] == known()["data"][card.training["data"]]["sha256_train"]
    assert len(card.results["gamma"]) == len(card.results["loss"])
    assert card.results["loss"][-1] < 0.01


@pytest.mark.parametrize("wrapper", ["module", "net._orig_mod", "module.net.module"])
def test_names_of_a_wrapped_network_are_read_without_the_wrapper(folder, wrapper, caplog):
    expected = load_expert(folder).state_dict()

    def wrap(tensors):
        for key in list(tensors):
            tensors[f"{wrapper}.{key.removeprefix('net.') if 'net' in wrapper else key}"] = tensors.pop(key)

    rewrite(folder, wrap)
    caplog.clear()
    found = load_expert(folder).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert "parts of a wrapper" in caplog.text


def test_folder_of_weights_of_another_precision_says_so(folder, caplog):
    rewrite(folder, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))
    expert = load_expert(folder)
    assert "weights are float16, the card states float32" in caplog.text
    assert expert.provenance["precision"] == "float16"
    assert next(expert.parameters()).dtype == torch.float32


def test_hash_that_differs_from_the_card(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256") as error:
        load_expert(folder)
    assert error.value.exit_code == 4
    assert error.value.fields["expected"] != error.value.fields["found"]


def test_missing_extra_and_misshapen_tensors_are_all_listed(folder):
    def change(tensors):
        del tensors["net.norm.bias"]
        tensors["net.surplus"] = torch.zeros(1)
        tensors["net.last.bias"] = torch.zeros(3)

    rewrite(folder, change)
    with pytest.raises(CheckpointError) as error:
        load_expert(folder)
    assert error.value.fields["differences"] == [
        "net.norm.bias is missing",
        "net.surplus is not of this network",
        "net.last.bias has shape [3], expected [64]",
    ]


def test_more_than_twenty_differences_are_counted(folder):
    rewrite(folder, lambda tensors: tensors.update({f"net.x{i}": torch.zeros(1) for i in range(25)}))
    with pytest.raises(CheckpointError, match="and 5 more"):
        load_expert(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_key(folder, bad):
    rewrite(folder, lambda tensors: tensors["net.norm.weight"].fill_(bad))
    with pytest.raises(CheckpointError, match=r"net\.norm\.weight holds 8 values that are not finite"):
        load_expert(folder)


def test_truncated_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    for size in (0, 5, 100, len(content) - 4):
        with pytest.raises(CheckpointError):
            check_header(content[:size], "cut")


def test_overlapping_offsets():
    header = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        }
    ).encode()
    with pytest.raises(CheckpointError, match="overlap"):
        check_header(len(header).to_bytes(8, "little") + header + bytes(12), "overlapping")


def test_shape_that_does_not_fit_its_bytes():
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 8]}}).encode()
    with pytest.raises(CheckpointError, match="do not fit"):
        check_header(len(header).to_bytes(8, "little") + header + bytes(8), "vast")


def test_header_over_the_cap():
    with pytest.raises(UnsafeFileError, match="exceeds the limit"):
        check_header((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + bytes(MAX_HEADER_BYTES + 9), "long")


@pytest.mark.parametrize("header", [b"[]", b"{}", b"{", b'{"a": 1}', b'{"a": {"dtype": "I64"}}', b"[" * 5000])
def test_broken_header(header):
    with pytest.raises(CheckpointError):
        check_header(len(header).to_bytes(8, "little") + header, "broken")


def table(**changes):
    import tomllib

    return {k: v for k, v in (tomllib.loads(CARD.toml()) | changes).items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format = 2, this version reads format = 1"),
        ({"levels": None, "colour": 1}, "levels is missing; colour is unknown"),
        ({"levels": "many"}, "levels = 'many' is of type str"),
        ({"kind": "other"}, "none of vdm, edm"),
        ({"predicts": "v"}, "predicts = 'v', but a network of kind 'vdm' has predicts = 'eps'"),
        ({"gamma_range": [5.0, -7.0]}, "is no interval within"),
        ({"gamma_range": [float("nan"), 1.0]}, "is no interval within"),
        ({"image_shape": [1, 8]}, "is not 3 numbers"),
    ],
)
def test_cards_that_are_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        card_of(table(**changes), "card")


def test_edm_without_data_std():
    with pytest.raises(CheckpointError, match="needs data_std"):
        replace(CARD, kind="edm").expert()


def test_card_that_is_no_toml(folder):
    (folder / "card.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="not a readable TOML"):
        load_expert(folder)


def test_folder_without_card_or_weights(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_expert(folder)
    (folder / "card.toml").unlink()
    with pytest.raises(CheckpointError, match="folder of no known format"):
        load_expert(folder)


def test_copied_folder_is_the_same_expert(tmp_path):
    shutil.copytree(bundled_folder("digits-vdm"), tmp_path / "mine with spaces")
    z, gamma = torch.randn(2, 1, 8, 8), torch.zeros(2, dtype=torch.float64)
    mine, bundled = load_expert(tmp_path / "mine with spaces"), load_expert("bundled:digits-vdm")
    assert torch.equal(mine(z, gamma), bundled(z, gamma))


CODE = """
class Mine:
    name, gamma_range, pixels, levels, image_shape = "mine", (-5.0, 5.0), "centred", 17, (1, 8, 8)
    conditional = False
    def __call__(self, z, gamma, cond=None):
        return z

ready = Mine()
def make(): return Mine()
def fails(): raise RuntimeError("no weights here")
def bare(): return lambda z, gamma: z
"""


@pytest.mark.parametrize("name", ["ready", "make", "Mine"])
def test_code_of_the_user_runs_and_says_so(tmp_path, caplog, name):
    (tmp_path / "mine.py").write_text(CODE)
    assert load_expert(f"{tmp_path}/mine.py:{name}").name == "mine"
    assert f"running the code of {tmp_path}/mine.py" in caplog.text


def test_code_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "merged_diffusion_test_module.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_expert("merged_diffusion_test_module:make").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "RuntimeError: no weights here"),
        ("bare", "without gamma_range, pixels, levels, image_shape"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_code_that_gives_no_expert(tmp_path, name, message):
    (tmp_path / "mine.py").write_text(CODE)
    with pytest.raises(ExpertError, match=message) as error:
        load_expert(f"{tmp_path}/mine.py:{name}")
    assert error.value.exit_code == 4


@pytest.mark.parametrize("source", ["nowhere", "bundled:photos", "no/such.py:make", "no_such_module_x:make"])
def test_sources_that_are_not_there(source):
    with pytest.raises(ExpertError) as error:
        load_expert(source)
    assert error.value.exit_code == 4


def test_file_of_weights_is_as_good_as_its_folder(folder):
    one, two = load_expert(folder), load_expert(folder / "model.safetensors")
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


# What no network can be made of.


def recarded(folder, old, new):
    text = (folder / "card.toml").read_text()
    assert old in text
    (folder / "card.toml").write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 8", "width = 99999999999999999999", "no network can be made"),
        ("blocks = 1", "blocks = 1000000000", "in a file of"),
        ("periods = [1]", "periods = [0]", "no network can be made"),
        ("image_shape = [1, 8, 8]", "image_shape = [-1, 8, 8]", "is no channels, height and width"),
        ("dropout = 0.0", "dropout = nan", r"network\.dropout is neither text, a boolean, a finite number"),
        ("dropout = 0.0", "dropout = 1979-05-27", r"network\.dropout is neither text"),
        ("dropout = 0.0", "dropout = { a = 1 }", r"network\.dropout is neither text"),
        ('precision = "float32"', 'precision = "float32"\ndata_std = nan', "data_std = nan is not positive"),
    ],
)
def test_card_that_no_network_can_be_made_of(folder, old, new, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_expert(recarded(folder, old, new))
    assert error.value.exit_code == 4
