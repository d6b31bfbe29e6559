"""``experts list``, ``experts inspect``, ``experts convert``."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from tests.checkpoints import writers

from merged_diffusion.experts.card import Card
from merged_diffusion.experts.cards import load_expert

REFERENCE = Path(__file__).parents[1] / "reference"
PROBE = """if 1:
    import sys
    from merged_diffusion.cli import main
    code = main(sys.argv[1:])
    assert "torch" not in sys.modules
    sys.exit(code)
"""
EDM = "edm-cifar10-32x32-uncond-vp"
TOY = Card(
    name="toy", kind="vdm", predicts="eps", time="gamma", input="vp", pixels="centred", levels=17,
    image_shape=(1, 8, 8), gamma_range=(-7.876, 5.0), precision="float32",
    network={"type": "mlp", "width": 8, "blocks": 1, "dropout": 0.0, "periods": [1]},
)  # fmt: skip


def reference(kind, name):
    folder = REFERENCE / kind / name
    return json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors")


def edm(path, name="uncond"):
    path.parent.mkdir(parents=True, exist_ok=True)
    return writers.write_edm(path, *reference("edm", name))


def put(folder, card=TOY, change=None):
    """A small expert in the package's own format."""
    tensors = {key: value.contiguous() for key, value in card.expert().state_dict().items()}
    if change is not None:
        change(tensors)
    content = save(tensors)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "card.toml").write_text(replace(card, sha256=hashlib.sha256(content).hexdigest()).toml())
    return folder


@pytest.fixture
def inspected(run_cli):
    def inspect(*arguments):
        result = run_cli("experts", "inspect", *arguments, "--json")
        assert result.code == 0, result.out
        assert result.json["command"] == "experts inspect"
        return result.json["expert"]

    return inspect


# The catalogue.


def test_list_says_what_is_here_and_how_to_get_the_rest(run_cli, tmp_path):
    edm(tmp_path / "cache" / "experts" / f"{EDM}.pkl")
    (tmp_path / "cache" / "hf" / "me" / "net" / "main").mkdir(parents=True)
    rows = run_cli("experts", "list", "--cache", "cache", "--json").json
    experts = {row["name"]: row for row in rows["experts"]}
    bundled = [name for name, row in experts.items() if row["bundled"]]
    assert bundled == [
        f"bundled:{data}-{kind}" for data in ("digits", "photos", "scenes") for kind in ("vdm", "edm")
    ]
    assert experts[EDM]["present"]
    assert experts[EDM]["path"].endswith(f"cache/experts/{EDM}.pkl")
    assert "non-commercial" in experts[EDM]["licence"]
    assert experts["google-vdm-cifar10"]["get"] == "merged-diffusion fetch google-vdm-cifar10"
    assert "shared drive" in experts["i-dode-cifar10"]["get"]
    assert experts["hf:me/net@main"]["present"]
    pairs = {row["name"]: row for row in rows["pairs"]}
    assert [row["present"] for row in pairs.values()] == [True, True, True, False]
    assert pairs["cifar10"]["quality"] == EDM
    assert "eta 0.4, in gamma -13.3 to 8.764" in run_cli("experts", "list", "--cache", "cache").out


def test_list_has_what_is_here_before_what_is_fetched_and_what_is_put_by_hand(run_cli, tmp_path):
    edm(tmp_path / "cache" / "experts" / f"{EDM}.pkl")
    (tmp_path / "cache" / "hf" / "me" / "net" / "main").mkdir(parents=True)
    shown = run_cli("experts", "list", "--cache", "cache").out
    assert max(map(len, shown.splitlines())) <= 100
    heads = (
        *("experts in the package", "experts in the cache cache"),
        *("experts to fetch: merged-diffusion fetch NAME", "experts to put by hand into cache", "pairs"),
    )
    parts = re.split(r"^(?=\w)", shown, flags=re.MULTILINE)[1:]
    assert tuple(part.partition("\n")[0] for part in parts) == heads
    package, here, fetched, by_hand, _ = parts
    assert package.count("    bundled:") == 6
    assert here.splitlines()[1:5] == [
        f"    {EDM:<34} edm     3x32x32    CC BY-NC-SA 4.0 (non-commercial)",
        f"      experts/{EDM}.pkl",
        f"    {'hf:me/net@main':<34} {'':<6}  {'':<9}  licence not stated",
        "      hf/me/net/main",
    ]
    assert "guided-imagenet64-cond             ddpm    3x64x64     295.9 M parameters  classes\n" in fetched
    assert EDM not in fetched
    # Each family once, with its licence below its name.
    heads = re.findall(r"^  (\S.*), https://.*\n  licence: \S", fetched + by_hand, re.MULTILINE)
    assert len(heads) == len(set(heads)) == 10
    assert "      subvp/cifar10_ddpmpp_deep_continuous/checkpoint_N.pth, on a Google drive" in by_hand
    assert "      to experts/i-dode-cifar10\n" in by_hand


