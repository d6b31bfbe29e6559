"""``--precision``: layers alone compute in less; what that costs is measured, kept, printed, or refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.errors import ExpertError, ExpertWarning, RunMismatchError, UsageError
from merged_diffusion.experts import arithmetic
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.fence import ask, pull
from merged_diffusion.jobs import moved_pixels, pilot, precision_pilot
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.precision_cost import PrecisionCost
from merged_diffusion.sampling.parts import part_of, recorded_settings
from merged_diffusion.thresholds import auto

FAST = ("--data", "digits", "--limit", "4", "--threads", "1", "--batch-size", "4", "--device", "cpu")
STEPS = ("--tol", "0.3", "--h-max", "2")
LOW = ("--precision", "bf16", "--accept-precision")


class Spy:
    """An expert that keeps what its layers and torch's switches were when it was asked."""

    name, gamma_range, pixels, levels, image_shape = "spy", (-13.3, 5.0), "centred", 17, (1, 8, 8)
    conditional = False

    def __init__(self):
        self.seen = []

    def __call__(self, z, gamma, cond=None):
        product = z.flatten(1) @ torch.eye(64)
        self.seen.append((z.dtype, product.dtype, torch.is_autocast_enabled("cpu"), tf32()))
        return product.view_as(z)


def tf32():
    return torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32


def test_only_the_call_of_an_expert_is_under_autocast():
    spy, z = Spy(), torch.randn(2, 1, 8, 8, requires_grad=True)
    gamma = torch.zeros(2, dtype=torch.float64)
    with arithmetic.in_precision("bf16"):
        out = ask(spy, z, gamma, grad=True)
        assert not torch.is_autocast_enabled("cpu")
        assert pull(spy, out, z, torch.ones_like(z)).dtype == torch.float32
    assert out.dtype == torch.float32
    ask(spy, z, gamma)
    assert spy.seen == [
        (torch.float32, torch.bfloat16, True, False),
        (torch.float32, torch.float32, False, False),
    ]


def test_a_callers_autocast_is_still_kept_off_and_comes_back():
    spy, z, gamma = Spy(), torch.randn(2, 1, 8, 8), torch.zeros(2, dtype=torch.float64)
    with torch.autocast("cpu", torch.float16):
        ask(spy, z, gamma)
        with arithmetic.in_precision("bf16"):
            ask(spy, z, gamma)
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.float16
    assert [seen[1] for seen in spy.seen] == [torch.float32, torch.bfloat16]


def test_tf32_is_set_for_both_passes_and_nowhere_else():
    inside = []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return 2 * z

        @staticmethod
        def backward(ctx, v):
            inside.append(tf32())
            return 2 * v

    class Expert(Spy):
        def __call__(self, z, gamma, cond=None):
            inside.append(tf32())
            return Noted.apply(z)

    z = torch.randn(2, 1, 8, 8, requires_grad=True)
    with arithmetic.in_precision("tf32"):
        out = ask(Expert(), z, torch.zeros(2, dtype=torch.float64), grad=True)
        assert not tf32()
        pull(Expert(), out, z, torch.ones_like(z))
    assert inside == [True, True]
    assert not tf32()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"precision": "fp8"}, "possible are float32, tf32, bf16"),
        ({"precision": "bf16", "dtype": "float64"}, "float32 networks"),
    ],
)
def test_what_has_no_meaning_is_refused(words, told):
    with pytest.raises(UsageError, match=told):
        md.Machine(**words)


def test_tf32_is_refused_on_a_cpu(run_cli):
    found = run_cli("nll", *FAST, "--precision", "tf32")
    assert found.code == 2
    assert "those are numbers of NVIDIA's GPUs" in found.err


def test_an_expert_without_layers_is_told():
    exact = md.GaussianExpert((1, 4, 4), variance=0.25)
    points = np.zeros((2, 1, 4, 4))
    with pytest.warns(ExpertWarning, match="nothing of expert .* computes in bf16"):
        found = md.log_density(exact, points, machine=md.Machine(precision="bf16"))
    assert (found == md.log_density(exact, points)).all()


def test_an_expert_that_loses_numbers_is_refused_at_the_start():
    class Rooted(Spy):  # the root of what is zero in full, and may be negative where z was rounded
        def __call__(self, z, gamma, cond=None):
            flat = z.flatten(1)
            return (flat + torch.sqrt(1e-9 + flat - flat @ torch.eye(64))).view_as(z)

    with pytest.raises(ExpertError, match="not finite in bf16"):
        check_expert(Rooted(), precision="bf16", takes_products=False)


