"""What is no object of its kind is refused by name, and what was given in Python is mixed with nothing."""

import dataclasses

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.metrics import VariationalBound
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.reports.repeat import command_lines
from merged_diffusion.reports.results import read
from merged_diffusion.samplers import Sampling
from merged_diffusion.sweeps.request import Request

QUICK = md.Dopri5(1e-2, 1e-2)
PIXELS = np.random.default_rng(0).integers(0, 17, (4, 1, 8, 8)).astype(np.uint8)


def gaussian(std=0.3, **facts):
    return md.GaussianExpert((1, 8, 8), variance=std, gamma_range=(-8.0, 5.0), levels=17, name="g", **facts)


def images(pixels=PIXELS):
    return make_data("mine", "test", pixels, 17)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"probes": 4}, "probes = 4 is no Probes"),
        ({"solver": "adams"}, "solver = 'adams' is no Adams"),
        ({"solver": md.Adams}, "is no Adams"),
        ({"machine": "cuda"}, "machine = 'cuda' is no Machine"),
        ({"accept": False}, "accept = False is no Accept"),
    ],
)
def test_what_is_no_object_of_its_kind_is_refused(options, told):
    with pytest.raises(UsageError, match=told):
        md.log_likelihood(gaussian(), PIXELS, **options)
    with pytest.raises(UsageError, match=told):
        md.evaluate("digits", **options)
    if "solver" not in options and "probes" not in options:
        for call in (md.variational_bound, md.draw):
            with pytest.raises(UsageError, match=told):
                call(gaussian(), PIXELS if call is md.variational_bound else [0], **options)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: md.draw(gaussian(), [0], sampler=md.Heun), "sampler = .* is no Ode"),
        (lambda: md.draw(gaussian(), [0], sampler=md.Dopri5()), "is no Ode"),
        (lambda: md.Ode("adams"), "solver = 'adams'"),
        (lambda: md.Dopri5(shared="per-image"), "shared = 'per-image' is no bool"),
        (lambda: md.Machine(threads=1.5), "threads = 1.5, possible are 1 to"),
        (lambda: md.Machine(threads="2"), "threads = 2, possible are"),
        (lambda: md.Machine(workspace="x"), "possible are host, torch"),
        (lambda: md.Probes(True), "probes = True"),
        (lambda: Settings.of({"data": "x", "solver": md.Dopri5()}), "solver = .* is an object"),
        (lambda: Settings.of({"data": "x", "probes": md.Probes(4)}), "probes = .* is an object"),
        (lambda: Settings(data="x", preset="paper", solver=md.Adams()), "preset paper is of method dopri5"),
        (lambda: Settings(data="x", machine=md.Machine(workspace="torch")), "no run keeps it"),
        (lambda: md.evaluate(PIXELS, gaussian()), "data = ndarray"),
        (lambda: md.evaluate("digits", metric="fid"), "neither nll nor vlb"),
        (lambda: md.evaluate(Settings(data="digits", seed=7), seed=0), "seed was given beside"),
        (lambda: md.evaluate("digits", metric="vlb", solver=QUICK), "a bound has no solver"),
        (lambda: md.evaluate("digits", gaussian(), eta=0.3), "a model has its threshold"),
        (lambda: md.sweep("digits", metric="vlb", probes=md.Probes(4)), "belongs? to metric nll"),
        (lambda: md.sweep("digits", metric="sample", solver=QUICK), "their sampler's"),
        (lambda: md.sweep("digits", metric=Request(metric="sample"), limit=4), "limit 4 belongs to metric"),
        (lambda: md.sweep("digits", metric=Request(metric="sample"), seed=5), "5 of the settings, but 0"),
        (lambda: md.sweep({"data": "digits"}), "data = dict"),
        (lambda: md.find_threshold(gaussian(), gaussian(), images(), solver=QUICK), "is no Adams"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, told):
    with pytest.raises(UsageError, match=told) as refused:
        make()
    assert refused.value.exit_code == 2


def test_settings_that_are_replaced_are_as_if_they_were_made_so():
    for changed in ({"solver": md.Adams()}, {"solver": md.Dopri5()}, {"preset": "paper"}, {"preset": "fast"}):
        for first in (Settings(data="x"), Settings(data="x", solver=md.Dopri5())):
            if "preset" in changed and first.solver is not None:
                continue
            whole = {"solver": first.solver} | changed
            assert dataclasses.replace(first, **changed).as_dict() == Settings(data="x", **whole).as_dict()
    assert Sampling(md.Heun()).as_dict()["sampler"] == "heun"


def test_what_was_given_in_python_is_never_gone_on_with(tmp_path):
    out = tmp_path / "run"
    first = md.evaluate(images(), gaussian(), limit=2, solver=QUICK, out=out)
    alone = md.log_likelihood(gaussian(), images().select(limit=2), solver=QUICK)
    assert first.means.bits_per_dim.mean == alone.mean
    for data, model in ((images(), gaussian(0.5)), (images(16 - PIXELS), gaussian()), ("digits", gaussian())):
        with pytest.raises(UsageError, match="holds a run"):
            md.evaluate(data, model, limit=4, solver=QUICK, out=out)
    assert command_lines(read(out)) == ["# its model was given in Python, to merged_diffusion.evaluate"]


def test_the_convention_that_is_kept_is_the_models(tmp_path):
    ends, others = gaussian(), gaussian(0.4)
    ends.pixels = others.pixels = "ends"
    model = md.MergedModel(ends, others, md.Threshold.gamma(0.0), convention="paper")
    md.evaluate(images(), model, limit=1, solver=QUICK, out=tmp_path / "run")
    assert md.open_run(tmp_path / "run").settings["settings"]["convention"] == "paper"


def test_a_callers_network_and_threads_are_as_they_were():
    expert = md.load_expert("bundled:digits-vdm").to(torch.float64)
    before = {name: value.clone() for name, value in expert.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in expert.parameters()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = md.evaluate("digits", expert, limit=2, metric=VariationalBound(2))
        assert torch.get_num_threads() == 1
        assert found.identity.settings["threads"] == 1
    finally:
        torch.set_num_threads(threads)
    assert [parameter.requires_grad for parameter in expert.parameters()] == wanted
    for name, value in expert.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_samples_keep_every_word_that_they_depend_on():
    settings = Settings(data="", pair="digits", preset="paper", machine=md.Machine("cpu", threads=1))
    plan = SamplePlan.make(settings, Sampling(md.Heun(steps=3), seed=2), (0, 2)).on({})
    assert plan.identity()["settings"] == {
        "seed": 2,
        "sampler": "heun",
        "steps": 3,
        "decode": "argmax",
        "s_churn": 0.0,
        "s_min": 0.0,
        "s_noise": 1.0,
        "convention": "paper",
        "range": "native",
        "extrapolate": False,
        "labels": "none",
        "batch_size": 16,
        "threads": 1,
        "device": "cpu",
        "dtype": "float32",
        "compile": None,
    }