def test_list_as_json_has_all_that_is_known(run_cli):
    rows = {row["name"]: row for row in run_cli("experts", "list", "--json").json["experts"]}
    assert len({tuple(row) for row in rows.values()}) == 1
    expected = {
        "kind": "ddpm", "format": "openai", "image_shape": [3, 64, 64], "labels": True, "bundled": False,
        "at": "experts/64x64_diffusion.pt", "gamma_range": [-10.095, 19.84], "parameters": 295904454,
        "read_as": "openai:size=64,head_channels=64,order=new,schedule=cosine,steps=1000,rescaled=no",
        "source": "https://github.com/openai/guided-diffusion", "by_hand": None,
        "get": "merged-diffusion fetch guided-imagenet64-cond",
    }  # fmt: skip
    row = rows["guided-imagenet64-cond"]
    assert {key: row[key] for key in expected} == expected
    assert row["network"]["attention_order"] == "new"
    (file,) = row["downloads"]
    assert file["url"].endswith("/jul-2021/64x64_diffusion.pt")
    # Whose options nobody states but the file.
    assert rows["baseline-cifar10-32x32-uncond-vp"]["network"] is None
    assert rows["i-dode-cifar10"]["predicts"] == "velocity"


def test_list_needs_no_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "experts", "list", "--cache", tmp_path],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Inspecting.


def test_ends_of_edm_are_those_of_the_papers_table_4(inspected, run_cli, tmp_path):
    """t_min: sigma 0.002, gamma -12.43; t_max: sigma 80, gamma 8.764; eta_min 0.0394."""
    shown = run_cli("experts", "inspect", edm(tmp_path / "a.pkl")).out
    assert re.search(r"^low +-12\.43 +0\.002 +12\.43 +outside( +0\.0394307){3}$", shown, re.MULTILINE)
    assert re.search(r"^high +8\.764 +80 +-8\.764 +1 +1 +1 +1$", shown, re.MULTILINE)
    assert re.search(r"^cifar10 +-13\.3 to 8\.764 +- +from 0\.0394307$", shown, re.MULTILINE)
    ends = inspected(edm(tmp_path / "a.pkl"))["range"]
    assert (ends["low"]["gamma"], ends["high"]["gamma"]) == (-12.43, 8.764)
    assert round(ends["low"]["edm_sigma"], 5) == 0.002
    assert round(ends["high"]["edm_sigma"], 1) == 80.0
    assert (ends["low"]["logsnr"], ends["high"]["logsnr"]) == (12.43, -8.764)
    assert ends["low"]["eta"] == {
        "digits": None,
        "photos": pytest.approx(0.0394307, abs=5e-8),
        "scenes": pytest.approx(0.0394307, abs=5e-8),
        "cifar10": pytest.approx(0.0394307, abs=5e-8),
    }
    assert set(ends["high"]["eta"].values()) == {1.0}


def test_eta_limits_by_pair_and_role(inspected, tmp_path):
    quality = {row["pair"]: row for row in inspected(edm(tmp_path / "a.pkl"))["eta_limits"]}
    assert list(quality) == ["digits", "photos", "scenes", "cifar10"]
    # Below digits' range it was trained too, so that every eta will do.
    assert quality["digits"]["quality_min"] == 0
    assert quality["cifar10"]["quality_min"] == pytest.approx(0.0394307, abs=5e-8)
    assert {row["likelihood_max"] for row in quality.values()} == {None}
    file = writers.write_addtt(tmp_path / "run", *reference("vdm", "base"))
    likelihood = {row["pair"]: row for row in inspected(file)["eta_limits"]}
    assert likelihood["cifar10"]["likelihood_max"] == pytest.approx(18.3 / 22.064)
    assert {row["quality_min"] for row in likelihood.values()} == {None}


def test_expert_that_never_meets_a_pairs_range_has_no_limit(inspected, tmp_path):
    put(tmp_path / "high", replace(TOY, gamma_range=(9.0, 12.0)))
    put(tmp_path / "low", replace(TOY, gamma_range=(-30.0, -20.0)))
    for name in ("high", "low"):
        assert {row["likelihood_max"] for row in inspected(name)["eta_limits"]} == {None}


