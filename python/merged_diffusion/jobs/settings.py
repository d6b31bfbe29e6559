"""What an evaluation is asked for, checked before anything is loaded.

Words are the options of ``nll`` (``-`` becomes ``_``), and what a run keeps of them; `Settings.of` reads them
and `Settings.as_dict` gives them back. None means: as the pair's card, the run that is there, or the device
suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.jobs.guidance import WORDS as GUIDANCE
from merged_diffusion.jobs.guidance import Guidance
from merged_diffusion.jobs.option_checks import (
    NOT_BESIDE_MEAN_OF,
    as_gammas,
    as_probes,
    at_least_one,
    check_bpd_tol,
    check_experts,
    check_mean_of,
    check_no_tolerance,
    check_probe_error,
    check_selection,
    refuse_path_check,
    refuse_quad_check,
)
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE, KINDS, Options
from merged_diffusion.ode import methods
from merged_diffusion.ode.machine import DTYPES, PRECISIONS, Machine
from merged_diffusion.ode.methods import Adams, Dopri5, Probes, Solver, solver_of, words_of
from merged_diffusion.scores.defaults import IMPORTANCE, REPEATS, SEED

THRESHOLDS: Final = ("eta", "gamma", "edm_sigma", "logsnr")
PRESETS: Final[Mapping[str, Solver]] = {
    "default": Adams(),
    "fast": Adams(tol=3e-2, h_max=1.0),
    "tight": Adams(tol=1e-3, h_max=0.5),
    "paper": Dopri5(rtol=1e-5, atol=1e-5, shared=True),
}
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "split": ("test", "train"),
    "dequantise": KINDS,
    **methods.CHOICES,
    "probe": methods.PROBE_KINDS,
    "convention": ("exact", "paper"),
    "range": ("native", "merged"),
    "dtype": DTYPES,
    "precision": PRECISIONS,
    "preset": tuple(PRESETS),
    "variant": ("old", "new"),
    "quad_check": ("pilot", "all", "off"),
    "path_check": ("pilot", "off"),
}
COUNTS: Final = ("limit", "importance", "repeats", "probes", "batch_size", "threads")
MACHINE: Final = ("batch_size", "threads", "device", "dtype")
SAID_IF_GIVEN: Final = ("mean_of", "plan_for", "probe_error", "gate")

Value = TypeVar("Value")


class Open(Enum):
    """Thresholds of several experts that are still to be found: for `thresholds.auto` alone."""

    ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """An evaluation; the preset's solver and convention where none are given.

    Raises
    ------
    UsageError
        A value or a combination lies outside what is allowed.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> settings = md.Settings(data="digits", eta=0.3, limit=4)
    >>> settings.preset
    'default'
    >>> md.evaluate(settings).means.n
    4
    """

    data: str
    split: str = "test"
    levels: int | None = None
    variant: str | None = None
    limit: int | None = None
    ids: tuple[int, int] | None = None
    mean_of: int | str | None = None
    """Images of the set, or ``all``, whose mean is estimated from the ``limit`` that are measured."""
    plan_for: float | None = None
    """The standard error for which to say how many have to be measured."""
    pair: str | None = None
    likelihood_expert: str | None = None
    quality_expert: str | None = None
    expert: str | None = None
    experts: tuple[str, ...] | None = None
    """Three or more, in the order of rising noise."""
    gammas: tuple[float, ...] | Open | None = None
    """Their thresholds, one fewer."""
    eta: float | str | None = None
    gamma: float | None = None
    edm_sigma: float | None = None
    logsnr: float | None = None
    gate: str | None = None  # the card of one, in the place of a threshold
    compare: bool = False
    labels: str | int = "none"
    dequantise: str = DEQUANTISE
    importance: int = IMPORTANCE
    repeats: int = REPEATS
    solver: Solver | None = None
    """None: that of the preset; `options` has it."""
    bpd_tol: float | None = None
    probes: Probes = Probes()
    probe_error: float | None = None
    """In bits/dim: a pilot takes as many as leave nine of ten images less (``--probes auto:E``)."""
    quad_check: str | None = None
    """Of which images a companion tells the error of quadrature; None: of a pilot's under adams."""
    path_check: str | None = None
    """``pilot``: whether the path's correction is right is tried; else it is closed forms' alone."""
    preset: str = "default"
    convention: str | None = None
    range: str = "native"
    extrapolate: bool = False
    guidance: Guidance | None = None
    allow_failed: bool = False
    accept: Accept = Accept()
    deterministic: bool = False
    machine: Machine = Machine()
    compile: bool | None = None
    seed: int = SEED
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name, None)
            if value is not None and value not in allowed:
                raise UsageError(f"{name} = {value!r}, possible are {', '.join(allowed)}")
        if not isinstance(self.gammas, Open):
            object.__setattr__(self, "gammas", as_gammas(self.gammas))
        check_selection(self.limit, self.ids)
        excluded = {name: getattr(self, name) for name in NOT_BESIDE_MEAN_OF}
        check_mean_of(self.mean_of, self.plan_for, self.limit, excluded, self.dequantise)
        check_experts(vars(self), THRESHOLDS)
        if isinstance(self.solver or PRESETS[self.preset], Dopri5):
            refuse_quad_check(self.quad_check)
            refuse_path_check(self.path_check)
        solver, preset = self.options().solver, PRESETS[self.preset]
        if self.preset != "default" and solver.method != preset.method:
            raise UsageError(
                f"preset {self.preset} is of method {preset.method}, and the solver is {solver}",
                hint="leave one of them out",
            )
        if self.machine.workspace is not None:
            raise UsageError(
                f"workspace = {self.machine.workspace!r} changes last bits, and no run keeps it",
                hint="leave it out; log_likelihood takes it",
            )
        if self.bpd_tol is not None:
            check_bpd_tol(self.bpd_tol, solver.method)
        if self.probe_error is not None:
            check_probe_error(self.probe_error, self.options().probes.kind, self.probes.scheme)

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Self:
        """From words; the mapping may hold others, and absent and None leave the default."""
        said = {name: value for name, value in words.items() if value is not None}
        objects = [name for name in ("solver", "machine", "accept") if name in said]
        if objects or isinstance(said.get("probes"), Probes):
            name = (*objects, "probes")[0]
            raise UsageError(
                f"{name} = {said[name]} is an object, and here are words as on the command line",
                hint=f"Settings({name}=...) takes it",
            )
        said |= as_probes(said.get("probes"))
        for name in COUNTS:
            at_least_one(name, said.get(name))
        given = {field.name: said[field.name] for field in fields(cls) if field.name in said}
        preset, method = PRESETS.get(said.get("preset", "default")), said.get("method")
        if said.get("preset", "default") != "default" and preset is not None:
            if method not in (None, preset.method):
                raise UsageError(
                    f"--preset {said['preset']} is of method {preset.method}, and --method is {method}",
                    hint="leave one of them out",
                )
            said["method"] = preset.method
        if "bpd_tol" in said:
            check_no_tolerance(said)
        probes = {"n": said.get("probes"), "kind": said.get("probe"), "scheme": said.get("scheme")}
        accept = {"batch_coupled": said.get("batch_coupled"), "gradient": said.get("accept_gradient")}
        accept |= {"precision": said.get("accept_precision")}
        machine = {name: said.get(name) for name in (*MACHINE, "profile_time", "precision")}
        given |= {
            "solver": solver_of(said, preset or PRESETS["default"]),
            "probes": Probes(**_said(probes)),
            "guidance": Guidance.of(*(said.get(name) for name in GUIDANCE)),
            "accept": Accept(**_said(accept)),
            "machine": Machine(**_said(machine)),
        }
        return cls(**given)

    def as_dict(self) -> dict[str, object]:
        """All words that say what is computed, as JSON values."""
        own = self.options()
        expanded: Mapping[str, Mapping[str, object]] = {
            "solver": words_of(own.solver),
            # Runs begun before there were lattices have independent probes.
            "probes": {"probe": own.probes.kind, "probes": own.probes.n}
            | _said({"scheme": "lattice" if own.probes.is_lattice else None}),
            "convention": {"convention": self.pixel_convention},
            # Runs that were begun before there was the option to accept a gradient have it not.
            "accept": {"batch_coupled": self.accept.batch_coupled}
            | _said({"accept_gradient": self.accept.gradient}),
            "machine": {name: getattr(self.machine, name) for name in MACHINE}
            | ({"precision": self.machine.precision} if self.machine.is_reduced else {}),
            # Nor have they a precision, guidance, the mean over a set, or a number of probes by a pilot.
            "guidance": {} if self.guidance is None else self.guidance.as_dict(),
            **{name: _said({name: getattr(self, name)}) for name in SAID_IF_GIVEN},
            # Once draws were others, and paths corrected without evidence: such a run is not gone on with.
            "dequantise": {"dequantise": self.dequantise}
            | _said({"own_log_q": True if self.dequantise == "decoder" and self.importance == 1 else None}),
            "importance": {"importance": self.importance}
            | _said({"shared_probes": True if self.importance > 1 else None}),
            "experts": {} if self.experts is None else {"experts": list(self.experts)},
            "gammas": {"gammas": list(self.gammas)} if isinstance(self.gammas, tuple) else {},
            "quad_check": _said({"quad_check": "all" if self.quad_check == "all" else None}),
            "path_check": {"path_check": self.path_check or "off"} if own.solver.method == "adams" else {},
        }
        words: dict[str, object] = {}
        for field in fields(self):
            if field.name != "cache":
                words |= expanded.get(field.name, {field.name: getattr(self, field.name)})
        return words

    def at(self, machine: Machine, compile: bool | None) -> Self:  # noqa: A002  the option's name
        """What was checked already, on a machine that leaves nothing open."""
        found = copy(self)
        object.__setattr__(found, "machine", machine)
        object.__setattr__(found, "compile", compile)
        return found

    def averaging(self) -> Self | None:
        """What the same words meant before there were lattices, if that is another: independent probes."""
        if self.probes.scheme is not None or not self.options().probes.is_lattice:
            return None
        return replace(self, probes=replace(self.probes, scheme="independent"))

    def gone_on_with(self, recorded: Mapping[str, object]) -> Self:
        """With independent probes where the run to go on with has them and nothing else is said."""
        was_averaged = recorded.get("probes") == self.probes.n and "scheme" not in recorded
        return (self.averaging() if was_averaged else None) or self

    @property
    def pixel_convention(self) -> str:
        """The convention, that of the preset where none is given."""
        return self.convention or ("paper" if self.preset == "paper" else "exact")

    @property
    def check_of_quadrature(self) -> str:
        """``pilot``, ``all`` or ``off``: dopri5 has the trace in its error norm."""
        return self.quad_check or ("pilot" if isinstance(self.options().solver, Adams) else "off")

    def options(self) -> Options:
        """How the likelihood of an image is computed: what was left out is there."""
        return Options(
            seed=self.seed,
            dequantise=self.dequantise,  # type: ignore[arg-type]
            importance=self.importance,
            repeats=self.repeats,
            solver=self.solver or PRESETS[self.preset],
            probes=replace(self.probes, companion=True) if self.quad_check == "all" else self.probes,
            machine=self.machine,
            accept=self.accept,
        )


def _said(words: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in words.items() if value is not None}


def beside(data: object, options: Mapping[str, object]) -> dict[str, object]:
    """Those of a call's options that were given; `UsageError` where ``data`` are settings, which say all."""
    given = _said(options)
    if given and isinstance(data, Settings):
        raise UsageError(
            f"settings say how, and {next(iter(given))} was given beside them",
            hint="put it into the settings: dataclasses.replace(settings, limit=16)",
        )
    return given
