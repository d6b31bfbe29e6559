"""A likelihood expert for low noise and a quality expert for high noise, merged at a threshold or by a gate.

A model is a tuple of legs, chosen once and outside every step (the paper's algorithm 1): which expert, from
gamma, to gamma. Under a gate the legs are the likelihood expert alone, both, the quality expert alone;
nothing is restarted between them, because the mixture is smooth there. Where legs begin and end is decided in
the core; here are the experts. All models live in the space of ``centred`` pixels, x = 2(v + 1/2)/L - 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self, cast

from merged_diffusion._core import Route, Threshold
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import Expert, ImageShape, Pixels, check_declaration, check_posterior
from merged_diffusion.experts.blend import Blend, check_gate
from merged_diffusion.experts.centred import Centred
from merged_diffusion.soft_gate import Gate

__all__ = ["Convention", "Leg", "MergedModel", "Role", "Threshold", "as_model"]

Role = Literal["likelihood", "quality"]
Charge = Literal["likelihood", "quality", "both"]
Convention = Literal["exact", "paper"]


@dataclass(frozen=True)
class Leg:
    """One integration: ``expert``, in the part of ``role``, from gamma ``start`` to gamma ``end``."""

    expert: Expert
    role: Charge
    start: float
    end: float
    extrapolated: bool = False
    """Whether it leaves the range that the expert was trained on."""
    soft: bool = False
    """Whether the next leg goes on as if there were no end: with history and step size."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of the experts that it asks."""
        return ("likelihood", "quality") if self.role == "both" else (self.role,)

    @property
    def parts(self) -> tuple[Expert, ...]:
        """The experts that it asks."""
        return self.expert.parts if isinstance(self.expert, Blend) else (self.expert,)


class MergedModel:
    """Two experts, one threshold or one gate.

    Parameters
    ----------
    likelihood, quality
        In charge below and above the threshold's gamma.
    threshold
        ``Threshold.eta(0.4)``, ``.gamma``, ``.edm_sigma`` or ``.logsnr``; eta = 0 is the quality expert
        alone, eta = 1 the likelihood expert alone, each on its own gamma range.
    gate
        In the place of a threshold: eps_hat = w eps_L + (1 - w) eps_Q with w(gamma) of a `Gate`, which is 1
        below the quality expert's range and 0 above the likelihood expert's.
    eta_range
        The gammas of eta = 0 and 1 for every eta between (default: from the likelihood expert's lower end to
        the quality expert's upper end). It translates eta and moves nothing else.
    range
        ``merged``: an expert alone runs over the merged range instead, which it was hardly trained on.
    extrapolate
        Allow an expert to be asked outside its trained range; legs and results then say so.
    convention
        What an expert of ``ends`` pixels is fed: ``exact``, or ``paper`` for z unscaled, as the paper does.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> likelihood = md.load_expert("bundled:photos-vdm")
    >>> quality = md.load_expert("bundled:photos-edm")
    >>> model = md.MergedModel(likelihood, quality, md.Threshold.eta(0.3))
    >>> [(leg.role, round(leg.start, 2), round(leg.end, 2)) for leg in model.legs()]
    [('likelihood', -13.3, -6.68), ('quality', -6.68, 8.76)]
    """

    def __init__(
        self,
        likelihood: Expert,
        quality: Expert,
        threshold: Threshold | None = None,
        *,
        gate: Gate | None = None,
        eta_range: tuple[float, float] | None = None,
        range: Literal["native", "merged"] = "native",  # noqa: A002 (the option's name)
        extrapolate: bool = False,
        convention: Convention = "exact",
    ) -> None:
        check_declaration(likelihood)
        check_declaration(quality)
        _check_pair(likelihood, quality)
        if (threshold is None) == (gate is None):
            raise UsageError(
                "a merged model has either a threshold or a gate",
                hint="give Threshold.eta(0.3), say, or gate=md.fit_gate(likelihood, quality, images)",
            )
        self.gate = gate
        if threshold is None:
            self._build_gated((likelihood, quality), cast(Gate, gate), convention, range, extrapolate)
            return
        route = Route.of_pair(
            likelihood.gamma_range,
            quality.gamma_range,
            threshold,
            eta_range=eta_range,
            range=range,
            extrapolate=extrapolate,
        )
        self._build((likelihood, quality), ("likelihood", "quality"), route, convention)

    def _build(
        self, experts: tuple[Expert, ...], roles: tuple[Charge, ...], route: Route, convention: Convention
    ) -> None:
        if convention not in ("exact", "paper"):
            raise UsageError(f'convention = {convention!r} is neither "exact" nor "paper"')
        self.experts = experts
        self.convention = convention
        self._roles = roles
        self._route = route
        self._in_model_space = tuple(_in_model_space(expert, convention) for expert in experts)
        if self.gate is not None and "both" in roles:
            one, two = self._in_model_space
            self._in_model_space = one, Blend(one, two, self.gate), two
        self.levels = experts[0].levels
        self.image_shape = _common_shape(experts)
        self.conditional = any(self._in_model_space[expert].conditional for expert, *_ in route.legs())
        self.pixels: Pixels = "centred"

    def _build_gated(
        self,
        experts: tuple[Expert, Expert],
        gate: Gate,
        convention: Convention,
        range: str,  # noqa: A002
        extrapolate: bool,
    ) -> None:
        if range != "native" or extrapolate:
            raise UsageError(
                "a gate asks no expert outside its range: it goes with range native, without extrapolate",
                hint="leave both out, or use a threshold",
            )
        (low, top), (bottom, high) = (expert.gamma_range for expert in experts)
        if gate.start >= max(top, high) or gate.end <= min(low, bottom):
            number = 0 if gate.start >= high else 1
            role: Role = "quality" if number else "likelihood"
            self._build((experts[number],), (role,), Route([experts[number].gamma_range], []), convention)
            return
        check_gate(gate, *experts)
        first, last = max(gate.start, low), min(gate.end, high)
        # Where each leg may go: the core refuses what does not lead from one to the next.
        route = Route([(low, max(first, top)), (first, last), (min(last, bottom), high)], [first, last])
        self._build(experts, ("likelihood", "both", "quality"), route, convention)

    @classmethod
    def _alone(cls, expert: Expert, role: Role, convention: Convention) -> Self:
        check_declaration(expert)
        model = cls.__new__(cls)
        model.gate = None
        model._build((expert,), (role,), Route([expert.gamma_range], []), convention)
        return model

    def legs(self, toward: Literal["noise", "data"] = "noise") -> tuple[Leg, ...]:
        """The integrations in their order; the end of one is the start of the next, to the last bit."""
        legs = self._route.legs(toward)
        return tuple(
            Leg(
                self._in_model_space[expert],
                self._roles[expert],
                start,
                end,
                extrapolated,
                self.gate is not None and number + 1 < len(legs),
            )
            for number, (expert, start, end, extrapolated) in enumerate(legs)
        )

    @property
    def gamma_range(self) -> tuple[float, float]:
        """Gamma of the data end and of the noise end."""
        return self._route.gamma_range

    @property
    def threshold(self) -> dict[str, float | None] | None:
        """The switch as ``eta``, ``gamma``, ``edm_sigma`` and ``logsnr``.

        For eta = 0 and 1 all but eta are None; a model that `as_model` made of one expert has no threshold.
        """
        return self._route.threshold

    @property
    def snapped(self) -> str | None:
        """What to tell the user of a threshold that was moved onto an end of an expert's range."""
        given, threshold = self._route.snapped_from, self._route.threshold
        if given is None or threshold is None:
            return None
        return f"threshold at gamma = {given:.7f} taken as {threshold['gamma']}, the end of an expert's range"

    @property
    def guided(self) -> bool:
        """Whether an expert of a leg is guided: what follows of its flow is no denoiser's."""
        return any(getattr(expert, "is_guided", False) for leg in self.legs() for expert in leg.parts)

    @property
    def extrapolated(self) -> bool:
        """Whether any leg leaves the range that its expert was trained on."""
        return self._route.extrapolated

    def __repr__(self) -> str:
        legs = ", ".join(
            f"{leg.role} {leg.expert.name} [{leg.start:.4f}, {leg.end:.4f}]" for leg in self.legs()
        )
        return f"{type(self).__name__}({legs})"