def test_snapshot_of_edm(inspected, run_cli, tmp_path):
    path = edm(tmp_path / "snapshot.pkl", "cond")
    config, tensors = reference("edm", "cond")
    side = config["img_resolution"]
    facts = inspected(path)
    n = sum(value.numel() for key, value in tensors.items() if "resample_filter" not in key)
    expected = {
        "format": "edm-pickle", "name": "snapshot", "kind": "edm", "file": str(path), "parameters": n,
        "precision": "float32", "predicts": "x0", "time": "log_edm_sigma_over_4", "input": "edm",
        "pixels": "ends", "levels": 256, "image_shape": [3, side, side],
        "labels": True, "classes": config["label_dim"], "data_std": 0.5, "warnings": [],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "release": {"state": "unknown", "name": None, "sha256": None},
    }  # fmt: skip
    assert {key: facts[key] for key in expected} == expected
    assert "CC BY-NC-SA" in facts["licence"]
    shown = run_cli("experts", "inspect", path).out
    assert f"a class of {config['label_dim']} with every image (--labels)" in shown
    assert f"3 x {side} x {side}, 256 levels" in shown
    assert facts["network"]["channel_mult"] == config["channel_mult"]


@pytest.mark.parametrize(
    ("make", "form", "predicts"),
    [
        (lambda f: writers.write_addtt(f / "run", *reference("vdm", "base")), "addtt", "eps"),
        (lambda f: writers.write_flax(f / "any", reference("vdm", "base")[1]), "flax-msgpack", "eps"),
        (
            lambda f: writers.write_flax(f / "i-dode-cifar10", reference("vdm", "base")[1]),
            "flax-msgpack",
            "velocity",
        ),
        (lambda f: put(f / "toy"), "safetensors", "eps"),
        (lambda f: "bundled:photos-vdm", "safetensors", "eps"),
    ],
    ids=["addtt", "flax", "i-dode", "folder", "bundled"],
)
def test_likelihood_experts_of_every_format(inspected, run_cli, tmp_path, make, form, predicts):
    source = make(tmp_path)
    facts = inspected(source)
    assert (facts["format"], facts["kind"], facts["predicts"]) == (form, "vdm", predicts)
    expert = load_expert(source)
    assert facts["parameters"] == sum(parameter.numel() for parameter in expert.parameters())
    assert facts["gamma_range"] == list(expert.gamma_range)
    assert facts["image_shape"] == list(expert.image_shape)
    shown = run_cli("experts", "inspect", source).out
    for text in (f"({form})", facts["sha256"], f"{facts['parameters']:,} parameters", "eta limits"):
        assert text in shown


def test_diffusers_folder(inspected, tmp_path):
    from tests.experts.test_diffusers import DDPMScheduler, make_unet

    unet = make_unet()
    unet.save_pretrained(tmp_path / "small" / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "small" / "scheduler")
    facts = inspected("small")
    assert (facts["format"], facts["kind"], facts["predicts"]) == ("diffusers", "diffusers", "v")
    assert (facts["time"], facts["input"], facts["pixels"]) == ("timestep", "vp", "ends")
    assert facts["parameters"] == sum(parameter.numel() for parameter in unet.parameters())
    assert facts["network"]["block_out_channels"] == [8, 16]
    # Whichever part it takes: as likelihood expert up to an eta, as quality expert from one.
    assert all(0 <= row["quality_min"] < row["likelihood_max"] <= 1 for row in facts["eta_limits"])


def test_public_name_is_looked_up_in_the_cache(inspected, run_cli, tmp_path):
    absent = run_cli("experts", "inspect", EDM, "--cache", "cache")
    assert absent.code == 4
    assert f"merged-diffusion fetch {EDM}" in absent.err
    path = edm(tmp_path / "cache" / "experts" / f"{EDM}.pkl")
    facts = inspected(EDM, "--cache", "cache")
    assert (facts["file"], facts["release"]["state"]) == (
        str(Path("cache") / path.relative_to(path.parents[1])),
        "unknown",
    )
    assert run_cli("experts", "inspect", "hf:me/net@main", "--cache", "cache").code == 4


def test_release_is_compared_with_what_was_fetched(inspected, run_cli, tmp_path):
    path = edm(tmp_path / "cache" / "experts" / f"{EDM}.pkl")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    hashes = tmp_path / "cache" / "hashes.json"
    kept = {f"experts/{EDM}.pkl": {"sha256": sha256, "size": 1, "url": "x"}}
    hashes.write_text(json.dumps(kept))
    same = {"state": "same", "name": f"{EDM}.pkl", "sha256": sha256}
    assert inspected(EDM, "--cache", "cache")["release"] == same
    copy = tmp_path / "copy.pkl"
    copy.write_bytes(path.read_bytes())
    assert inspected(copy, "--cache", "cache")["release"] == same
    edm(path, "aug9")
    assert inspected(EDM, "--cache", "cache")["release"] == same | {"state": "other"}
    elsewhere = edm(tmp_path / "downloads" / f"{EDM}.pkl", "aug9")
    assert inspected(elsewhere, "--cache", "cache")["release"] == same | {"state": "other"}
    shown = run_cli("experts", "inspect", elsewhere, "--cache", "cache").out
    assert f"not {EDM}.pkl as it was published or first fetched, sha256 {sha256}" in shown
    own = put(tmp_path / "toy")
    assert inspected(own, "--cache", "cache")["release"]["state"] == "card"


