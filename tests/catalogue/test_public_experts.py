"""The public experts: what is said of each is whole, and makes the network that its file holds."""

import json
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tests.checkpoints import writers
from tests.checkpoints.public_files import SAID, checkpoint

import merged_diffusion as md
from merged_diffusion.catalogue.entries import known, public
from merged_diffusion.cli import main
from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts import cards
from merged_diffusion.experts.card import MEANING
from merged_diffusion.experts.checkpoints import edm_cards, openai, recognise, score_sde
from merged_diffusion.experts.checkpoints.read_as import parsed
from merged_diffusion.experts.clocks import vp_sde_range
from merged_diffusion.experts.nets import by_name, vdm_unet

REFERENCE = Path(__file__).parents[1] / "reference"
ENTRIES = {name: entry for name, entry in known()["expert"].items() if "at" in entry}
# Whose options stand in their files alone.
UNSTATED = {
    *(f"baseline-cifar10-32x32-{cond}-{arch}" for cond in ("uncond", "cond") for arch in ("vp", "ve")),
    "google-vdm-cifar10-aug",
}
# Formats of which a file says all itself.
COMPLETE = {"edm-pickle", "flax-msgpack", "addtt"}
LISTS = {
    "edm-cifar10-32x32-uncond-vp": "edm/parameters.tsv",
    "improved-cifar10-uncond": "parameters/state_dict_improved_cifar10_uncond.tsv",
    "guided-imagenet64-cond": "parameters/state_dict_guided_imagenet64_cond.tsv",
    "torchcfm-cifar10-icfm": "parameters/state_dict_torchcfm_cifar10.tsv",
    "addtt-vdm-cifar10": "vdm/parameters.tsv",
}
SCORE_SDE = {
    "ddpmpp": "parameters/state_dict_score_sde_cifar10_ddpmpp_continuous.tsv",
    "ncsnpp": "parameters/state_dict_score_sde_cifar10_ncsnpp_continuous.tsv",
}
# Of the public code: parameters and tensors, buffers among the latter.
COUNTS = {
    "edm-cifar10-32x32-uncond-vp": (55_733_891, 425),
    "edm-cifar10-32x32-uncond-ve": (56_397_827, 432),
    "edm-imagenet-64x64-cond-adm": (295_899_267, 553 - 12),  # its filters are fixed here
    "improved-cifar10-uncond": (52_546_438, 446),
    "guided-imagenet64-cond": (295_904_454, 541),
    "torchcfm-cifar10-icfm": (35_746_307, 304),
    "score-sde-cifar10-vp": (61_804_419, None),
    "score-sde-cifar10-ve": (62_758_915 - 128, None),  # its frequencies are a buffer here
    "addtt-vdm-cifar10": (30_577_667, 685),
}
MODULES = {
    "score-sde-cifar10-vp": 55,
    "score-sde-cifar10-subvp": 55,
    "score-sde-cifar10-vp-deep": 91,
    "score-sde-cifar10-subvp-deep": 91,
    "score-sde-cifar10-ve": 59,
}


def of_family(*words):
    return [name for name, entry in ENTRIES.items() if entry["format"] in words]


def skeleton(entry):
    with torch.device("meta"):
        if entry["kind"] == "vdm":
            return vdm_unet.build(entry["network"], entry["image_shape"][0])[0]
        return by_name.build(entry["network"], tuple(entry["image_shape"]))


def listed(file):
    """Names and shapes of a list."""
    rows = [line.split("\t") for line in (REFERENCE / file).read_text(encoding="utf-8").splitlines()]
    return {row[0].removeprefix("model."): tuple(json.loads(row[1])) for row in rows}


def shapes(state):
    return {key.removeprefix("model."): tuple(value.shape) for key, value in state.items()}