def test_its_cost_is_that_of_two_calls_kept_and_printed(run_cli, tmp_path):
    found = run_cli("nll", *FAST, *STEPS, *LOW, "--out", "run", "--json")
    assert found.code == 0, found.err
    settings = found.json["settings"]
    assert settings["precision"] == "bf16"
    data, model = md.load_data("digits").select(limit=8), md.load_pair("digits")
    both = [
        md.log_likelihood(
            model, data, probes=md.Probes(kind="fixed"), solver=md.Adams(tol=0.3, h_max=2.0),
            machine=md.Machine(precision=each, batch_size=4, threads=1),
        )
        for each in ("bf16", "float32")
    ]  # fmt: skip
    away = both[0].bits_per_dim - both[1].bits_per_dim
    counts = [np.mean([record.total_evaluations for record in one.records]) for one in both]
    cost = settings["precision_cost"]
    assert cost["difference"] == pytest.approx(away.mean(), rel=1e-12)
    assert cost["se"] == pytest.approx(away.std(ddof=1) / 8**0.5, rel=1e-12)
    assert [cost["evaluations"], cost["evaluations_in_full"]] == counts
    assert cost["n"] == 8
    assert away.any()
    shown = run_cli("runs", "show", "run").out
    assert f"precision: bf16 moves the mean by {cost['difference']:+.4f}" in shown
    # Gone on with as it was begun, and not with another.
    again = run_cli("nll", *FAST, *STEPS, "--accept-precision", "--out", "run", "--json")
    assert again.json["settings"] == settings
    other = run_cli("nll", *FAST, *STEPS, "--precision", "float32", "--out", "run")
    assert other.code == RunMismatchError.exit_code
    assert "precision bf16 there" in other.err


def test_in_full_nothing_is_kept_of_it(run_cli):
    plain = run_cli("vlb", *FAST, "--times", "2", "--json").json
    full = run_cli("vlb", *FAST, "--times", "2", "--precision", "float32", "--json").json
    assert plain["settings"] == full["settings"]
    assert not {"precision", "precision_cost"} & set(plain["settings"])


def test_what_costs_too_much_is_refused_unless_accepted(run_cli, monkeypatch):
    monkeypatch.setattr(precision_pilot, "MOST_COST", 0.0)
    words = ("vlb", *FAST, "--times", "2", "--precision", "bf16")
    refused = run_cli(*words, "--out", "run")
    assert refused.code == 2
    assert "--precision bf16 may cost more than 0 bits/dim: bf16 moves the mean by" in refused.err
    assert "--accept-precision" in refused.err
    found = run_cli(*words, "--accept-precision", "--json")
    assert found.code == 0, found.err
    assert found.json["settings"]["precision_cost"]["n"] == 8


def test_a_cost_is_borne_where_it_is_surely_small():
    assert PrecisionCost(-0.004, 0.0025, 8, 50.0, 50.0).is_bearable(0.01)  # t of 7 degrees: 2.365
    assert not PrecisionCost(-0.004, 0.0026, 8, 50.0, 50.0).is_bearable(0.01)
    assert not PrecisionCost(0.0, 0.0008, 2, 50.0, 50.0).is_bearable(0.01)  # of one: 12.71
    assert not PrecisionCost(0.0, None, 1, 50.0, 50.0).is_bearable(0.01)
    assert not PrecisionCost(0.0, 0.0, 7, 50.0, 50.0, n_lost=1).is_bearable(0.01)
    assert not PrecisionCost(float("nan"), None, 1, 50.0, 50.0).is_bearable(0.01)


def test_rows_of_a_sweep_each_have_their_cost(run_cli):
    words = ("sweep", *FAST, *STEPS, *LOW, "--etas", "0.2,1", "--out", "sweep", "--json")
    found = run_cli(*words)
    assert found.code == 0, found.err
    costs = [row["summary"]["settings"]["precision_cost"] for row in found.json["rows"]]
    assert all(cost["n"] == 8 for cost in costs)
    assert costs[0] != costs[1]
    # A row is a run; the sweep is shown as a table.
    kept = json.loads(Path("sweep/likelihood/settings.json").read_text())
    assert kept["settings"]["precision"] == "bf16"
    shown = run_cli("runs", "show", "sweep").out
    assert all(f"bf16: {cost['difference']:+.4f} ± {cost['se']:.4f}" in shown for cost in costs)


def test_samples_say_how_far_grey_levels_moved(run_cli):
    draw = ("sample", "--pair", "digits", "--num", "4", "--sampler", "heun", "--steps", "3", "--threads", "1")
    found = run_cli(*draw, "--precision", "bf16", "--out", "low.npz", "--json")
    assert found.code == 0, found.err
    assert run_cli(*draw, "--out", "full.npz").code == 0
    with np.load("low.npz") as low, np.load("full.npz") as full:
        away = low["images"].astype(float) - full["images"]
    cost = found.json["settings"]["precision_cost"]
    assert cost == {"grey_levels": pytest.approx(np.sqrt((away**2).mean()), rel=0.01), "n": 4}
    told = run_cli(*draw, "--precision", "bf16", "--out", "low.npz").out
    assert f"precision: bf16 moves grey levels by {cost['grey_levels']:g}" in told


