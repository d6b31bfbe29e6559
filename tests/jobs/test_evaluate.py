"""An evaluation as calls: settings, shares, summaries."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.cost import NOMINAL_EVALUATIONS, estimate
from merged_diffusion.jobs.evaluate import evaluate
from merged_diffusion.jobs.identity import ExpertIdentity, Identity, LegSpan, SetIdentity
from merged_diffusion.jobs.kept_runs import wanted_ids
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.published_table import beside, of_expert
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.merge import as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, Dopri5, Probes
from merged_diffusion.scores.differences import paired
from merged_diffusion.scores.record import Record


def plan(n, **settings):
    data = make_data("some", "test", np.zeros((n, 1, 2, 2), np.uint8), 4)
    settings = Settings.of({"data": "some", "batch_size": 4, **settings})
    return Plan(settings=settings, models=None, data=data, whole=data)


def ids(data):
    return [] if data is None else data.ids.tolist()


def test_preset_fills_what_is_not_given_and_given_values_win():
    assert Settings.of({"data": "x"}).solver == Adams()
    paper = Settings.of({"data": "x", "preset": "paper", "rtol": 1e-7})
    assert (paper.options().solver, paper.pixel_convention) == (Dopri5(1e-7, 1e-5, shared=True), "paper")
    assert paper.options().probes == Probes(kind="fixed", scheme="independent")
    assert Settings(data="x", preset="fast").options().solver == Adams(tol=3e-2, h_max=1.0)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"preset": "paper", "limit": 3},
        {"preset": "fast", "tol": 1e-2, "probe": "exact", "batch_coupled": True},
        {"method": "dopri5", "step_control": "shared", "probes": 3, "accept_gradient": "mine"},
        {"h_max": 0.5, "threads": 2, "device": "cpu", "dtype": "float64", "batch_size": 4},
        {"eta": "min", "importance": 3, "repeats": 2, "dequantise": "uniform", "seed": 5, "compare": True},
    ],
)
def test_words_that_a_run_keeps_are_read_back(words):
    asked = Settings.of({"data": "x", **words})
    assert Settings.of(asked.as_dict()).as_dict() == asked.as_dict()
    assert {name: asked.as_dict()[name] for name in words} == words


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_disjoint_and_cover_the_selection(count):
    shares = [ids(plan(7).share((index, count), [])) for index in range(count)]
    assert sorted(i for share in shares for i in share) == list(range(7))
    assert shares[0] == list(range(0, 7, count))


def test_share_leaves_out_what_any_worker_holds():
    assert ids(plan(7).share((1, 2), [1, 2])) == [3, 5]
    assert plan(3).share((0, 1), [0, 1, 2]) is None


def test_unfinished_block_of_shared_steps_is_done_again_whole():
    shared = plan(10, step_control="shared")
    assert ids(shared.share((0, 1), [0, 1, 2, 3, 5])) == [4, 5, 6, 7, 8, 9]
    assert ids(shared.share((1, 2), [])) == [4, 5, 6, 7]


def test_wanted_ids_are_the_union_of_all_commands():
    settings = {
        "data": {"n_set": 10},
        "selections": [{"limit": None, "ids": [0, 2]}, {"limit": None, "ids": [1, 4]}],
    }
    assert wanted_ids(SimpleNamespace(settings=settings)) == [0, 1, 2, 3]


def test_paired_difference_is_over_the_ids_that_both_scored():
    def records(values, failed=()):
        return [
            Record(id=i, bits_per_dim=v, status="nonfinite" if i in failed else "ok", evaluations={})
            for i, v in values.items()
        ]

    result = paired(records({0: 3.0, 1: 3.5, 2: 9.0}, failed=[2]), records({1: 3.0, 0: 3.0, 2: 1.0, 7: 0.0}))
    assert result.n == 2
    assert result.difference == pytest.approx(0.25)


def test_labels_from_data_without_labels_are_refused():
    asked = plan(3, labels="from-data")
    with pytest.raises(UsageError, match="no labels"):
        asked.labels(asked.data)


# The paper's figures.


def identity(eta=0.4, name="cifar10", **changes):
    """Of a run as the paper's, as far as the public files go."""
    known = {"pixels": "centred", "levels": 256, "weights_sha256": "", "code_sha256": None, "provenance": {}}
    experts = {
        role: ExpertIdentity(name=source, source=source, gamma_range=ends, **known)
        for role, source, ends in (
            ("likelihood", "google-vdm-cifar10", (-13.3, 5.0)),
            ("quality", "edm-cifar10-32x32-uncond-vp", (-12.43, 8.764)),
        )
    }
    settings = Settings.of({"data": name, "preset": "paper", "dtype": "float32"}).as_dict()
    data = {"name": name, "split": "test"} | changes.pop("data", {})
    found = Identity(
        command="nll",
        model="merged",
        settings=settings | {"eta": eta},
        data=SetIdentity(**data, sha256="", n_set=10_000, image_shape=[3, 32, 32], levels=256),
        threshold={"eta": eta if isinstance(eta, float) else 0.83},
        legs=(LegSpan("likelihood", -13.3, -4.4744), LegSpan("quality", -4.4744, 8.764)),
        extrapolated=False,
        experts=experts,
    )
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("eta", "figures"),
    [
        *((0.0, (3.21, 204)), (1.0, (2.64, 248)), ("min", (3.09, 232)), ("max", (2.64, 274))),
        *((0.1, (2.83, 234)), (0.3, (2.63, 253)), (0.4, (2.62, 259)), (0.8, (2.63, 273))),
    ],
)
def test_papers_figures_belong_to_its_thresholds(eta, figures):
    found = beside(identity(eta), 10_000)
    assert (found.bits_per_dim, found.evaluations) == figures


