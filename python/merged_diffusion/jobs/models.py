"""From settings to models: which experts, merged at which threshold, and what identifies them in a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, cast

from merged_diffusion.catalogue.absent import expert_paths
from merged_diffusion.catalogue.entries import PairCard
from merged_diffusion.data.images import Data
from merged_diffusion.errors import CheckpointError, DataError, ExpertError, UsageError
from merged_diffusion.experts.base import Expert, check_declaration, takes_shape
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.guided import Guided
from merged_diffusion.experts.own_code import code_sha256
from merged_diffusion.experts.suiting import first_gammas
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.gate_card import check_experts, load_gate
from merged_diffusion.jobs.guidance import NONE_CLASS, Guidance
from merged_diffusion.jobs.identity import GUIDANCE, ExpertIdentity, Experts
from merged_diffusion.jobs.remarks import expert_notes, same_weights
from merged_diffusion.jobs.settings import THRESHOLDS, Open, Settings
from merged_diffusion.jobs.sources import GIVEN, ROLES, both_sources, pair_of
from merged_diffusion.jobs.trials import with_trials
from merged_diffusion.merge import Convention, MergedModel, Threshold, as_model, role_alone
from merged_diffusion.roles import roles_of
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.soft_gate import Gate


@dataclass(frozen=True)
class Models:
    """The models to score, by name ("merged" first), and their experts by role.

    ``identity`` is what a summary and a run say of each expert, ``notes`` what a user should know of the
    files.
    """

    models: Mapping[str, MergedModel]
    experts: Mapping[str, Expert]
    identity: Experts
    pair: PairCard | None = None
    notes: tuple[str, ...] = ()

    def at(self, settings: Settings) -> Self:
        """The same experts merged at another threshold."""
        return replace(self, models=_models(settings, self.experts, self.pair))

    def compiled(self, settings: Settings) -> Self:
        """The same models of compiled networks."""
        from merged_diffusion.experts.compiling import compiled

        experts = {role: compiled(expert) for role, expert in self.experts.items()}
        return replace(self, models=_models(settings, experts, self.pair), experts=experts)


def build_models(settings: Settings, data: Data, given: MergedModel | None = None) -> Models:
    """`load_models` for a set of images, or the model ``given``.

    Raises
    ------
    DataError
        The images have not the shape or the grey levels of an expert.
    """
    try:
        models = load_models(settings, data.name) if given is None else _given_models(given)
    except CheckpointError as error:
        raise with_trials(error, data) from error
    for role, expert in models.experts.items():
        _check_fits(expert, models.identity[role].source, data)
    return models


def load_models(settings: Settings, data: str = "") -> Models:
    """Load the experts and merge them, or take one alone; ``data`` may imply the pair.

    Raises
    ------
    UsageError
        No experts are known for this data, or no threshold.
    ExpertError
        An expert is not found, or is not one for its role.
    """
    if settings.expert is not None:
        pair, given = None, {"expert": settings.expert}
    else:
        pair = pair_of(settings, data)
        given = both_sources(settings, pair, data)
    paths = expert_paths(given.values(), settings.cache)
    loaded = {role: load_expert(path, cache=settings.cache) for role, path in zip(given, paths, strict=True)}
    for expert in loaded.values():
        check_declaration(expert)
    if settings.expert is not None:
        alone = role_alone(loaded["expert"])
        given, loaded = {alone: given["expert"]}, {alone: loaded["expert"]}
    if settings.guidance is not None:
        _guide(loaded, settings.guidance, settings.cache)
    guide = None if settings.guidance is None else settings.guidance.guide
    identity = {role: _identity(expert, given[role], guide) for role, expert in loaded.items()}
    if settings.expert is None and settings.experts is None:
        _check_roles(loaded, identity)
    models = _models(settings, loaded, pair)
    return Models(models, loaded, identity, pair, tuple(expert_notes(identity, settings.cache)))


def _guide(loaded: dict[str, Expert], guidance: Guidance, cache: str | Path | None) -> None:
    """Guide the quality expert, or the one that there is."""
    role = "quality" if "quality" in loaded else next(iter(loaded))
    guide: Expert | Literal["none-class"] = NONE_CLASS
    if guidance.guide != NONE_CLASS:
        (path,) = expert_paths([guidance.guide], cache)
        guide = load_expert(path, cache=cache)
    loaded[role] = guided = Guided(loaded[role], guide, guidance.weight, interval=guidance.interval)
    if guided.is_guided:
        guided.provenance[GUIDANCE] = guidance.as_dict()


def _given_models(model: MergedModel) -> Models:
    """A model that was built elsewhere; its experts are told by name and weights."""
    experts: dict[str, Expert] = {
        role: expert for leg in model.legs() for role, expert in zip(leg.roles, leg.parts, strict=True)
    }
    if len(model.experts) >= len(ROLES):
        experts = dict(zip(roles_of(len(model.experts)), model.experts, strict=True))
    else:
        experts = dict.fromkeys(experts, model.experts[0])
    name = "merged" if len(experts) >= len(ROLES) else next(iter(experts))
    identity = {
        role: replace(_identity(expert, GIVEN), code_sha256=GIVEN) for role, expert in experts.items()
    }
    return Models({name: model}, experts, identity)


def _models(
    settings: Settings, experts: Mapping[str, Expert], pair: PairCard | None
) -> dict[str, MergedModel]:
    convention = cast(Convention, settings.pixel_convention)
    gate = None if settings.gate is None else load_gate(settings.gate)
    if gate is not None:
        found = {role: weights_sha256(expert) for role, expert in experts.items()}
        check_experts(gate, found, str(settings.gate))
    if settings.experts is not None:
        return {"merged": _of_several(settings, list(experts.values()), gate, convention)}
    alone: dict[str, MergedModel] = {
        role: as_model(experts[role], role=role, convention=convention) for role in ROLES if role in experts
    }
    if settings.expert is not None:
        return alone
    if isinstance(gate, SimplexGate):
        merged = MergedModel.of(list(experts.values()), gate=gate, convention=convention)
        return {"merged": merged} | (alone if settings.compare else {})
    merged = MergedModel(
        experts["likelihood"],
        experts["quality"],
        _threshold(settings, pair) if gate is None else None,
        gate=gate,
        eta_range=None if pair is None else pair.eta_range,
        range=cast(Literal["native", "merged"], settings.range),
        extrapolate=settings.extrapolate,
        convention=convention,
    )
    return {"merged": merged} | (alone if settings.compare else {})


def _of_several(
    settings: Settings, experts: Sequence[Expert], gate: Gate | SimplexGate | None, convention: Convention
) -> MergedModel:
    """Three experts or more."""
    if isinstance(gate, Gate):
        raise UsageError(
            f"--gate {settings.gate} is one of two experts, and {len(experts)} are given",
            hint="merged-diffusion gate with as many --expert fits one to them",
        )
    if gate is None and settings.gammas is None:
        raise UsageError(
            f"{len(experts)} experts without thresholds",
            hint="give --gammas, one fewer with commas between (threshold finds them), or --gate",
        )
    gammas = first_gammas(experts) if isinstance(settings.gammas, Open) else settings.gammas
    return MergedModel.of(experts, gammas, gate=gate, extrapolate=settings.extrapolate, convention=convention)


def _threshold(settings: Settings, pair: PairCard | None) -> Threshold:
    given = {name: getattr(settings, name) for name in THRESHOLDS if getattr(settings, name) is not None}
    if not given:
        if pair is None:
            raise UsageError(
                "two experts without a threshold", hint="give --eta, --gamma, --edm-sigma or --logsnr"
            )
        return Threshold.eta(pair.eta)
    ((name, value),) = given.items()
    if value == "auto":
        raise UsageError(
            "--eta auto has to be found first", hint="merged-diffusion threshold finds it; give the number"
        )
    made: Threshold = getattr(Threshold, name)(value if value in ("min", "max") else float(value))
    return made


def _check_roles(experts: Mapping[str, Expert], identity: Experts) -> None:
    """Refuse an expert of the other role's kind; one file for both is told by a note instead."""
    if same_weights(identity):
        return
    for role, wrong, option in (
        ("likelihood", "edm", "--quality-expert"),
        ("quality", "vdm", "--likelihood-expert"),
    ):
        if getattr(experts[role], "kind", None) == wrong:
            raise ExpertError(
                f"the {role} expert {identity[role].source} is of kind {wrong}",
                hint=f"it belongs to {option}; alone it is scored by --expert",
                expert=identity[role].source, role=role, found=wrong,
            )  # fmt: skip


