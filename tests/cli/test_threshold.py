"""``threshold``: what is chosen on which images, printed, kept and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from merged_diffusion.cli import threshold_report
from merged_diffusion.data import load_data
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.sweeps.sweep_row import Paired
from merged_diffusion.thresholds import auto_threshold
from merged_diffusion.thresholds.auto import tuning_data
from merged_diffusion.thresholds.confirm import ConfirmedRow

FEW = ("--tune-limit", 24, "--limit", 16, "--method", "adams", "--tol", 0.01)


@pytest.fixture
def threshold(experts):
    """Arguments of ``threshold`` on digits with a pair of the file."""

    def arguments(*more, data="digits", quality="quality"):
        return (
            *("threshold", "--data", data, "--likelihood-expert", experts("likelihood")),
            *("--quality-expert", experts(quality), "--threads", 1, "--device", "cpu", "--quiet", *more),
        )

    return arguments


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_chosen_on_held_back_train_and_reported_on_test(run_cli, threshold):
    found = run_cli(*threshold(*FEW, "--json"))
    assert found.code == 0
    result = found.json
    assert result["command"] == "threshold"
    assert result["tune"] == {
        "name": "digits", "split": "train", "n": 24, "sha256": load_data("digits", "train").sha256,
    }  # fmt: skip
    assert (result["data"]["split"], result["data"]["n"]) == ("test", 16)
    confirmed, test = result["confirmed"], result["test"]
    assert result["eta"] == confirmed["eta"] == test["eta"]
    merged = min((row for row in confirmed["rows"] if row["eta"]), key=lambda r: r["bits_per_dim"]["mean"])
    assert [row["name"] for row in test["rows"]] == [merged["name"], "likelihood", "quality"]
    best = min(confirmed["rows"], key=lambda r: r["bits_per_dim"]["mean"])
    assert best["name"] == result["name"] == confirmed["name"] == test["name"]
    assert best["option"] == result["option"]
    spent = result["evaluations"]
    assert spent["finding"] == spent["profiles"] + spent["one_pass"]
    assert spent["confirming"] <= spent["grid"] / 2
    curves = result["found"]["curves"]
    assert len(curves["eta"]) == len(curves["vlb"]["value"]) == len(curves["nll"]["se_difference"])
    low, high = result["found"]["indistinguishable"]
    assert low <= result["found"]["eta"] <= high


def test_reported_value_is_that_of_nll(run_cli, threshold, pair):
    result = run_cli(*threshold(*FEW, "--no-confirm", "--json")).json
    assert result["confirmed"] is None
    row = result["test"]["rows"][0]
    nll = pair("--limit", 16, "--method", "adams", "--tol", 0.01, "--gamma", result["threshold"]["gamma"])
    single = run_cli(*nll, "--json").json
    assert row["bits_per_dim"]["mean"] == pytest.approx(single["bits_per_dim"]["mean"], rel=1e-12)


def test_people_read_what_was_found_and_what_it_took(run_cli, threshold, tmp_path):
    found = run_cli(*threshold(*FEW, "--no-test", "--out", "kept"))
    assert found.code == 0
    assert "chosen on 24 images of digits/train" in found.out.splitlines()[0]
    assert found.out.splitlines()[1] == "use it by    --eta 0"
    for word in ("confirmed:", "evaluations per image", "kept in"):
        assert word in found.out
    assert "test:" not in found.out
    kept = json.loads((tmp_path / "kept" / "threshold.json").read_text())
    assert kept["found"]["profiles"]["quality"]["gamma"][-1] == 8.764
    again = run_cli(*threshold(*FEW, "--out", "kept"))
    assert again.code == 2
    assert "holds a threshold.json" in again.err


def test_a_place_that_cannot_be_written_is_found_before_anything_is_computed(
    run_cli, threshold, tmp_path, monkeypatch
):
    from merged_diffusion.thresholds import choose

    monkeypatch.setattr(choose, "choose", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "file").write_text("mine")
    assert run_cli(*threshold(*FEW, "--out", "file")).code == 2
    assert run_cli(*threshold(*FEW, "--out", "file/below")).code == 6
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    refused = run_cli("threshold", "--data", "digits", "--pair", "photos", "--out", "new/kept")
    assert refused.code == 3
    assert not (tmp_path / "new").exists()


def test_a_path_needs_other_images_to_choose_on(run_cli, threshold, tmp_path):
    _, held = hold_back(load_data("digits", "train"))
    images = held.images
    np.savez(tmp_path / "own.npz", images=images[:8], levels=17)
    np.savez(tmp_path / "others.npz", images=images[8:24], levels=17)
    refused = run_cli(*threshold("--no-confirm", data="own.npz"))
    assert refused.code == 2
    assert "--tune-data" in refused.err
    found = run_cli(
        *threshold("--no-confirm", "--no-test", "--tune-data", "others.npz", "--json", data="own.npz")
    )
    assert found.json["tune"]["n"] == 16


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--split", "train"), 2),
        (("--tune-limit", 1), 2),
        (("--eta", 0.3), 2),
        (("--tune-data", "none.npz"), 2),
    ],
)
def test_bad_options_are_refused(run_cli, threshold, option, code):
    assert run_cli(*threshold(*option)).code == code


def test_an_expert_that_is_not_finite_is_named(run_cli, threshold):
    found = run_cli(*threshold(*FEW, "--json", quality="holed"))
    assert found.code == 5
    assert "holed" in found.json["error"]["message"]


def test_auto_threshold_is_what_the_command_finds_without_confirming(run_cli, threshold, experts):
    result = run_cli(*threshold("--no-confirm", "--no-test", "--tune-limit", 256, "--json")).json
    settings = Settings.of(
        {"data": "digits", "device": "cpu", "batch_size": result["settings"]["batch_size"]}
    )
    made = {role: load_expert(experts(role)) for role in ("likelihood", "quality")}
    assert auto_threshold(made, settings).option == result["option"]
    assert len(tuning_data(settings)) == 256


def test_eta_auto_of_nll_is_found_on_train_and_kept_by_its_run(run_cli, threshold, pair, monkeypatch):
    found = run_cli(*threshold("--no-confirm", "--no-test", "--tune-limit", 256, "--json")).json
    options = ("--eta", "auto", "--out", "run", "--json")
    first = run_cli(*pair("--limit", 2, *options))
    assert first.code == 0, first.err
    assert first.json["threshold"]["eta"] == pytest.approx(found["eta"], abs=1e-6)
    assert "note: eta auto: " in first.err
    monkeypatch.setattr("merged_diffusion.thresholds.auto.auto_threshold", None)
    more = run_cli(*pair("--limit", 3, *options))
    assert more.code == 0, more.err
    assert more.json["threshold"] == first.json["threshold"]


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_headline_is_the_best_of_all_rows_also_an_expert_alone(run_cli, threshold):
    """Of two Gaussians, the one of the better width alone beats every threshold."""
    result = run_cli(*threshold(*FEW, "--json")).json
    means = {row["name"]: row["bits_per_dim"]["mean"] for row in result["confirmed"]["rows"]}
    best = min(means, key=means.get)
    assert result["eta"] == {"likelihood": 1.0, "quality": 0.0}[best]
    assert result["threshold"] == {"eta": result["eta"], "gamma": None, "edm_sigma": None, "logsnr": None}
    assert result["at_edge"]
    to = {row["paired"]["to"] for row in result["test"]["rows"] if row["paired"] is not None}
    assert to == {best}
    said = run_cli(*threshold(*FEW)).out
    assert f"the {best} expert alone" in said.splitlines()[0]
    assert "warning: this eta is an end" in said


def test_tune_limit_belongs_to_eta_auto(run_cli):
    refused = run_cli("nll", "--data", "digits", "--limit", "2", "--tune-limit", "8")
    assert refused.code == 2
    assert "--tune-limit 8" in refused.err
    assert "belongs to --eta auto" in refused.err
    found = run_cli("nll", "--data", "digits", "--limit", "2", "--eta", "auto", "--tune-limit", "8")
    assert found.code == 0, found.err
    assert "eta auto: 0." in found.err


def test_eta_auto_of_images_of_ones_own_is_found_on_those_of_tune_data(run_cli, pair, tmp_path):
    _, held = hold_back(load_data("digits", "train"))
    np.savez(tmp_path / "own.npz", images=held.images[:4], levels=17)
    np.savez(tmp_path / "others.npz", images=held.images[8:24], levels=17)
    options = [
        str(o) if o != "digits" else "own.npz" for o in pair("--eta", "auto", "--tune-data", "others.npz")
    ]
    found = run_cli(*options, "--json")
    assert found.code == 0, found.err
    assert "note: eta auto: " in found.err
    assert found.json["n"] == 4
    refused = run_cli(*pair("--eta", "0.3", "--tune-data", "others.npz"))
    assert refused.code == 2
    assert "--eta auto" in refused.err


WIDER = """