@pytest.fixture
def losing(monkeypatch):
    """The pilot's first images fail in bf16 alone."""

    def found(plan, model, images, precision):
        values, evaluations = real(plan, model, images, precision)
        if precision == "bf16" and losing.of(model):
            values[: losing.n] = np.nan
        return values, evaluations

    losing = SimpleNamespace(n=1, of=lambda _: True)
    real = precision_pilot._found
    monkeypatch.setattr(precision_pilot, "_found", found)
    return losing


def test_images_that_fail_in_less_alone_are_no_cost_that_is_borne(run_cli, losing, monkeypatch):
    monkeypatch.setattr(precision_pilot, "MOST_COST", 100.0)  # whatever the others say
    words = ("vlb", *FAST, "--times", "2", "--precision", "bf16")
    refused = run_cli(*words, "--out", "run")
    assert refused.code == 2
    assert "(7 images, paired; 1 more can be scored in full alone)" in refused.err
    accepted = run_cli(*words, "--accept-precision", "--json").json
    assert accepted["settings"]["precision_cost"]["n_lost"] == 1
    losing.n = 8
    assert "no image of a pilot on 8 could be scored with --precision bf16" in run_cli(*words).err


def test_a_row_whose_pilot_fails_ends_no_other_and_a_dear_one_is_named(run_cli, losing, monkeypatch):
    losing.n, losing.of = 8, lambda model: len(model.legs()) == 1
    words = ("sweep", *FAST, *STEPS, "--precision", "bf16", "--etas", "0.2,1")
    found = run_cli(*words, "--accept-precision", "--out", "sweep", "--json")
    assert found.code == 0, found.err
    costs = ["precision_cost" in row["summary"]["settings"] for row in found.json["rows"]]
    assert sorted(costs) == [False, True]
    monkeypatch.setattr(precision_pilot, "MOST_COST", 0.0)
    refused = run_cli(*words, "--out", "other")
    assert refused.code == 2
    assert "row eta 0.2000: --precision bf16 may cost more" in refused.err
    assert not Path("other").exists()


def test_a_run_that_was_accepted_is_read_again_without_a_word(run_cli, monkeypatch):
    monkeypatch.setattr(precision_pilot, "MOST_COST", 0.0)
    words = ("vlb", *FAST, "--times", "2", "--precision", "bf16", "--out", "run")
    assert run_cli(*words).code == 2
    assert run_cli(*words, "--accept-precision").code == 0
    again = run_cli(*words)
    assert again.code == 0, again.err


def test_searches_for_a_threshold_and_a_tolerance_are_in_full(run_cli, monkeypatch):
    seen = []

    def find(*given, machine, **how):
        seen.append(("threshold", machine.is_reduced))
        return real_find(*given, machine=machine, **how)

    def scored(plan, *given):
        seen.append(("tolerance", plan.settings.machine.is_reduced))
        return real_scored(plan, *given)

    real_find, real_scored = auto.find_threshold, pilot.scored
    monkeypatch.setattr(auto, "find_threshold", find)
    monkeypatch.setattr(pilot, "scored", scored)
    words = ("nll", *FAST, *LOW, "--eta", "auto", "--tune-limit", "4", "--bpd-tol", "0.05", "--json")
    found = run_cli(*words)
    assert found.code == 0, found.err
    assert set(seen) == {("threshold", False), ("tolerance", False)}
    assert found.json["settings"]["precision"] == "bf16"


def test_a_picture_that_is_there_hides_no_part_that_is_half_drawn(tmp_path):
    """It says nothing of how it was made; the next one's part does."""
    out = tmp_path / "grid.png"
    out.write_bytes(b"")
    assert recorded_settings(out) == {}
    part_of(out).mkdir()
    (part_of(out) / "settings.json").write_text('{"format": 1, "settings": {"precision": "bf16"}}')
    assert recorded_settings(out) == {"precision": "bf16"}


def test_samples_that_are_all_there_are_measured_no_more(run_cli, monkeypatch):
    draw = ("sample", "--pair", "digits", "--num", "2", "--sampler", "heun", "--steps", "2", "--threads", "1")
    words = (*draw, "--precision", "bf16", "--out", "low.npz")
    monkeypatch.setattr(moved_pixels, "moved_in", lambda _: None)  # as of a version that measured nothing
    assert run_cli(*words).code == 0
    monkeypatch.setattr(moved_pixels, "draw", None)
    assert run_cli(*words).code == 0


def test_the_estimate_has_the_pilot_until_it_was_run(run_cli, monkeypatch):
    monkeypatch.setattr(Plan, "cost_of", lambda _, n_images: Estimate(n_images, 4, 0.1, 1.0 * n_images, 10.0))
    words = ("vlb", *FAST, "--times", "2", *LOW, "--out", "run")

    def seconds(*more):
        found = run_cli(*words, *more, "--dry-run", "--json").json["estimate"]
        return found["seconds"] - found["check_seconds"]

    # 4 images, and 8 twice.
    assert seconds() == pytest.approx(20.0)
    assert seconds("--precision", "float32") == pytest.approx(4.0)
    assert run_cli(*words).code == 0
    assert seconds("--limit", 6) == pytest.approx(2.0)
