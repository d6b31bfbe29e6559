"""From settings to models: which experts, merged at which threshold, and what identifies them in a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from torch import nn

from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.evaluation.settings import THRESHOLDS, Settings
from merged_diffusion.experts.base import Expert, check_declaration
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.merge import Convention, MergedModel, Role, Threshold, as_model
from merged_diffusion.pairs import PairCard, pair_card

ROLES: Final[tuple[Role, ...]] = ("likelihood", "quality")


@dataclass(frozen=True)
class Models:
    """The models to score, by name ("merged" first), and their experts by role.

    ``identity`` is what a summary and a run say of each expert as it was loaded: a later change of device or
    dtype does not show.
    """

    models: Mapping[str, MergedModel]
    experts: Mapping[str, Expert]
    identity: Mapping[str, Mapping[str, Any]]


def build_models(settings: Settings, data: Data) -> Models:
    """Load the experts and merge them, or take one alone.

    Raises
    ------
    UsageError
        No experts are known for this data, or no threshold.
    ExpertError
        An expert is not found.
    DataError
        The images have not the shape or the grey levels of an expert.
    """
    convention = cast(Convention, settings.convention)
    if settings.expert is not None:
        expert = _load(settings.expert, data)
        # Its tally of evaluations stands under its role; an EDM has no other.
        role: Role = "quality" if getattr(expert, "kind", None) == "edm" else "likelihood"
        alone: dict[str, MergedModel] = {role: as_model(expert, role=role, convention=convention)}
        return Models(alone, {str(role): expert}, {role: _identity(expert, settings.expert)})
    pair = _pair(settings, data)
    sources = _sources(settings, pair, data)
    experts: dict[str, Expert] = {role: _load(sources[role], data) for role in ROLES}
    merged = MergedModel(
        experts["likelihood"],
        experts["quality"],
        _threshold(settings, experts, pair),
        eta_range=None if pair is None else pair.eta_range,
        range=cast(Literal["native", "merged"], settings.range),
        extrapolate=settings.extrapolate,
        convention=convention,
    )
    models: dict[str, MergedModel] = {"merged": merged}
    if settings.compare:
        models |= {role: as_model(experts[role], role=role, convention=convention) for role in ROLES}
    return Models(models, experts, {role: _identity(experts[role], sources[role]) for role in ROLES})


def _pair(settings: Settings, data: Data) -> PairCard | None:
    """The named pair, else the pair of a known data set unless both experts are given."""
    if settings.pair is not None:
        return pair_card(settings.pair)
    if settings.likelihood_expert is not None and settings.quality_expert is not None:
        return None
    try:
        return pair_card(data.name)
    except UsageError:
        return None


def _sources(settings: Settings, pair: PairCard | None, data: Data) -> dict[str, str]:
    given = {"likelihood": settings.likelihood_expert, "quality": settings.quality_expert}
    known = {} if pair is None else {"likelihood": pair.likelihood, "quality": pair.quality}
    sources = {role: source or known.get(role) for role, source in given.items()}
    for role, source in sources.items():
        if source is None:
            raise UsageError(
                f"no {role} expert: {data.name} has no pair of its own",
                hint=f"give --pair NAME or --{role}-expert, or one expert alone by --expert",
            )
    return {role: source for role, source in sources.items() if source is not None}


def _threshold(settings: Settings, experts: Mapping[str, Expert], pair: PairCard | None) -> Threshold:
    given = {name: getattr(settings, name) for name in THRESHOLDS if getattr(settings, name) is not None}
    if not given:
        if pair is None:
            raise UsageError(
                "two experts without a threshold", hint="give --eta, --gamma, --edm-sigma or --logsnr"
            )
        return Threshold.eta(pair.eta)
    ((name, value),) = given.items()
    # The ends of the experts' ranges, so that no digit of eta is lost on the way.
    if value == "min":
        return Threshold.gamma(experts["quality"].gamma_range[0])
    if value == "max":
        return Threshold.gamma(experts["likelihood"].gamma_range[1])
    made: Threshold = getattr(Threshold, name)(float(value))
    return made


def _load(source: str, data: Data) -> Expert:
    expert = load_expert(source)
    check_declaration(expert)
    shape = data.images.shape[1:]
    wrong = [(a, b) for a, b in zip(expert.image_shape, shape, strict=True) if a is not None and a != b]
    if wrong or expert.levels != data.levels:
        wanted = "x".join("any" if n is None else str(n) for n in expert.image_shape)
        raise DataError(
            f"{source} models {wanted} images of {expert.levels} levels, but {data.name} has"
            f" {'x'.join(map(str, shape))} images of {data.levels} levels",
            hint="take an expert of this data set, or --levels where the file does not say them",
            expert=source,
            expected=[list(expert.image_shape), expert.levels],
            found=[list(shape), data.levels],
        )
    return expert


def _identity(expert: Expert, source: str) -> dict[str, Any]:
    return {
        "name": expert.name,
        "source": source,
        "gamma_range": list(expert.gamma_range),
        "pixels": expert.pixels,
        "levels": expert.levels,
        "weights_sha256": weights_sha256(expert),
        "code_sha256": code_sha256(source),
        "provenance": dict(getattr(expert, "provenance", {})),
    }


def code_sha256(source: str) -> str | None:
    """SHA-256 of the file of ``file.py:name``; None for any other source."""
    file, _, _ = source.rpartition(":")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file.endswith(".py") else None


def weights_sha256(expert: Expert) -> str | None:
    """SHA-256 over names, types, shapes and bytes of parameters and buffers; None for other callables."""
    tensors = expert.state_dict() if isinstance(expert, nn.Module) else {}
    if not tensors:
        return None
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
