"""Whether experts suit each other, and the space of images in which they are merged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

from merged_diffusion.errors import ExpertError
from merged_diffusion.experts.base import Expert, ImageShape, check_posterior
from merged_diffusion.experts.centred import Centred

Convention = Literal["exact", "paper"]


def in_model_space(expert: Expert, convention: Convention) -> Expert:
    """The expert for ``centred`` pixels; under the paper's convention as it is."""
    if expert.pixels == "ends" and convention == "exact":
        return cast(Expert, Centred(expert))
    return expert


def common_shape(experts: tuple[Expert, ...]) -> ImageShape:
    """C, H, W that all experts take; None where each takes any."""
    axes = zip(*(expert.image_shape for expert in experts), strict=True)
    channels, height, width = (next((size for size in sizes if size is not None), None) for sizes in axes)
    return channels, height, width


def check_pair(likelihood: Expert, quality: Expert) -> None:
    """Refuse two experts in parts that are not theirs, and tell where both are one."""
    for expert in (likelihood, quality):
        check_posterior(expert, "merging it at a gamma", guided=expert is quality)
    kinds = getattr(likelihood, "kind", None), getattr(quality, "kind", None)
    if kinds == ("edm", "vdm"):
        raise ExpertError(
            f"the likelihood expert {likelihood.name} is of kind edm and the quality expert {quality.name} "
            "of kind vdm",
            hint="exchange the two",
            expert=likelihood.name,
            expected=("vdm", "edm"),
            found=kinds,
        )
    hashes = getattr(likelihood, "sha256", None), getattr(quality, "sha256", None)
    if likelihood is quality or (hashes[0] is not None and hashes[0] == hashes[1]):
        warnings.warn(
            f"likelihood and quality expert are the same, {likelihood.name}: merging changes nothing",
            stacklevel=3,
        )


def check_alike(experts: Sequence[Expert], roles: Sequence[str]) -> None:
    """Refuse experts of other images than the first one's."""
    first = experts[0]
    for expert, role in zip(experts[1:], roles[1:], strict=True):
        sizes = zip(first.image_shape, expert.image_shape, strict=True)
        for what, one, two, is_other in (
            (
                "images of shape",
                first.image_shape,
                expert.image_shape,
                any(None not in pair and len(set(pair)) > 1 for pair in sizes),
            ),
            ("grey levels", first.levels, expert.levels, first.levels != expert.levels),
        ):
            if is_other:
                raise ExpertError(
                    f"the {roles[0]} expert {first.name} takes {what} {one}, the {role} expert {expert.name} "
                    f"{two}: they cannot be merged",
                    expert=expert.name,
                    expected=one,
                    found=two,
                )


def first_gammas(experts: Sequence[Expert]) -> list[float]:
    """Gammas at which experts may change over: the next one begins as soon as it may."""
    at, found = experts[0].gamma_range[0], []
    for one, two in pairwise(experts):
        at = min(max(at, two.gamma_range[0]), one.gamma_range[1])
        found.append(at)
    return found