def test_warnings_are_facts_and_lines(inspected, run_cli, tmp_path):
    file = writers.write_addtt(tmp_path / "run", *reference("vdm", "base"), initted=False)
    (said,) = inspected(file)["warnings"]
    assert "EMA has not begun" in said
    result = run_cli("experts", "inspect", file)
    assert result.err == f"warning: {said}\n"
    assert run_cli("experts", "inspect", file, "--quiet").err == ""


def test_code_is_refused_and_not_run(run_cli, tmp_path):
    (tmp_path / "mine.py").write_text("open('canary', 'w')")
    for source in ("mine.py:expert", "mine:expert", "mine.py"):
        for command in (["inspect", source], ["convert", source, "out"]):
            assert run_cli("experts", *command).code == 4
    assert "is code" in run_cli("experts", "inspect", "mine.py:expert").err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors["net.norm.weight"].fill_(float("nan")), "not finite"),
        (lambda tensors: tensors.pop("net.norm.bias"), "net.norm.bias is missing"),
        (lambda tensors: tensors.update({"net.last.bias": torch.zeros(3)}), "expected [64]"),
    ],
)
def test_unsound_weights_are_a_refusal(run_cli, tmp_path, change, message):
    put(tmp_path / "toy", change=change)
    result = run_cli("experts", "inspect", "toy", "--json")
    assert (result.code, result.json["code"]) == (4, 4)
    assert message in result.json["error"]["message"]


def test_what_is_not_there(run_cli):
    assert run_cli("experts", "inspect", "nowhere.pkl").code == 4
    assert run_cli("experts", "inspect", "bundled:nothing").code == 4
    assert run_cli("experts", "inspect", "hf:me").code == 2


def test_texts_of_a_file_cannot_command_the_terminal(run_cli, tmp_path):
    put(tmp_path / "toy", replace(TOY, licence="\x1b[2J\nrelease forged", name="a\rb"))
    shown = run_cli("experts", "inspect", "toy").out
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert r"licence      \x1b[2J\nrelease forged" in shown


def test_inspecting_writes_nothing(inspected, tmp_path):
    edm(tmp_path / "a.pkl")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    inspected("a.pkl", "--cache", "cache")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Converting.


def test_nll_has_the_same_bits_before_and_after_conversion_of_both_experts(run_cli):
    quick = ("nll", "--data", "digits", "--pair", "digits", "--limit", 2, "--rtol", 1e-3, "--atol", 1e-3)
    quick += ("--compare", "--threads", 1, "--device", "cpu", "--json")
    for kind in ("vdm", "edm"):
        result = run_cli("experts", "convert", f"bundled:digits-{kind}", kind, "--json")
        assert (result.code, result.json["precision"]) == (0, "float16")
    before = run_cli(*quick).json
    after = run_cli(*quick, "--likelihood-expert", "vdm", "--quality-expert", "edm").json
    for key in ("bits_per_dim", "terms_nats", "evaluations", "steps", "compare", "threshold"):
        assert before[key] == after[key]
    weights = [
        [run["experts"][role]["weights_sha256"] for role in ("likelihood", "quality")]
        for run in (before, after)
    ]
    assert weights[0] == weights[1]
    assert after["experts"]["quality"]["source"] == "edm"


def test_convert_says_what_it_wrote(run_cli, tmp_path):
    edm(tmp_path / "a.pkl")
    result = run_cli("experts", "convert", "a.pkl", "out")
    assert result.code == 0
    assert "out: model.safetensors (float32) and card.toml" in result.out
    assert "licence: CC BY-NC-SA" in result.out
    facts = run_cli("experts", "inspect", "out", "--json").json["expert"]
    assert facts["converted"]["file"] == "a.pkl"
    assert facts["sha256"] == facts["stated_sha256"]


def test_convert_refuses_what_is_there(run_cli, tmp_path):
    put(tmp_path / "out")
    result = run_cli("experts", "convert", "bundled:digits-vdm", "out", "--json")
    assert (result.code, result.json["error"]["type"]) == (6, "StorageError")
    assert "name a folder that does not exist yet" in result.json["error"]["hint"]
