"""Inception: its weight file is read by us; what the library sees are tensors that we wrote."""

import hashlib
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.quality.writers import Hostile, weights

from merged_diffusion.catalogue.references import WEIGHTS, published
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import CheckpointError, DataError, ExpertError, UnsafeFileError
from merged_diffusion.files.torch_weights import read_torch_weights
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.inception import inception

library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network of theirs with drawn weights, as a file."""
    patch = pytest.MonkeyPatch()
    patch.setattr(library, "load_state_dict_from_url", lambda *_args, **_options: {})
    patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_args: None)
    torch.manual_seed(0)
    network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    patch.undo()
    state = network.state_dict()
    return *weights(tmp_path_factory.mktemp("features") / "weights.pth", state), network


def small(path, sha256):
    """The network with two rows a call."""
    return replace(inception(path, sha256), rows=2)


def images(n=2, channels=3, size=32):
    random = np.random.default_rng(0)
    return random.integers(256, size=(n, channels, size, size), dtype=np.uint8)


def test_features_are_those_of_the_library(file):
    path, sha256, network = file
    found = small(path, sha256)
    assert (found.name, found.dim, found.sha256, found.levels) == ("inception", 2048, sha256, 256)
    with torch.no_grad():
        expected = network(torch.from_numpy(images()))[0].double().numpy()
    np.testing.assert_array_equal(found(images()), expected)


def test_grey_images_are_repeated_to_three_channels(file):
    path, sha256, _ = file
    grey, found = images(2, 1), small(path, sha256)
    np.testing.assert_array_equal(found(grey), found(np.repeat(grey, 3, axis=1)))


def test_the_library_sees_neither_the_file_nor_the_network(file, monkeypatch):
    path, sha256, _ = file
    opened = []
    load = torch.load

    def observed(source, **options):
        opened.append(source)
        return load(source, **options)

    monkeypatch.setattr(torch, "load", observed)
    monkeypatch.setattr(library, "load_state_dict_from_url", None)
    inception(path, sha256)
    assert len(opened) == 2
    assert not any(isinstance(source, str | os.PathLike) for source in opened)


def test_no_cache_of_features_is_written(file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path, sha256, _ = file
    small(path, sha256)(images(1))
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused(tmp_path, zipped):
    canary = tmp_path / "canary"
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(2), "b": Hostile(canary)}, path, _use_new_zipfile_serialization=zipped)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UnsafeFileError, match="holds more than tensors, nothing was executed"):
        read_torch_weights(path, sha256)
    assert not canary.exists()


def test_another_hash_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    path, sha256 = weights(tmp_path / "weights.pth", {"a": torch.zeros(2)})
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(CheckpointError, match=f"has SHA-256 {sha256}, the published weights have") as caught:
        read_torch_weights(path, "0" * 64)
    assert caught.value.fields["found"] == sha256
    assert caught.value.exit_code == 4


def test_files_of_other_content_are_refused(tmp_path, file):
    for value in ([torch.zeros(2)], {"a": 3}):
        with pytest.raises(CheckpointError, match="holds no table of tensors"):
            read_torch_weights(*weights(tmp_path / "weights.pth", value))
    with pytest.raises(CheckpointError, match="not the weights of this network"):
        inception(*weights(tmp_path / "weights.pth", {"a": torch.zeros(2)}))
    path, _ = weights(tmp_path / "cut.pth", {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="no file of torch's tensors"):
        read_torch_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_absent_library_is_said_with_what_to_install(file, monkeypatch):
    path, sha256, _ = file
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ExpertError, match=r"pip install 'merged-diffusion\[fid\]'") as caught:
        inception(path, sha256)
    assert caught.value.exit_code == 4


def test_absent_weights_are_named_with_their_address_and_place(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        extractor("inception", cache=tmp_path)
    message = str(caught.value)
    assert "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" in message
    assert str(tmp_path / "features" / "weights-inception-2015-12-05-6726825d.pth") in message
    assert "merged-diffusion fetch inception-2015-12-05" in message
    assert caught.value.exit_code == 4


def test_the_published_hash_is_the_one_in_the_name():
    download = published().downloads[0]
    assert download.sha256.startswith("6726825d")
    assert "6726825d" in download.url


def test_sets_of_other_levels_are_refused(file):
    path, sha256, _ = file
    with pytest.raises(DataError, match="images of 17 grey levels, inception features take 256"):
        inception(path, sha256).check(make_data("x", "test", images() % 17, 17))


@pytest.mark.slow
def test_whole_path_from_images_to_a_distance(file, tmp_path, monkeypatch):
    from merged_diffusion.catalogue.entries import Download, Public
    from merged_diffusion.cli import main
    from merged_diffusion.quality import inception as home

    path, sha256, _ = file
    entry = Public("stats", WEIGHTS, "drawn weights", str(path), downloads=(Download("", "", None, sha256),))
    monkeypatch.setattr(home, "published", lambda: entry)
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", images=images(6))
    assert main(["fid-ref", "a.npz", "s.npz", "--batch-size", "2", "--quiet"]) == 0
    assert main(["fid", "a.npz", "--ref", "s.npz", "--batch-size", "2", "--quiet"]) == 0