class Low(Normal):
    # Wrong below the likelihood expert's range, so it is worse alone than over the range of both.
    def forward(self, z, gamma, cond=None):
        wrong = torch.sigmoid(8 * (-8.2 - gamma.to(z.dtype))).view(-1, 1, 1, 1)
        return super().forward(z, gamma, cond) * (1 - 0.5 * wrong)

def low(): return Low("low", low=-9.0)
def poor(): return Normal("poor", high=5.0, std=0.3)
"""


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_an_end_that_reads_as_an_expert_alone_is_told_apart_and_nll_gives_what_was_confirmed(
    run_cli, experts, tmp_path
):
    """Where the quality expert's range begins lower, eta = 0 of both's range is not that expert alone."""
    (tmp_path / "wider.py").write_text(Path(experts("").rstrip(":")).read_text() + WIDER)
    both = ("--likelihood-expert", "wider.py:poor", "--quality-expert", "wider.py:low")
    options = ("--data", "digits", *both, "--threads", 1, "--device", "cpu", "--quiet")
    few = ("--method", "adams", "--tol", 0.01, "--limit", 12)
    told = run_cli("threshold", *options, *few, "--tune-limit", 24, "--out", "kept")
    assert told.code == 0, told.err
    result = json.loads((tmp_path / "kept" / "threshold.json").read_text())
    means = {row["name"]: row["bits_per_dim"]["mean"] for row in result["confirmed"]["rows"]}
    assert {"eta min", "quality"} <= set(means)
    assert min(means, key=means.get) == result["name"] == "eta min"
    assert (result["option"], result["eta"], result["threshold"]["gamma"]) == ("--eta min", 0.0, -7.876)
    assert told.out.startswith("eta min, the lower end of what both allow (gamma -7.876")
    assert "use it by    --eta min" in told.out
    assert "on test" not in told.out
    for row in result["test"]["rows"]:
        word, value = row["option"].replace("=", " ").split()
        single = run_cli("nll", *options, *few, word, value, "--json")
        assert single.json["bits_per_dim"]["mean"] == pytest.approx(row["bits_per_dim"]["mean"], rel=1e-9)
    first = ("--eta", "auto", "--tune-limit", 24, "--limit", 2, "--out", "run", "--json")
    auto = run_cli("nll", *options[:-1], *first)
    assert auto.json["threshold"] == result["threshold"]
    assert "note: eta auto: min" in auto.err
    again = run_cli("nll", *options, *first)
    assert again.json["threshold"] == result["threshold"]
    swept = run_cli("sweep", *options, "--etas", "0,min,1", "--limit", 2, "--json").json
    assert [row["name"] for row in swept["rows"]] == ["quality", "eta min", "likelihood"]
    assert swept["best"]["name"] == "eta min"
    assert "eta 0 at gamma -7.876" in run_cli("runs", "show", "run").out


def row(difference, se):
    paired = Paired("eta 0.9", difference, se, 8)
    return ConfirmedRow("likelihood", None, "--eta 1", None, 0, None, paired)


@pytest.mark.parametrize(
    ("difference", "se", "is_told"),
    [
        (-0.0001, 0.0002, False),
        (-0.0100, 0.0040, True),
        (-0.0001, 0.00001, True),
        (0.2, 0.001, False),
        (-9.0, None, False),
    ],
)
def test_what_is_better_on_test_is_told_beyond_its_error(difference, se, is_told):
    found = list(threshold_report._better([row(difference, se)]))
    assert bool(found) == is_told
    if difference == -0.01:
        assert found == ["warning: on test likelihood is better, -0.0100 ± 0.0040 (paired)"]
