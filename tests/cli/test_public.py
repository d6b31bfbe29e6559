"""``nll`` on public files: which are taken, what is said of them, and of those that are not there."""

import gzip
import hashlib
import json
import resource
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from safetensors.torch import save
from tests.data.makers import cifar_binary, tar, write_tar_gz

from merged_diffusion.data import cifar10
from merged_diffusion.experts.card import Card

N = 4  # images a batch of the archive
PROBE = """if 1:
    import sys
    from merged_diffusion.cli import main
    code = main(sys.argv[1:])
    assert "torch" not in sys.modules
    sys.exit(code)
"""
VDM, EDM = "google-vdm-cifar10", "edm-cifar10-32x32-uncond-vp"
TOY = Card(
    name="toy", kind="vdm", predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
    image_shape=(3, 32, 32), gamma_range=(-13.3, 5.0), precision="float32", licence="of the toy",
    network={"type": "mlp", "width": 8, "blocks": 1, "dropout": 0.0, "periods": [1]},
)  # fmt: skip
TOY_EDM = replace(
    TOY, kind="edm", predicts="x0", time="log_edm_sigma_over_4", input="edm", pixels="ends", data_std=0.5,
    gamma_range=(-12.43, 8.764), network={"type": "mlp", "width": 8, "blocks": 1, "dropout": 0.0},
)  # fmt: skip


def put_expert(folder, card, seed=0):
    """A small expert in the package's own format."""
    folder.mkdir(parents=True)
    content = save({k: v.contiguous() for k, v in card.expert(seed).state_dict().items()})
    (folder / "model.safetensors").write_bytes(content)
    (folder / "card.toml").write_text(replace(card, sha256=hashlib.sha256(content).hexdigest()).toml())
    return hashlib.sha256(content).hexdigest()


def put_data(cache):
    """CIFAR-10 in its true layout, with fewer images."""
    place = cache / "data" / "cifar-10-binary.tar.gz"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_tar_gz(place, tar(cifar_binary(N)))
    return place


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with small experts in the places of the public ones, and a small archive."""
    folder = tmp_path / "cache"
    put_expert(folder / "experts" / VDM, TOY)
    put_expert(folder / "experts" / EDM, TOY_EDM)
    put_data(folder)
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(folder))
    return folder


@pytest.fixture
def published(cache, monkeypatch):
    """The small archive passes for the published one."""
    content = (cache / "data" / "cifar-10-binary.tar.gz").read_bytes()
    monkeypatch.setitem(cifar10.SHA256, "binary", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(cifar10.COUNTS, "test", N)
    assert gzip.decompress(content)


QUICK = ("--rtol", 1e-2, "--atol", 1e-2, "--limit", 2, "--batch-size", 2, "--threads", 1, "--device", "cpu")


def cifar(*more):
    return ("nll", "--data", "cifar10", *QUICK, *more)


# What is not there.


def processor_seconds():
    """Of all children: the clock would count what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("have", "code", "missing"),
    [
        ([], 4, [VDM, EDM, "cifar10"]),
        ([VDM, EDM], 3, ["cifar10"]),
        (["data"], 4, [VDM, EDM]),
        ([VDM, "data"], 4, [EDM]),
    ],
)
def test_missing_files_are_named_in_two_seconds_of_work_and_without_torch(tmp_path, have, code, missing):
    cache, here = tmp_path / "cache", tmp_path / "here"
    here.mkdir()
    for name in have:
        if name == "data":
            put_data(cache)
        else:
            put_expert(cache / "experts" / name, TOY)
    before = sorted(cache.rglob("*"))
    begun = processor_seconds()
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "nll", "--data", "cifar10", "--eta", "0.4", "--cache", cache, "--json"],
        capture_output=True, text=True, check=False, cwd=here,
    )  # fmt: skip
    seconds = processor_seconds() - begun
    assert done.returncode == code, done.stderr
    assert seconds < 2
    assert sorted(cache.rglob("*")) == before
    assert not list(here.iterdir())
    error = json.loads(done.stdout)["error"]
    assert [entry["name"] for entry in error["fields"]["missing"]] == missing
    for entry in error["fields"]["missing"]:
        for file in entry["files"]:
            assert file["url"] in error["message"]
            assert file["target"] in error["message"]
    command = (
        "cifar10" if len(missing) > 1 else {"cifar10": "cifar10 --only data"}.get(missing[0], missing[0])
    )
    assert f"merged-diffusion fetch {command} " in error["message"]
    assert "--data photos" in error["hint"]


