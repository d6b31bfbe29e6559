"""Whether experts suit each other, and the space of images in which they are merged."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

from merged_diffusion._core import SNAP
from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import Expert, ImageShape, check_posterior
from merged_diffusion.experts.blend import Blend
from merged_diffusion.experts.centred import Centred
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.soft_gate import Gate

Convention = Literal["exact", "paper"]


def in_model_space(expert: Expert, convention: Convention) -> Expert:
    """The expert for ``centred`` pixels; under the paper's convention as it is."""
    if expert.pixels == "ends" and convention == "exact":
        return cast(Expert, Centred(expert))
    return expert


def in_charge(
    experts: Sequence[Expert],
    groups: Sequence[tuple[int, ...]],
    gate: Gate | SimplexGate | None,
    convention: Convention,
) -> tuple[Expert, ...]:
    """What a model asks on its legs: of each group of numbers the one expert, or several under a gate."""
    if convention not in ("exact", "paper"):
        raise UsageError(f'convention = {convention!r} is neither "exact" nor "paper"')
    each = [in_model_space(expert, convention) for expert in experts]
    return tuple(
        each[who[0]]
        if len(who) == 1
        else Blend([each[i] for i in who], cast("Gate | SimplexGate", gate), who)
        for who in groups
    )


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
        warn_caller(f"likelihood and quality expert are the same, {likelihood.name}: merging changes nothing")


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
    """Gammas at which experts may change over, such that as many of them as can be have a part.

    Raises
    ------
    UsageError
        Nothing leads from the first one's lower end to the last one's upper end.
    """
    ranges = [expert.gamma_range for expert in experts]
    low, high = ranges[0][0], ranges[-1][1]
    ends = sorted({low, high, *(end for one in ranges for end in one if low < end < high)})
    # Every interval between ends in as many parts as there are experts, who may all share it.
    n = len(ranges)
    grid = [a + (b - a) * part / n for a, b in pairwise(ends) for part in range(n)] + [ends[-1]]
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}  # by the last in charge: how many, and who
    for number, (a, b) in enumerate(pairwise(grid)):
        found = {}
        for i, (first, last) in enumerate(ranges):
            before = [
                (count + (j != i or not number), course) for j, (count, course) in best.items() if j <= i
            ]
            if first <= a and b <= last and before:
                count, course = max(before, key=lambda way: way[0])
                found[i] = count, (*course, i)
        best = found
    if not best or low >= high:
        told = ", ".join(
            f"{expert.name} {a:g} to {b:g}" for expert, (a, b) in zip(experts, ranges, strict=True)
        )
        raise UsageError(
            f"no thresholds lead through experts trained on gamma {told}, in this order, from {low:g} to "
            f"{high:g}",
            hint="name them in the order of rising noise, and leave out who cannot take over",
        )
    _, course = max(best.values(), key=lambda way: way[0])
    return [grid[bisect_right(course, number)] for number in range(n - 1)]


def snapped(gammas: Sequence[float], experts: Sequence[Expert]) -> list[float]:
    """Gammas, those within `SNAP` of an end of a range moved onto it, as the threshold of a pair is."""
    ends = [end for expert in experts for end in expert.gamma_range]
    nearest = [min(ends, key=lambda end: abs(end - gamma)) for gamma in gammas]
    return [end if abs(end - gamma) <= SNAP else gamma for gamma, end in zip(gammas, nearest, strict=True)]
