"""What must be declared of an expert."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import Expert, check_declaration, check_labels, like_input


class Stub:
    """The least that is an expert: no torch module, no base class."""

    name = "stub"
    gamma_range = (-10.0, 5.0)
    pixels = "centred"
    levels = 256
    image_shape = (3, None, None)
    conditional = False

    def __init__(self, **facts: object) -> None:
        vars(self).update(facts)

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        return 0.5 * z


def test_any_object_with_the_facts_is_an_expert() -> None:
    assert isinstance(Stub(), Expert)
    check_declaration(Stub())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"pixels": "raw"}, "pixels = 'raw'"),
        ({"levels": 0}, "at least 2 grey levels"),
        ({"image_shape": (3, 8)}, r"\(C, H, W\)"),
        ({"image_shape": (3, 0, 8)}, r"\(C, H, W\)"),
    ],
)
def test_impossible_facts_are_refused(facts: dict[str, object], said: str) -> None:
    with pytest.raises(ExpertError, match=said):
        check_declaration(Stub(**facts))


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"gamma range \[5, -10\]"):
        check_declaration(Stub(gamma_range=(5.0, -10.0)))


def test_missing_facts_are_listed() -> None:
    with pytest.raises(
        ExpertError, match="no gamma_range, pixels, levels, image_shape, conditional"
    ) as refused:
        check_declaration(SimpleNamespace(name="half"))
    assert refused.value.hint is not None


def test_like_input_names_what_differs() -> None:
    z = torch.zeros(2, 3, 4, 4)
    assert like_input("net", z, z) is z
    with pytest.raises(ExpertError, match=r"net returned shape \(2, 1, 4, 4\) for an input of shape"):
        like_input("net", z[:, :1], z)
    with pytest.raises(ExpertError, match=r"dtype torch.float64 for an input of dtype torch.float32"):
        like_input("net", z.double(), z)


class Classes:
    name, conditional, label_range = "classes", True, (-1, 9)


@pytest.mark.parametrize(("labels", "wrong"), [([0, 10], "10"), ([-2, 3], "-2")])
def test_class_that_the_expert_does_not_know_is_refused(labels, wrong):
    with pytest.raises(UsageError, match=rf"label {wrong} is no class of expert classes: 0 to 9"):
        check_labels(Classes(), np.array(labels))


def test_labels_of_its_classes_pass():
    check_labels(Classes(), np.array([-1, 0, 9]))