def test_message_names_each_file_its_place_its_target_and_what_to_do(run_cli, tmp_path):
    result = run_cli("nll", "--data", "cifar10", "--eta", 0.4, "--cache", tmp_path / "cache")
    assert result.code == 4
    for part in (
        *("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "edm-cifar10-32x32-uncond-vp.pkl"),
        *("storage.googleapis.com/gresearch/vdm", "CC BY-NC-SA", "fetch cifar10", "--data photos"),
        str(tmp_path / "cache" / "data" / "cifar-10-binary.tar.gz"),
    ):
        assert part in result.err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("source", ["edm-cifar10-32x32-cond-vp", "i-dode-cifar10", "hf:me/net@main"])
def test_one_expert_that_is_not_there(run_cli, tmp_path, source):
    result = run_cli("nll", "--data", "photos", "--expert", source, "--cache", tmp_path / "cache")
    assert result.code == 4
    assert source in result.err
    assert str(tmp_path / "cache") in result.err


def test_experts_of_ones_own_ask_for_the_data_alone(run_cli, pair, tmp_path):
    words = ["cifar10" if word == "digits" else word for word in pair("--eta", 0.3)]
    result = run_cli(*words, "--cache", tmp_path / "cache")
    assert result.code == 3
    assert "edm-cifar10" not in result.err
    assert "fetch cifar10 --only data" in result.err


def test_imagenet32_is_brought_by_hand(run_cli, pair, tmp_path):
    words = ["imagenet32" if word == "digits" else word for word in pair("--eta", 0.3)]
    result = run_cli(*words, "--variant", "old", "--cache", tmp_path / "cache")
    assert result.code == 3
    assert "by hand" in result.err
    assert str(tmp_path / "cache" / "data" / "imagenet32-old") in result.err


# What is there.


def test_cached_pair_is_taken_and_named(run_cli, cache):
    result = run_cli(*cifar("--eta", 0.4))
    assert result.code == 0, result.err
    assert f"likelihood expert {VDM} from {cache / 'experts' / VDM}; licence: of the toy" in result.err
    assert f"quality expert {EDM} from {cache / 'experts' / EDM}" in result.err
    assert result.err.count("licence: of the toy") == 2
    assert "eta 0.40 (gamma -4.474" in result.out


def test_recommended_eta_is_that_of_the_paper(run_cli, cache):
    assert run_cli(*cifar("--json")).json["threshold"]["eta"] == pytest.approx(0.4)


def test_vdm_of_addtt_comes_first_where_it_is_there(run_cli, cache):
    put_expert(cache / "experts" / "addtt-vdm-cifar10", TOY, seed=1)
    result = run_cli(*cifar("--dry-run", "--json"))
    assert result.code == 0, result.err
    assert result.json["experts"]["likelihood"]["source"] == "addtt-vdm-cifar10"


def test_place_of_the_cache_is_no_part_of_a_run(run_cli, cache, monkeypatch, tmp_path):
    assert run_cli(*cifar("--out", "run")).code == 0
    moved = cache.rename(tmp_path / "moved")
    monkeypatch.delenv("MERGED_DIFFUSION_CACHE")
    again = run_cli(*cifar("--out", "run", "--cache", moved, "--json"))
    assert again.code == 0, again.err
    assert "cache" not in again.json["settings"]


def test_archive_of_the_users_own_is_modified_and_goes_without_the_papers_figures(run_cli, cache):
    result = run_cli(*cifar("--eta", 0.4, "--json"))
    assert result.code == 0, result.err
    assert result.json["data"]["modified"] is True
    assert result.json["paper"] is None
    assert cifar10.SHA256["binary"] in result.err
    text = run_cli(*cifar("--eta", 0.4)).out
    assert "modified" in text
    assert "paper: 2.62" not in text


def test_papers_figures_stand_beside_and_every_difference_is_stated(run_cli, published):
    result = run_cli(*cifar("--eta", 0.4, "--compare"))
    assert result.code == 0, result.err
    _, merged, likelihood, quality, *rest = result.out.splitlines()
    assert merged.endswith("paper: 2.62, 259")
    assert likelihood.endswith("paper: 2.64, 248")
    assert quality.endswith("paper: 3.21, 204")
    text = "\n".join(rest)
    for part in (
        "2 of 10000 images",
        f"likelihood expert {VDM} on gamma [-13.3, 5]; the paper's VDM was its own training",
        "step-control per-image; the paper's shared",
        "rtol 0.01; the paper's 1e-05",
        "convention exact; the paper's paper",
    ):
        assert part in text
    assert "quality expert" not in text  # it is the paper's


def test_preset_paper_sets_all_that_the_paper_states(run_cli, published):
    words = ("nll", "--data", "cifar10", "--preset", "paper", "--eta", 0.4, *QUICK[4:], "--dry-run", "--json")
    settings = run_cli(*words).json["settings"]
    stated = {
        "method": "dopri5",
        "step_control": "shared",
        "rtol": 1e-5,
        "atol": 1e-5,
        "probe": "fixed",
        "probes": 1,
        "convention": "paper",
        "dequantise": "truncated-normal",
        "importance": 1,
        "repeats": 1,
        "dtype": "float32",
        "range": "native",
    }
    assert {key: settings[key] for key in stated} == stated


def test_known_release_with_another_hash_is_a_warning(run_cli, cache):
    hashes = {f"experts/{EDM}.pkl": {"sha256": "0" * 64, "size": 1, "url": "somewhere"}}
    (cache / "hashes.json").write_text(json.dumps(hashes))
    result = run_cli(*cifar("--dry-run"))
    assert result.code == 0, result.err
    assert f"warning: {EDM} has SHA-256" in result.err
    assert "0" * 64 in result.err


# Roles: `faults.md`, section 2.


def test_both_experts_the_same_file_is_a_warning(run_cli, cache):
    result = run_cli(*cifar("--eta", 0.4, "--likelihood-expert", EDM, "--dry-run", "--extrapolate"))
    assert result.code == 0, result.err
    assert "both experts are the same weights" in result.err


def test_swapped_experts_are_refused(run_cli, cache, tmp_path):
    result = run_cli(*cifar("--likelihood-expert", EDM, "--quality-expert", VDM, "--out", "run"))
    assert result.code == 4
    assert f"the likelihood expert {EDM} is of kind edm" in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("role", "card"), [("likelihood", TOY_EDM), ("quality", TOY)])
