"""Experts and images go by their names, and everything that is made of them is made again of one's own."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from merged_diffusion import GaussianExpert, MergedModel, Threshold, load_data
from merged_diffusion.experts.centred import Centred
from merged_diffusion.gating.simplex_fit import flat
from merged_diffusion.merge import as_model
from merged_diffusion.scores.named_objects import ByName
from merged_diffusion.soft_gate import Gate

LOW, HIGH = (-8.0, 5.0), (-7.0, 8.0)


def expert(gamma_range, pixels="centred"):
    return GaussianExpert((1, 8, 8), variance=0.5, gamma_range=gamma_range, levels=17, pixels=pixels)


def process():
    """What a process has, loaded anew."""
    digits = load_data("digits", "train")
    experts = {"likelihood": expert(LOW), "quality": expert(HIGH, "ends")}
    return experts, {"data": digits.select(limit=30), "tune": load_data("digits")}


def sent(value, here, there):
    content = ByName(*here).dumps(value)
    assert len(content) < 3_000
    return ByName(*there).loads(content)


GATE = Gate(-6.0, 4.0, (0.1, 0.2, 0.4, 0.2, 0.1))
MODELS = {
    "a threshold": lambda a, b: MergedModel(a, b, Threshold.eta(1 / 3), eta_range=(-8.0, 8.5)),
    "a gamma near an end": lambda a, b: MergedModel(a, b, Threshold.gamma(5.0 - 1e-9)),
    "an expert alone by a threshold": lambda a, b: MergedModel(a, b, Threshold.eta("min"), range="merged"),
    "the paper's convention": lambda a, b: MergedModel(a, b, Threshold.edm_sigma(0.1), convention="paper"),
    "a gate": lambda a, b: MergedModel(a, b, gate=GATE),
    "several": lambda a, b: MergedModel.of([a, b], [-1.5]),
    "a gate of several": lambda a, b: MergedModel.of([a, b], gate=flat([LOW, HIGH])),
    "an expert alone": lambda a, b: as_model(b, role="quality"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.filterwarnings("ignore:an expert of two images")
def test_a_model_is_made_again_of_the_other_process_s_experts(kind):
    here, there = process(), process()
    model = MODELS[kind](*here[0].values())
    found = sent(model, here, there)
    assert set(map(id, found.experts)) <= set(map(id, there[0].values()))
    for one, other in zip(model.legs(), found.legs(), strict=True):
        assert replace(one, expert=None) == replace(other, expert=None)
        assert type(one.expert) is type(other.expert)
        parts = [each.expert if isinstance(each, Centred) else each for each in other.parts]
        assert set(map(id, parts)) <= set(map(id, there[0].values()))
    assert (found.threshold, found.gamma_range, found.gate) == (
        model.threshold,
        model.gamma_range,
        model.gate,
    )


def test_thresholds_can_be_copied():
    for one in (Threshold.eta(0.3), Threshold.eta("max"), Threshold.gamma(-6.5), Threshold.logsnr(2.0)):
        assert copy.deepcopy(one) == one


def test_sets_and_parts_of_them_go_by_their_names():
    here, there = process(), process()
    data = here[1]["data"]
    assert sent(data, here, there) is there[1]["data"]
    for part in (data.select(limit=7), data.where(data.ids % 3 == 0), here[1]["tune"][10:20]):
        found = sent(part, here, there)
        assert (found.images == part.images).all()
        assert (found.ids == part.ids).all()
        assert (found.labels == part.labels).all()


@pytest.mark.parametrize("change", ["pixels", "ids", "order", "labels"])
def test_what_is_no_part_of_a_set_goes_by_itself(change):
    here, there = process(), process()
    part = here[1]["data"].select(limit=7)
    if change == "pixels":
        images = part.images.copy()
        images[3, 0, 0, 0] ^= 1
        part = replace(part, images=images)
    elif change == "ids":
        part = replace(part, ids=part.ids + 1)
    elif change == "order":
        part = part[::-1]
    else:
        part = replace(part, labels=(part.labels + 1) % 10)
    found = ByName(*there).loads(ByName(*here).dumps(part))
    for column in ("images", "ids", "labels"):
        assert np.array_equal(getattr(found, column), getattr(part, column))


def test_the_same_bytes_are_the_same_value_and_an_unknown_name_is_refused():
    here, there = process(), process()
    content = ByName(*here).dumps({"all": here[1]["data"]})
    names = ByName(*there)
    assert names.loads(content) is names.loads(content)
    with pytest.raises(KeyError, match="data"):
        ByName({}, {}).loads(content)