def role_alone(expert: Expert) -> Role:
    """The role under which an expert alone is counted: an EDM has no other than ``quality``."""
    return "quality" if getattr(expert, "kind", None) == "edm" else "likelihood"


def as_model(
    model: Expert | MergedModel, *, role: Role | None = None, convention: Convention = "exact"
) -> MergedModel:
    """A merged model as it is; one expert alone as a model of one leg over its own range (`role_alone`)."""
    if isinstance(model, MergedModel):
        return model
    return MergedModel._alone(model, role or role_alone(model), convention)


def asked_over(legs: Iterable[Leg]) -> list[tuple[Expert, tuple[float, float]]]:
    """Each expert of some legs once, and all gammas that they ask it over, least noise first."""
    found: dict[int, tuple[Expert, tuple[float, float]]] = {}
    for leg in legs:
        for expert in leg.parts:
            low, high = sorted((leg.start, leg.end))
            _, (least, most) = found.get(id(expert), (expert, (low, high)))
            found[id(expert)] = expert, (min(low, least), max(high, most))
    return list(found.values())


def _in_model_space(expert: Expert, convention: Convention) -> Expert:
    if expert.pixels == "ends" and convention == "exact":
        return cast(Expert, Centred(expert))
    return expert


def _common_shape(experts: tuple[Expert, ...]) -> ImageShape:
    """C, H, W that all experts take; None where each takes any."""
    axes = zip(*(expert.image_shape for expert in experts), strict=True)
    channels, height, width = (next((size for size in sizes if size is not None), None) for sizes in axes)
    return channels, height, width


def _check_pair(likelihood: Expert, quality: Expert) -> None:
    for expert in (likelihood, quality):
        check_posterior(expert, "merging it at a gamma", guided=expert is quality)
    shapes = likelihood.image_shape, quality.image_shape
    if any(None not in sizes and len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True)):
        raise _mismatch("images of shape", likelihood, quality, *shapes)
    if likelihood.levels != quality.levels:
        raise _mismatch("grey levels", likelihood, quality, likelihood.levels, quality.levels)
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


def _mismatch(what: str, likelihood: Expert, quality: Expert, expected: object, found: object) -> ExpertError:
    return ExpertError(
        f"the likelihood expert {likelihood.name} takes {what} {expected}, the quality expert {quality.name} "
        f"{found}: they cannot be merged",
        expert=quality.name,
        expected=expected,
        found=found,
    )