def test_expert_of_the_wrong_kind_is_refused(run_cli, cache, tmp_path, role, card):
    put_expert(tmp_path / "other", card, seed=7)
    result = run_cli(*cifar(f"--{role}-expert", "other", "--eta", 0.4, "--out", "run"))
    assert result.code == 4
    assert f"the {role} expert other is of kind {card.kind}" in result.err
    assert not (tmp_path / "run").exists()


def test_experts_of_other_sizes_are_refused(run_cli, tmp_path):
    words = (
        "--likelihood-expert",
        "bundled:photos-vdm",
        "--quality-expert",
        "bundled:digits-edm",
        "--eta",
        0.3,
    )
    result = run_cli("nll", "--data", "photos", *words, "--out", "run")
    assert result.code == 4
    assert "cannot be merged" in result.err
    assert not (tmp_path / "run").exists()


CONDITIONAL = """
import torch

class ByClass:
    name, gamma_range, pixels, levels = "by class", (-7.876, 8.764), "centred", 17
    image_shape, conditional = (1, 8, 8), True

    def __call__(self, z, gamma, cond=None):
        assert cond is not None and cond.shape == z.shape[:1]
        shift = 0.01 * cond.to(z.dtype).view(-1, 1, 1, 1)
        return torch.sigmoid(gamma).sqrt().to(z.dtype).view(-1, 1, 1, 1) * z + shift

def by_class(): return ByClass()
"""


@pytest.fixture
def by_class(tmp_path):
    (tmp_path / "mine.py").write_text(CONDITIONAL)
    return (
        "nll",
        "--data",
        "digits",
        "--expert",
        "mine.py:by_class",
        "--limit",
        3,
        "--threads",
        1,
        "--device",
        "cpu",
    )


def test_class_conditional_expert_without_labels_is_refused(run_cli, by_class):
    result = run_cli(*by_class)
    assert result.code == 2
    assert "likelihood expert mine.py:by_class is class-conditional" in result.err
    assert "--labels" in result.err


def test_labels_reach_the_expert(run_cli, by_class):
    bits = {
        label: run_cli(*by_class, "--labels", label, "--json").json["bits_per_dim"]["mean"]
        for label in ("from-data", "0", "9")
    }
    assert len(set(bits.values())) == 3


def test_labels_that_no_expert_takes_are_remarked(run_cli, nll):
    result = run_cli(*nll("one", "--limit", 2, "--labels", 3, "--dry-run"))
    assert result.code == 0
    assert "no expert is class-conditional" in result.err


# Compiled networks.


@pytest.fixture
def compilations(monkeypatch):
    """Names of the experts that were compiled; the compiler itself is left alone."""
    seen = []

    def compiled(expert):
        seen.append(expert.name)
        return expert

    monkeypatch.setitem(sys.modules, "merged_diffusion.experts.compiling", SimpleNamespace(compiled=compiled))
    return seen


def test_compile_is_of_every_network_and_recorded(run_cli, pair, compilations):
    result = run_cli(*pair("--eta", 0.3, "--limit", 2, "--compile", "--out", "run", "--json"))
    assert result.code == 0, result.err
    assert compilations == ["likelihood", "quality"]
    assert result.json["settings"]["compile"] is True
    assert "compile True" in result.err
    again = run_cli(*pair("--eta", 0.3, "--limit", 3, "--out", "run", "--json"))
    assert again.code == 0, again.err
    assert len(compilations) == 4  # as the run recorded


def test_compile_within_a_run_without_it_is_refused_or_marked(run_cli, pair, compilations):
    assert run_cli(*pair("--eta", 0.3, "--limit", 2, "--out", "run")).code == 0
    assert not compilations
    other = run_cli(*pair("--eta", 0.3, "--limit", 3, "--compile", "--out", "run"))
    assert other.code == 7
    assert "compile" in other.err
    marked = run_cli(
        *pair("--eta", 0.3, "--limit", 3, "--compile", "--allow-rebatch", "--out", "run", "--json")
    )
    assert marked.code == 0, marked.err
    assert marked.json["rebatched"] is True
