"""``data list``, ``data verify``, ``data show``."""

import numpy as np
import pytest
from tests.data.makers import cifar_binary, pixels, tar, write_tar_gz


@pytest.fixture
def cifar(tmp_path):
    (tmp_path / "cache" / "data").mkdir(parents=True)
    return write_tar_gz(tmp_path / "cache" / "data" / "cifar-10-binary.tar.gz", tar(cifar_binary(3)))


def test_list_says_what_is_here(run_cli, tmp_path, cifar):
    rows = {row["name"]: row for row in run_cli("data", "list", "--cache", "cache", "--json").json["data"]}
    assert list(rows) == ["digits", "photos", "scenes", "cifar10", "imagenet32-old", "imagenet32-new"]
    assert rows["cifar10"]["present"]
    assert not rows["imagenet32-new"]["present"]
    shown = run_cli("data", "list", "--cache", "nowhere")
    assert shown.out.count("in the package") == 3
    assert shown.out.count("not here") == 3


def test_cache_of_the_environment(run_cli, tmp_path, cifar, monkeypatch):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    assert run_cli("data", "show", "cifar10", "--json").json["data"]["n"] == 3


@pytest.mark.parametrize("split", ["test", "train"])
def test_verify_of_a_bundled_set(run_cli, split):
    result = run_cli("data", "verify", "digits", "--split", split, "--json")
    assert (result.code, result.json["verdict"]) == (0, "as published")


def test_verify_of_a_cut_down_archive_warns_with_both_hashes(run_cli, cifar):
    result = run_cli("data", "verify", "cifar10", "--cache", "cache")
    assert result.code == 0
    assert "modified" in result.out
    assert "published c4a38c50a1bc" in result.err
    assert run_cli("data", "verify", "cifar10", "--cache", "cache", "--json").json["data"]["modified"] is True


def test_verify_of_what_is_unsound_or_missing(run_cli, tmp_path, cifar):
    cifar.write_bytes(cifar.read_bytes()[:-20])
    broken = run_cli("data", "verify", "cifar10", "--cache", "cache", "--json")
    assert (broken.code, broken.json["error"]["type"]) == (3, "DataIntegrityError")
    missing = run_cli("data", "verify", "cifar10", "--cache", "nowhere")
    assert missing.code == 3
    assert "merged-diffusion fetch cifar10" in missing.err
    assert run_cli("data", "verify", "nonsense").code == 2


def test_show_counts_labels_clusters_and_duplicates(run_cli, tmp_path):
    images = pixels(4, (1, 3, 5))
    images[3] = images[0]
    np.savez(tmp_path / "a.npz", images=images, labels=[5, 5, 2, 5], clusters=[1, 1, 2, 3])
    facts = run_cli("data", "show", "a.npz", "--json").json["data"]
    assert (facts["labels"], facts["clusters"], facts["duplicates"]) == ({"2": 1, "5": 3}, 3, 1)
    assert facts["image_shape"] == [1, 3, 5]
    shown = run_cli("data", "show", "a.npz").out
    assert "2: 1, 5: 3" in shown
    assert "1x3x5" in shown


def test_variant_is_asked_for_and_taken(run_cli, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "a.tfrecord").write_bytes(b"")
    refused = run_cli("data", "show", "shards")
    assert refused.code == 3
    assert "--variant old" in refused.err
    assert run_cli("data", "show", "shards", "--variant", "old").code == 2