def empty(state):
    """Tensors of these shapes that take no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in state.items()}


# What is said.


@pytest.mark.parametrize("name", ENTRIES)
def test_an_expert_says_what_it_is_and_where_it_comes_from(name):
    entry, found = ENTRIES[name], public("expert", name)
    assert found is not None
    assert found.title
    assert found.licence
    assert found.source.startswith("https://github.com/")
    assert bool(found.downloads) != bool(found.by_hand)
    assert entry["kind"] in MEANING
    assert len(entry["image_shape"]) == 3
    assert found.instead == (f"experts/{name}/model.safetensors",)
    assert entry.get("labels", False) == bool(entry.get("network", {}).get("label_dim")) or name in UNSTATED
    low, high = entry.get("gamma_range", (0, 1))
    assert low < high


def test_names_are_no_pairs_nor_of_the_package():
    assert not ENTRIES.keys() & known()["pair"].keys()
    assert all("folder" not in entry for entry in ENTRIES.values())


def test_files_have_their_published_names_and_each_its_own():
    count = Counter(PurePosixPath(entry["at"]).name for entry in ENTRIES.values())
    assert set(count.values()) == {1}
    for name, entry in ENTRIES.items():
        assert PurePosixPath(entry["at"]).parent == PurePosixPath("experts")
        for item in entry.get("downloads", ()):
            assert PurePosixPath(item.get("at", entry["at"])).name == item["url"].rsplit("/", 1)[1], name


@pytest.mark.parametrize("name", ENTRIES)
def test_words_of_a_file_that_does_not_say_all_are_those_of_its_format(name):
    entry = ENTRIES[name]
    assert ("read_as" in entry) != (entry["format"] in COMPLETE)
    if "read_as" in entry:
        said = parsed(entry["read_as"])
        assert said.family == entry["format"]
        assert said.options["size"] == entry["image_shape"][1]
        assert str(said) == entry["read_as"]


# The networks.


def test_networks_are_stated_but_for_those_that_only_files_state():
    assert {name for name, entry in ENTRIES.items() if "network" not in entry} == UNSTATED
    assert {name for name, entry in ENTRIES.items() if "parameters" not in entry} == UNSTATED


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in UNSTATED])
def test_parameters_are_those_of_the_network(name):
    network = skeleton(ENTRIES[name])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert ENTRIES[name]["parameters"] == count
    parameters, tensors = COUNTS.get(name, (count, None))
    assert count == parameters
    assert tensors in (None, len(network.state_dict()))


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in UNSTATED])
def test_a_file_of_the_published_size_is_within_the_limit_of_its_depth(name):
    network = ENTRIES[name]["network"]
    tensors = skeleton(ENTRIES[name]).state_dict()
    cards._check_depth(SimpleNamespace(card=SimpleNamespace(network=network), tensors=tensors), Path(name))


@pytest.mark.parametrize(("name", "file"), LISTS.items())
def test_names_and_shapes_are_those_of_the_public_code(name, file):
    assert shapes(skeleton(ENTRIES[name]).state_dict()) == listed(file)


@pytest.mark.parametrize("name", of_family("openai", "torchcfm"))
def test_the_loader_makes_the_same_of_names_shapes_and_words(name):
    entry = ENTRIES[name]
    state = empty(shapes(skeleton(entry).state_dict()))
    card = openai.card(state, parsed(entry["read_as"]), name, name)
    assert (card.kind, list(card.image_shape)) == (entry["kind"], entry["image_shape"])
    assert card.labels == entry.get("labels", False)
    assert card.gamma_range == pytest.approx(entry["gamma_range"], abs=5e-3)
    defaults = {"num_heads": 1, "num_head_channels": 0, "resblock_updown": False, "label_dim": 0}
    defaults |= {"use_scale_shift_norm": False}
    stated = defaults | entry["network"]
    # Channels of a head decide where both are stated.
    ignored = {"num_heads"} if stated["num_head_channels"] else set()
    assert {key: card.network[key] for key in stated if key not in ignored} == {
        key: value for key, value in stated.items() if key not in ignored
    }
    assert shapes(card.blank().state_dict()) == shapes(state)


@pytest.mark.parametrize("name", of_family("score_sde"))
def test_score_sde_has_the_names_of_edm_once_it_is_read(name):
    entry = ENTRIES[name]
    tensors = empty(listed(SCORE_SDE[entry["network"]["architecture"]]))
    tensors.pop("sigmas")
    card, renamed = score_sde.read(tensors, parsed(entry["read_as"]), None, name, name)
    assert (card.kind, list(card.image_shape)) == (entry["kind"], entry["image_shape"])
    assert card.gamma_range == pytest.approx(entry["gamma_range"], abs=5e-2)
    usual = {**entry["network"], "num_blocks": 4}
    assert {key: card.network[key] for key in usual} == usual
    if not name.endswith("deep"):
        assert shapes(skeleton(entry).state_dict()) == shapes(renamed)


@pytest.mark.parametrize(("name", "count"), MODULES.items())
def test_score_sde_has_so_many_modules(name, count):
    """In its flat list an attention is a module of its own."""
    state = skeleton(ENTRIES[name]).state_dict()
    layers = {".".join(key.split(".")[:2]) for key in state if key.startswith(("enc.", "dec."))}
    attentions = sum(key.endswith(".qkv.weight") for key in state)
    first = len({key.split(".")[0] for key in state if key.startswith("map_")})
    assert first + len(layers) + attentions == count


def test_ranges_of_edm_are_those_of_its_preconditionings():
    """2 ln sigma: where EDM samples; of VP at 1e-5 and 1; 0.02 and 100; the ends of iDDPM's table."""
    edm = [entry["gamma_range"] for entry in ENTRIES.values() if entry["kind"] == "edm"]
    assert all(tuple(ends) == edm_cards.GAMMA_RANGE for ends in edm)
    sigmas = {"ve": (0.02, 100.0), "ddpm": (0.00642234, 20291.0)}
    for name, entry in ENTRIES.items():
        if name.startswith("baseline"):
            ends = (
                vp_sde_range(0.1, 20.0, is_sub=False)
                if entry["kind"] == "vp_sde"
                else (2 * torch.tensor(sigmas[entry["kind"]]).double().log()).tolist()
            )
            assert entry["gamma_range"] == pytest.approx(ends, abs=1e-2)


