"""Workers of a crew that measure for ``threshold``, ``gate`` and ``fid``: the numbers of one process."""

from functools import partial

import numpy as np
import pytest
from tests.jobs.one_pool import crew

from merged_diffusion import Settings, load_data
from merged_diffusion.errors import RunMismatchError
from merged_diffusion.gating.gated import gated
from merged_diffusion.gating.gated_of import gated_of
from merged_diffusion.jobs.measuring_images import HERE
from merged_diffusion.jobs.plan import place
from merged_diffusion.jobs.ray_process import RayProcess
from merged_diffusion.jobs.shared_measuring import SharedMeasuring
from merged_diffusion.quality.feature_rows import FeatureRecipe, FeatureRows, ImageSource
from merged_diffusion.quality.features import extractor
from merged_diffusion.thresholds.auto import without_threshold
from merged_diffusion.thresholds.choice_recipe import ChoiceRecipe
from merged_diffusion.thresholds.choose import choose
from merged_diffusion.thresholds.choose_switches import choose_switches

EXPERTS = """
from merged_diffusion import GaussianExpert

def normal(low, high, std, pixels="centred"):
    return GaussianExpert((1, 8, 8), variance=std**2, gamma_range=(low, high), levels=17, pixels=pixels)

likelihood = normal(-7.876, 5.0, 0.64)
middle = normal(-7.5, 7.0, 0.66)
quality = normal(-7.006, 8.764, 0.72)
"""
SETTINGS = {"data": "digits", "ids": (0, 3), "seed": 5, "tol": 0.5, "dequantise": "decoder"}
SETTINGS |= {"batch_size": 2, "threads": 1, "device": "cpu"}
HOW = {"tune_data": None, "tune_limit": 6}
# Of the Gaussians, which no data set is drawn from.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
# What a clock decides, and which of two choices near the best is shown for its seconds.
VARYING = ("seconds", "call_seconds", "pilot_seconds", "calls", "choices", "calls_scaled_from", "versions")
WAYS = {
    "threshold": choose,
    "gate": partial(gated, form="low-noise", exact=2),
    "threshold of three": choose_switches,
    "gate of three": partial(gated_of, exact=2),
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Plans of two experts and of three, in a file."""
    path = tmp_path_factory.mktemp("experts") / "experts.py"
    path.write_text(EXPERTS)
    two = {f"{name}_expert": f"{path}:{name}" for name in ("likelihood", "quality")}
    three = {"experts": tuple(f"{path}:{name}" for name in ("likelihood", "middle", "quality"))}
    return [
        place(without_threshold(Settings.of(SETTINGS | experts)), None)[0] for experts in (two, three, three)
    ]


def told(found):
    def kept(value):
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in VARYING}
        return [kept(item) for item in value] if isinstance(value, list | tuple) else value

    return kept(found.as_dict())


def measured(plan, path, way, pool_of=crew):
    recipe, names = ChoiceRecipe.of(plan, **HOW)
    shares = pool_of(recipe)
    with SharedMeasuring(path, {"command": way}, shares, plan, names=names) as kept:
        return told(WAYS[way](plan, measuring=kept.whole(), **HOW)), shares.pool


@pytest.mark.parametrize("way", WAYS)
def test_what_workers_measure_decides_as_one_process_does_though_some_are_lost(plans, tmp_path, way):
    plan = plans["three" in way]
    found, pool = measured(plan, tmp_path / "work", way, partial(crew, loses=(1, 9, 20)))
    assert pool.number == 3
    assert pool.most < 20_000  # neither networks nor images travel
    alone = told(WAYS[way](plan, measuring=HERE, **HOW))
    # Evaluations that models share are known of blocks that were whole, and scaled.
    for each in (found, alone):
        each.pop("evaluations", None)
    assert found == alone


def test_a_command_that_was_stopped_goes_on_from_what_it_kept(plans, tmp_path):
    def stopped(recipe):
        shares = crew(recipe)
        hear = shares.pool.hear

        def heard(seconds):
            if shares.pool.n_said > 12:
                raise KeyboardInterrupt
            return hear(seconds)

        shares.pool.hear = heard
        return shares

    whole, pool = measured(plans[0], tmp_path / "whole", "threshold")
    with pytest.raises(KeyboardInterrupt):
        measured(plans[0], tmp_path / "work", "threshold", stopped)
    found, rest = measured(plans[0], tmp_path / "work", "threshold")
    assert found["confirmed"] == whole["confirmed"]
    assert found["found"] == whole["found"]
    assert 0 < rest.n_said < pool.n_said
    again, none = measured(plans[0], tmp_path / "work", "threshold")
    assert again["found"] == whole["found"]
    assert none.number == -1  # nobody was hired


def test_a_worker_that_would_choose_on_other_images_is_refused(plans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = load_data("digits", "train").images[:6].copy()
    np.savez("tune.npz", images=images, levels=17)
    recipe, _ = ChoiceRecipe.of(plans[0], "tune.npz", 6)
    images[0, 0, 0, 0] ^= 1
    np.savez("tune.npz", images=images, levels=17)
    said = RayProcess(".").prepare(recipe)
    assert isinstance(said.error, RunMismatchError)
    assert "other images to choose on" in str(said.error)


def test_features_by_workers_are_those_of_this_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = ImageSource("digits", None, "train", limit=150)
    images, network = source.load(), extractor("digits", rows=8)
    how = {"rows": 8, "cache": None, "device": "cpu", "threads": 1}
    recipe, names = FeatureRecipe.of({"images": source}, {"images": images}, {"digits": network}, **how)
    shares, counted = crew(recipe, loses=(1, 3)), []
    with SharedMeasuring(tmp_path / "work", {"command": "fid"}, shares, names=names) as kept:
        rows = kept.whole().rows(
            "images", images, network.dim, FeatureRows(network, images),
            rows=8, is_steady=True, observe=counted.append,
        )  # fmt: skip
        assert (rows.all() == network(images.images)).all()
    assert shares.pool.number == 2
    assert sum(counted) == 150
    assert shares.pool.most < 5_000
    np.savez("set.npz", images=images.images, levels=17)
    other = ImageSource("set.npz", None)
    recipe, _ = FeatureRecipe.of({"images": other}, {"images": other.load()}, {"digits": network}, **how)
    np.savez("set.npz", images=images.images[1:], levels=17)
    said = RayProcess(".").prepare(recipe)
    assert isinstance(said.error, RunMismatchError)
    assert "a worker finds other images (images)" in str(said.error)