def _check_fits(expert: Expert, source: str, data: Data) -> None:
    shape = data.images.shape[1:]
    if not takes_shape(expert.image_shape, shape) or expert.levels != data.levels:
        wanted = "x".join("any" if n is None else str(n) for n in expert.image_shape)
        raise DataError(
            f"{source} models {wanted} images of {expert.levels} levels, but {data.name} has"
            f" {'x'.join(map(str, shape))} images of {data.levels} levels",
            hint="take an expert of this data set, or --levels where the file does not say them",
            expert=source,
            expected=[list(expert.image_shape), expert.levels],
            found=[list(shape), data.levels],
        )


def _identity(expert: Expert, source: str, guide: str | None = None) -> ExpertIdentity:
    """What tells an expert from others; ``guide`` is the source of the one that guides it."""
    if isinstance(expert, Guided):
        own = _identity(expert.expert, source)
        other = None if expert.without_class or guide is None else _identity(expert.guide, guide)
        return replace(
            own,
            name=expert.name,
            weights_sha256=weights_sha256(expert),
            code_sha256=own.code_sha256 if other is None else _joined(own, other),
            provenance=_provenance(expert, source),
        )
    words = (expert.predicts, expert.input) if isinstance(expert, VdmExpert) else ("eps", "vp")
    predicts, given = (None, None) if words == ("eps", "vp") else words
    meaning: str | None = getattr(expert, "meaning", None)
    return ExpertIdentity(
        name=expert.name,
        source=source,
        gamma_range=tuple(expert.gamma_range),
        pixels=expert.pixels,
        levels=expert.levels,
        predicts=predicts if meaning is None else "as its card says",
        input=given if meaning is None else meaning,
        weights_sha256=weights_sha256(expert),
        code_sha256=code_sha256(source),
        provenance=_provenance(expert, source),
    )


def _joined(own: ExpertIdentity, guide: ExpertIdentity) -> str | None:
    """Of two experts that act as one: what their weights, which have a hash of their own, do not say."""
    said = [own.code_sha256, guide.code_sha256, guide.predicts, guide.input]
    return hashlib.sha256(repr(said).encode()).hexdigest() if any(said) else None


def _provenance(expert: Expert, source: str) -> dict[str, object]:
    """What its checkpoint says; a bundled one lies elsewhere on every machine."""
    found = dict(getattr(expert, "provenance", {}))
    return found | {"source": source} if source.startswith("bundled:") else found