# Files and commands.


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if "read_as" in entry])
def test_the_name_of_a_file_implies_its_words(name):
    said = recognise._published(Path("elsewhere") / PurePosixPath(ENTRIES[name]["at"]).name)
    assert said == parsed(ENTRIES[name]["read_as"])


def test_a_file_of_a_published_name_is_read_without_words_and_contradicts_others(tmp_path):
    small = checkpoint("openai/guided-32groups", tmp_path)
    path = tmp_path / "128x128_diffusion.pt"
    shutil.copy(small, path)
    own, named = md.load_expert(small, read_as=SAID["openai/guided-32groups"]), md.load_expert(path)
    z, gamma = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([-3.0, 2.0])
    with torch.no_grad():
        assert torch.equal(own(z, gamma), named(z, gamma))
    assert named.image_shape == (3, 128, 128)
    with pytest.raises(CheckpointError, match=r"heads = 2, 4") as caught:
        md.load_expert(path, read_as="openai:heads=2")
    assert "its published name" in caught.value.message


def test_the_folder_that_a_file_of_score_sde_comes_from_is_in_its_name(tmp_path):
    small = checkpoint("score-sde/ddpmpp-vp", tmp_path)
    path = tmp_path / "score_sde-subvp-cifar10_ddpmpp_continuous.pth"
    shutil.copy(small, path)
    expert = md.load_expert(path)
    assert (expert.kind, expert.input, expert.image_shape) == ("vp_sde", "sub_vp", (3, 32, 32))


def test_googles_second_network_is_taken_for_one_of_eps(tmp_path, caplog):
    tensors = load_file(REFERENCE / "vdm" / "base" / "weights.safetensors")
    folder = writers.write_flax(tmp_path / "google-vdm-cifar10-aug", tensors)
    assert md.load_expert(folder).predicts == "eps"
    assert not caplog.records


def test_dry_run_tells_the_address_of_every_expert(capsys, tmp_path):
    assert main(["fetch", *ENTRIES, "--dry-run", "--cache", str(tmp_path / "cache")]) == 0
    shown = capsys.readouterr().out
    for entry in ENTRIES.values():
        for item in entry.get("downloads", ()):
            assert f"from {item['url']}".replace("{checkpoint}", "ckpt-N") in shown
        assert f"to   {tmp_path / 'cache' / entry['at']}" in shown
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("guided-imagenet512", "guided-imagenet512-cond"),
        ("64x64_diffusion.pt", "guided-imagenet64-cond"),
        ("edm2-img64-s-1073741-0.075.pkl", "edm2-img64-s"),
    ],
)
def test_a_name_that_is_close_or_that_of_a_file_is_told(capsys, tmp_path, given, meant):
    assert main(["fetch", given, "--cache", str(tmp_path)]) == 2
    assert f"did you mean {meant}" in capsys.readouterr().err
