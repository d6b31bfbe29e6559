"""`sweep` in Python: the table of the command line, from settings that name no threshold."""

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion import Settings, sweep
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.metrics import VariationalBound
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams
from merged_diffusion.runs import open_run
from merged_diffusion.runs.settings_file import json_text
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.request import Request

FEW = {"data": "digits", "limit": 2, "rtol": 1e-3, "atol": 1e-3, "device": "cpu", "threads": 1}

FEW_BOUNDS = {"data": "digits", "limit": 2, "device": "cpu", "threads": 1}


def test_rows_compared_and_kept(tmp_path):
    seen = []
    table = sweep(
        Settings.of(FEW), [0.4, 0.1], out=tmp_path / "swept", observe=lambda row, record: seen.append(row)
    )
    assert [row.name for row in table.rows] == ["eta 0.1000", "eta 0.4000"]
    assert sorted(seen) == ["eta 0.1000"] * 2 + ["eta 0.4000"] * 2
    kept = open_run(tmp_path / "swept" / "eta-0.1000")
    alone = md.evaluate(Settings.of(FEW | {"eta": 0.1})).as_dict()
    assert table.rows[0].summary["bits_per_dim"] == alone["bits_per_dim"]
    assert kept.settings["threshold"] == alone["threshold"]
    assert table.evaluations.spent < table.evaluations.single_runs
    assert table.best.name == min(table.rows, key=lambda row: row.value).name


def test_a_sweep_that_is_complete_keeps_its_cost(tmp_path):
    first = md.sweep(Settings.of(FEW), [0.4, 0.1], out=tmp_path / "swept")
    again = md.sweep(Settings.of(FEW), [0.4, 0.1], out=tmp_path / "swept")
    assert again.evaluations == first.evaluations
    assert first.seconds <= again.seconds < 2 * first.seconds


@pytest.mark.parametrize("given", [{"eta": 0.3}, {"gamma": -3.0}, {"expert": "bundled:digits-vdm"}])
def test_settings_of_one_threshold_are_refused(given):
    with pytest.raises(UsageError, match="was given, but a sweep"):
        sweep(Settings.of(FEW | given))


def test_a_set_may_be_named_and_settings_leave_nothing_to_say():
    named = sweep("digits", [0.4], metric="vlb", times=2, limit=2, machine=Machine("cpu", threads=1))
    given = Settings(data="digits", limit=2, machine=Machine("cpu", threads=1))
    same = sweep(given, [0.4], metric=Request(metric="vlb", times=2))
    assert named.rows[0].summary["bits_per_dim"] == same.rows[0].summary["bits_per_dim"]
    for options, told in (
        ({"limit": 3}, "settings say how"),
        ({"metric": Request(metric="vlb"), "times": 3}, "says all"),
        ({"metric": "sample", "solver": Adams()}, "settings say how"),
    ):
        with pytest.raises(UsageError, match=told):
            sweep(given, **options)
    with pytest.raises(UsageError, match="their sampler's"):
        sweep("digits", metric="sample", solver=Adams())


SAMPLES = {"data": "digits", "device": "cpu", "threads": 1, "seed": 3}


def test_bounds_are_those_of_evaluate():
    table = sweep(Settings.of(FEW_BOUNDS), [0.4, 0.1], metric=Request(metric="vlb", times=4, profile=True))
    alone = md.evaluate(
        Settings.of(FEW_BOUNDS | {"eta": 0.1}), metric=VariationalBound(4, profile=True)
    ).as_dict()
    assert table.rows[0].summary["bits_per_dim"] == alone["bits_per_dim"]
    assert table.rows[0].summary["profile"] == alone["profile"]


def test_samples_are_those_of_draw_and_are_given_as_they_are_made(tmp_path):
    seen = {}
    table = sweep(
        Settings.of(SAMPLES),
        [0.4, 0.1],
        metric="sample",
        num=20,
        sampler=Heun(3),
        out=tmp_path / "swept",
        observe=lambda row, samples: seen.setdefault(row, []).append(len(samples)),
    )
    assert {row: sum(counts) for row, counts in seen.items()} == {"eta 0.1000": 20, "eta 0.4000": 20}
    pair = md.load_pair("digits", eta=0.4)
    own = md.draw(pair, range(20), seed=3, sampler=Heun(3))
    with np.load(tmp_path / "swept" / "eta-0.4000" / "samples.npz") as kept:
        assert (kept["images"] == own.images).all()
    found = md.assess(own.images, "digits")["primary"]
    assert table.rows[1].summary["quality"]["primary"] == found


def test_samples_are_measured_against_what_is_named(tmp_path):
    np.savez(tmp_path / "mine.npz", images=md.load_data("digits").images[:60], levels=17)
    settings = Settings.of(SAMPLES | {"data": str(tmp_path / "mine.npz"), "pair": "digits"})

    def figure(of=settings, **words):
        how = Sampling(Heun(3), SAMPLES["seed"])
        (row,) = sweep(of, [0.4], metric=Request(metric="sample", num=20, how=how, **words))
        return row.figure

    by_default = figure()
    assert figure(ref=str(tmp_path / "mine.npz")) == by_default
    assert sweep(settings, [0.4], metric="sample", num=20, sampler=Heun(3))[0].figure == by_default
    assert figure(features="pixels").name == "frechet-pixels"
    assert figure(ref="digits") == figure(Settings.of(SAMPLES)) != by_default


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ({"limit": 4}, {"metric": "sample"}, "limit 4 belongs to metric nll and vlb"),
        ({}, {"metric": "vlb", "num": 10}, "num 10 belongs to metric sample"),
        ({}, {"sampler": "heun"}, "belongs to metric sample, and the metric is nll"),
        ({"preset": "fast"}, {"metric": "vlb"}, "preset fast belongs to metric nll"),
        ({}, {"metric": "fid"}, "possible are nll, vlb, sample"),
        ({}, {"metric": "vlb", "times": 0}, "times 0 lies below 1"),
    ],
)
def test_options_of_another_metric_are_refused(given, options, told):
    with pytest.raises(UsageError, match=told):
        sweep(Settings.of(SAMPLES | given), **options)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"data": "digits", "limit": 1, "tol": 0.05, "device": "cpu", "threads": 1}, {}),
        (FEW_BOUNDS, {"metric": "vlb", "times": 2}),
        (SAMPLES, {"metric": "sample", "num": 20, "sampler": Heun(3)}),
    ],
)
def test_a_table_that_is_read_is_written_as_it_was(tmp_path, given, options):
    table = sweep(Settings.of(given), [0.4, 0.1, 0], **options, out=tmp_path)
    kept = (tmp_path / sweep_folder.NAME).read_bytes()
    sweep_folder.write(tmp_path, lambda: sweep_folder.read(tmp_path))
    assert (tmp_path / sweep_folder.NAME).read_bytes() == kept == json_text(table.as_dict())