def test_only_the_network_differs_where_all_else_is_the_papers():
    (difference,) = beside(identity(), 10_000).differences
    assert "its own training" in difference


@pytest.mark.parametrize(
    "changes",
    [
        {"eta": 0.35},
        {"name": "photos"},
        {"name": "imagenet32-new"},
        {"data": {"name": "cifar10", "split": "train"}},
        {"data": {"name": "cifar10", "split": "test", "modified": True}},
        {"threshold": None},
    ],
)
def test_papers_figures_stand_beside_its_data_and_thresholds_alone(changes):
    assert beside(identity(**changes), 10_000) is None


def test_each_setting_that_differs_is_stated():
    differing = {"importance": 20, "dtype": "float64", "step_control": "per-image", "labels": "from-data"}
    own = identity()
    found = beside(replace(own, settings={**own.settings, **differing}), 100).differences
    assert "100 of 10000 images" in found
    for key, value in differing.items():
        assert any(line.startswith(f"{key.replace('_', '-')} {value}; the paper's") for line in found)


def test_learned_ends_of_gamma_are_stated():
    legs = (LegSpan("likelihood", -13.29, -4.4744), LegSpan("quality", -4.4744, 8.764))
    found = beside(identity(legs=legs), 10_000).differences
    assert "gamma from -13.29 to 8.764; the paper's from -13.3 to 8.764" in found


def test_old_imagenet32_has_figures_and_both_its_experts_differ():
    found = beside(identity(0.5, name="imagenet32-old"), 49_999)
    assert (found.bits_per_dim, found.evaluations) == (3.72, 196)
    assert sum("its own training" in line for line in found.differences) == 2


def test_one_expert_alone_has_the_ends_of_the_table():
    assert of_expert(identity(), "quality").as_dict() == {"bits_per_dim": 3.21, "evaluations": 204}
    alone = identity(model="likelihood", threshold=None)
    assert beside(alone, 10_000).bits_per_dim == 2.64


def test_estimate_counts_the_evaluations_that_short_steps_need():
    expert = md.GaussianExpert((1, 2, 2), variance=0.3, gamma_range=(-13.0, 8.0))

    def evaluations(h_max: float) -> float:
        settings = Settings(data="x", solver=Adams(h_max=h_max), machine=Machine(batch_size=4))
        return estimate([expert], (1, 2, 2), settings, n_solves=4).evaluations_per_image

    assert [evaluations(h) for h in (0.7, 0.1, 0.05)] == [NOMINAL_EVALUATIONS["adams"], 210, 420]


@pytest.mark.filterwarnings("ignore:at gamma_min")
@pytest.mark.parametrize(("name", "role"), [("digits-edm", "quality"), ("digits-vdm", "likelihood")])
def test_an_expert_alone_is_counted_under_one_role_in_python_and_on_the_command_line(name, role):
    data = md.load_data("digits").select(limit=2)
    called = md.log_likelihood(md.load_expert(f"bundled:{name}"), data)
    counts = {key: float(value.mean()) for key, value in called.evaluations.items()}
    summary = evaluate(Settings.of({"data": "digits", "limit": 2, "expert": f"bundled:{name}"}))
    assert {key: summary.means.evaluations[key] for key in counts} == pytest.approx(counts)
    assert [key for key, value in counts.items() if value] == [role]


@pytest.mark.filterwarnings("ignore:at gamma_min")
def test_records_that_count_an_edm_as_a_likelihood_expert_are_still_read():
    data = md.load_data("digits").select(limit=2)
    model = as_model(md.load_expert("bundled:digits-edm"), role="likelihood")  # as Python counted it
    old, new = (md.log_likelihood(m, data) for m in (model, md.load_expert("bundled:digits-edm")))
    assert md.paired_difference(old, new).difference == 0
    assert old.summary().evaluations["total"] == new.summary().evaluations["total"]
