"""Experts merged: a likelihood expert for low noise, a quality expert for high noise, and any between them.

A model is a tuple of legs, chosen once and outside every step (the paper's algorithm 1): which expert, from
gamma, to gamma. Under a gate the legs are the likelihood expert alone, both, the quality expert alone;
nothing is restarted between them, because the mixture is smooth there. Where legs begin and end is decided in
the core; here are the experts. All models live in the space of ``centred`` pixels, x = 2(v + 1/2)/L - 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Self, cast

from merged_diffusion._core import Route
from merged_diffusion.errors import UsageError
from merged_diffusion.experts import suiting
from merged_diffusion.experts.base import Expert, Pixels, check_declaration, check_posterior
from merged_diffusion.experts.blend import check_gate, pieces
from merged_diffusion.experts.suiting import Convention, check_alike, check_pair, common_shape, in_charge
from merged_diffusion.legs import Leg
from merged_diffusion.roles import AND, BOTH, roles_of
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.soft_gate import Gate
from merged_diffusion.switching import Threshold

__all__ = ["Convention", "Leg", "MergedModel", "Role", "Threshold", "as_model"]

Role = Literal["likelihood", "quality"]


class MergedModel:
    """Two experts, one threshold or one gate; `of` merges any number.

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
        check_pair(likelihood, quality)
        check_alike((likelihood, quality), ("likelihood", "quality"))
        self._made: Callable[[], MergedModel] = partial(
            type(self), likelihood, quality, threshold, gate=gate, eta_range=eta_range, range=range,
            extrapolate=extrapolate, convention=convention,
        )  # fmt: skip
        if (threshold is None) == (gate is None):
            raise UsageError(
                "a merged model has either a threshold or a gate",
                hint="give Threshold.eta(0.3), say, or gate=md.fit_gate(likelihood, quality, images)",
            )
        self.gate: Gate | SimplexGate | None = gate
        if threshold is None:
            self._build_gated((likelihood, quality), cast(Gate, gate), convention, range, extrapolate)
            return
        route = Route.of_pair(
            likelihood.gamma_range, quality.gamma_range, threshold,
            eta_range=eta_range, range=range, extrapolate=extrapolate,
        )  # fmt: skip
        self._build((likelihood, quality), ("likelihood", "quality"), route, convention)

    @classmethod
    def of(
        cls,
        experts: Sequence[Expert],
        gammas: Sequence[float] | None = None,
        *,
        gate: SimplexGate | None = None,
        extrapolate: bool = False,
        convention: Convention = "exact",
    ) -> Self:
        """Any number of experts, in the order of rising noise.

        Parameters
        ----------
        gammas
            The i-th expert is in charge up to the i-th of them, the last one from there on; where two are
            equal the expert between them has no leg.
        gate
            In their place: the shares of all experts by gamma.
        extrapolate, convention
            As of two experts.

        Raises
        ------
        UsageError, ExpertError
            Not one gamma fewer than experts, gammas out of order, experts that do not suit each other or are
            asked outside their ranges.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> three = [md.load_expert(f"bundled:photos-{name}") for name in ("vdm", "vdm", "edm")]
        >>> model = md.MergedModel.of(three, [-9.0, -6.0])
        >>> [(leg.role, leg.start, leg.end) for leg in model.legs()]
        [('likelihood', -13.3, -9.0), ('expert-2', -9.0, -6.0), ('quality', -6.0, 8.764)]
        """
        experts, roles = tuple(experts), roles_of(len(experts))
        if len(experts) < 2:
            raise UsageError(f"{len(experts)} experts, where at least two are merged")
        if (gammas is None) == (gate is None):
            raise UsageError(
                f"{len(experts)} experts are merged at gammas, one fewer than experts, or by one gate"
            )
        for expert in experts:
            check_declaration(expert)
            check_posterior(expert, "merging it at a gamma")
        check_alike(experts, roles)
        model = cls.__new__(cls)
        made = partial(cls.of, experts, gammas, gate=gate)
        model._made = partial(made, extrapolate=extrapolate, convention=convention)
        model.gate = gate
        if gate is None:
            ranges = [expert.gamma_range for expert in experts]
            given = [float(gamma) for gamma in gammas or ()]
            switches = suiting.snapped(given, experts)
            if len(switches) + 1 != len(experts):
                raise UsageError(
                    f"{len(switches)} gammas for {len(experts)} experts, which change over "
                    f"{len(experts) - 1} times"
                )
            model._build(experts, roles, Route(ranges, switches, extrapolate=extrapolate), convention)
            model._moved = [(a, b) for a, b in zip(given, switches, strict=True) if a != b]
            return model
        if extrapolate:
            raise UsageError("a gate asks no expert outside its range", hint="leave extrapolate out")
        asked = pieces(gate, experts)
        ranges = [(start, end) for _, start, end in asked]
        joints = [end for _, end in ranges[:-1]]
        model._build(
            experts,
            tuple(AND.join(roles[i] for i in who) for who, _, _ in asked),
            Route(ranges, joints),
            convention,
            [who for who, _, _ in asked],
        )
        return model

    def _build(
        self, experts: tuple[Expert, ...], roles: tuple[str, ...], route: Route, convention: Convention,
        asked: Sequence[tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        """Along ``route``, leg n of the role ``roles[n]``: of expert n, or of those ``asked[n]``."""
        self.experts = experts
        self.convention = convention
        self._roles, self._route = roles, route
        self._moved: list[tuple[float, float | None]] = []
        self._asked = [(number,) for number in range(len(experts))] if asked is None else asked
        self._in_charge = in_charge(experts, self._asked, self.gate, convention)
        self.levels = experts[0].levels
        self.image_shape = common_shape(experts)
        self.conditional = any(self._in_charge[number].conditional for number, *_ in route.legs())
        self.pixels: Pixels = "centred"

    def in_own_pixels(self) -> MergedModel:
        """The model in the coordinates of its experts' pixels, where all agree: each is asked as it is."""
        if any(expert.pixels != "ends" for expert in self.experts):
            return self
        other = object.__new__(type(self))
        asked = in_charge(self.experts, self._asked, self.gate, "paper")
        other.__dict__.update(self.__dict__, _in_charge=asked)
        return other

    def _build_gated(
        self, experts: tuple[Expert, Expert], gate: Gate, convention: Convention,
        range: str, extrapolate: bool,  # noqa: A002
    ) -> None:  # fmt: skip
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
        self._build(experts, ("likelihood", BOTH, "quality"), route, convention, [(0,), (0, 1), (1,)])

    @classmethod
    def _alone(cls, expert: Expert, role: Role, convention: Convention) -> Self:
        check_declaration(expert)
        model = cls.__new__(cls)
        model._made = partial(cls._alone, expert, role, convention)
        model.gate = None
        model._build((expert,), (role,), Route([expert.gamma_range], []), convention)
        return model

    def legs(self, toward: Literal["noise", "data"] = "noise") -> tuple[Leg, ...]:
        """The integrations in their order; the end of one is the start of the next, to the last bit."""
        legs = self._route.legs(toward)
        return tuple(
            Leg(
                self._in_charge[expert],
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
        pair = [] if given is None or threshold is None else [(given, threshold["gamma"])]
        told = "threshold at gamma = {:.7f} taken as {}, the end of an expert's range"
        return "; ".join(told.format(*each) for each in (*self._moved, *pair)) or None

    @property
    def guided(self) -> bool:
        """Whether an expert of a leg is guided: what follows of its flow is no denoiser's."""
        return any(getattr(expert, "is_guided", False) for leg in self.legs() for expert in leg.parts)

    @property
    def extrapolated(self) -> bool:
        """Whether any leg leaves the range that its expert was trained on."""
        return self._route.extrapolated

    def __reduce__(self) -> tuple[Callable[..., MergedModel], tuple[Callable[[], MergedModel]]]:
        return operator.call, (self._made,)  # with copies of its experts; the route lives in the core

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
