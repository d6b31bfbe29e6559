"""How the probability-flow ODE is solved and its trace is measured, as values that check themselves.

``Adams(tol=1e-3)`` and ``Dopri5(rtol=1e-6)`` have the options of their own method and no other. Words are
what the command line and a run's settings call them. No torch is needed to refuse what cannot be meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import ClassVar, Final, Literal, get_args

from merged_diffusion.errors import UsageError

Method = Literal["dopri5", "adams"]
StepControl = Literal["per-image", "shared"]
ProbeKind = Literal["fixed", "fresh", "gaussian", "exact", "independent"]
ProbeScheme = Literal["lattice", "independent"]

# The words of the command line that say how, and what each may be.
CHOICES: Final = {name: get_args(kind) for name, kind in (("method", Method), ("step_control", StepControl))}
PROBE_KINDS: Final = get_args(ProbeKind)
MOST_COLOURS: Final = 64
WORDS: Final = ("method", "step_control", "rtol", "atol", "tol", "h_max")
LEAST_TOLERANCE: Final = 100 * 2.0**-52  # 100 ulp of the float64 state, whose rounding hides less
LEAST_TOL: Final = 1e-7  # of adams: its errors come from inner products, where half of the digits cancel
CORRECTED_TOL: Final = 0.005  # of adams; from 0.01 on, steps are too long to tell what polynomials leave


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse what is no object of the kinds that an argument takes, a class for an object among it.

    Raises
    ------
    UsageError
    """
    if not isinstance(value, kinds):
        allowed = " or ".join(f"{kind.__name__}(...)" for kind in kinds)
        raise UsageError(
            f"{name} = {value!r:.80} is no {allowed}", hint=f"for instance {name} = {kinds[0].__name__}()"
        )


def check_count(name: str, value: object) -> None:
    """Refuse what counts nothing.

    Raises
    ------
    UsageError
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise UsageError(f"{name} = {value} is no whole number from 1 up")


def check_seed(seed: object) -> None:
    """Refuse what names no stream of random numbers.

    Raises
    ------
    UsageError
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**64:
        raise UsageError(f"seed = {seed} is no whole number in 0..2**64 - 1")


def _check_tolerance(name: str, value: object) -> None:
    number = float(value) if isinstance(value, Real) else math.nan
    if not LEAST_TOLERANCE <= number < math.inf:
        raise UsageError(
            f"{name} = {value} is no finite number from {LEAST_TOLERANCE:.1e} up, 100 units in the last "
            "place of float64",
            hint="use a tolerance between 1e-3 and 1e-12",
        )


def _check_positive(name: str, value: object, least: float) -> None:
    number = float(value) if isinstance(value, Real) else math.nan
    if not (number >= least and 0 < number < math.inf):
        raise UsageError(
            f"{name} = {value} is no finite positive number" + (f" from {least:g} up" if least else ""),
            hint="tol is an error in units of the noise (0.003), h-max a step in gamma (0.7)",
        )


@dataclass(frozen=True)
class Adams:
    """A multistep method: one evaluation a step, an error of at most ``tol`` in units of the noise.

    Steps are at most ``h_max`` in gamma. Each image has steps of its own.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.Adams(tol=1e-3)
    Adams(tol=0.001, h_max=0.7)
    """

    tol: float = 3e-3
    h_max: float = 0.7

    method: ClassVar[Method] = "adams"
    usual_probe: ClassVar[ProbeKind] = "fresh"
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive("tol", self.tol, LEAST_TOL)
        _check_positive("h-max", self.h_max, 0.0)

    @property
    def precision(self) -> tuple[float, float]:
        """What the core is told: ``tol`` and ``h_max``."""
        return self.tol, self.h_max

    @property
    def corrects(self) -> bool:
        """Whether steps are short enough to take the path's first-order error out of log P."""
        return self.tol <= CORRECTED_TOL


@dataclass(frozen=True)
class Dopri5:
    """Dormand and Prince's Runge-Kutta method 5(4) (1980), with a relative and an absolute tolerance.

    ``shared``: the images of a batch are one ODE with one step size, as in the paper.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.Dopri5(rtol=1e-4)
    Dopri5(rtol=0.0001, atol=1e-05, shared=False)
    >>> paper = md.Dopri5(shared=True)
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    shared: bool = False

    method: ClassVar[Method] = "dopri5"
    usual_probe: ClassVar[ProbeKind] = "fixed"

    def __post_init__(self) -> None:
        _check_tolerance("rtol", self.rtol)
        _check_tolerance("atol", self.atol)
        check_kind("shared", self.shared, bool)

    @property
    def precision(self) -> tuple[float, float]:
        """What the core is told: ``rtol`` and ``atol``."""
        return self.rtol, self.atol


Solver = Adams | Dopri5
SOLVERS: Final[Mapping[str, type[Solver]]] = {"dopri5": Dopri5, "adams": Adams}


@dataclass(frozen=True)
class Probes:
    """``n`` directions along which the trace of the Jacobian is measured, or the trace itself.

    ``kind`` is ``fixed`` (Rademacher, one draw for a whole solve), ``fresh`` (another at every node),
    ``gaussian`` or ``exact``; by default what suits the solver: fresh ones for `Adams`, fixed for `Dopri5`.

    ``scheme`` says what several are. ``lattice``, the default: one Rademacher probe cut into n colours, so
    that values close to each other are in different products, and their sum; four leave about a ninth of the
    variance of one. ``independent``: n probes and their mean, which leaves an n-th. Kind ``independent`` is
    that scheme with the usual kind. Gaussian probes are always independent.

    ``companion``: one more product at every node of `Adams`, of a probe that is fixed along the path and has
    no part in the value, tells ``quadrature_error``, how far the trace between the nodes may be missed.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> four = md.Probes(4)
    >>> averaged = md.Probes(4, scheme="independent")
    >>> exact = md.Probes(kind="exact")  # d products for the trace of an image of d values
    """

    n: int = 1
    kind: ProbeKind | None = None
    scheme: ProbeScheme | None = None
    companion: bool = False

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in PROBE_KINDS:
            raise UsageError(f"probe = {self.kind!r}, possible are {', '.join(PROBE_KINDS)}")
        if self.scheme not in (None, *get_args(ProbeScheme)):
            raise UsageError(f"scheme = {self.scheme!r}, possible are {', '.join(get_args(ProbeScheme))}")
        check_count("probes", self.n)
        check_kind("companion", self.companion, bool)
        if self.kind == "exact" and self.n > 1:
            raise UsageError(f"probe exact is the trace itself, but probes = {self.n}", hint="use 1 probe")
        if self.scheme == "lattice" and self.kind in ("gaussian", "independent"):
            raise UsageError(
                f"scheme lattice cuts a Rademacher probe into colours, and the kind is {self.kind}",
                hint="leave one of them out",
            )
        if self.kind == "independent":
            object.__setattr__(self, "kind", None)
            object.__setattr__(self, "scheme", "independent")

    def under(self, solver: Solver) -> Probes:
        """The same with the kind that suits the solver where none is asked for.

        Raises
        ------
        UsageError
            Fresh probes under `Dopri5`.
        """
        if self.kind == "fresh" and isinstance(solver, Dopri5):
            raise UsageError(
                "probe fresh belongs to method adams, and the method is dopri5",
                hint="dopri5 carries the log-density in its error norm and would take the noise of a new "
                "probe at a node for error (5,000 evaluations for 120): use method adams, or probe fixed",
            )
        if self.companion and isinstance(solver, Dopri5):
            raise UsageError(
                "a companion tells the error of adams' quadrature, and the method is dopri5",
                hint="leave it out: dopri5 has the trace in its error norm",
            )
        known = replace(self, kind=self.kind or solver.usual_probe)
        return replace(known, scheme="lattice" if known.is_lattice else "independent")

    def of_dim(self, dim: int) -> Probes:
        """The same for images of ``dim`` values: as many colours as values, or more, are the trace itself.

        Raises
        ------
        UsageError
            There is no lattice of so many colours.
        """
        if not self.is_lattice:
            return self
        if self.n >= dim:
            return Probes(kind="exact", companion=self.companion)
        if self.n > MOST_COLOURS:
            raise UsageError(
                f"probes = {self.n}: a lattice has at most {MOST_COLOURS} colours",
                hint=f"use {MOST_COLOURS}, which leave less noise than {self.n} independent ones, or probe "
                "independent",
            )
        return self

    @property
    def is_lattice(self) -> bool:
        """Whether they are the colours of one probe."""
        return self.n > 1 and self.scheme != "independent" and self.kind not in ("gaussian", "exact")

    @property
    def tell_their_error(self) -> bool:
        """Whether they do: fresh ones along the path, independent ones by their disagreement."""
        return self.kind == "fresh" or (self.kind != "exact" and self.n > 1 and not self.is_lattice)


def solver_of(words: Mapping[str, object], usual: Solver = Adams()) -> Solver:
    """The solver that words of the command line or of a run mean; others and None are passed over.

    Without ``method`` it is the one that the other words belong to, else that of ``usual``, which also has
    what nobody says.

    Raises
    ------
    UsageError
        A word is of no method, or of the other one.
    """
    said = {name: words[name] for name in WORDS if words.get(name) is not None}
    for name, allowed in CHOICES.items():
        if name in said and said[name] not in allowed:
            raise UsageError(f"{name} = {said[name]!r}, possible are {', '.join(allowed)}")
    asked = said.pop("method", None)
    control = said.get("step_control")
    if control != "shared":
        said.pop("step_control", None)
    owners = {name: "adams" if name in ("tol", "h_max") else "dopri5" for name in said}
    method = str(asked or next(iter(owners.values()), usual.method))
    for name, owner in owners.items():
        if owner != method:
            raise UsageError(
                f"{name.replace('_', '-')} {said[name]} belongs to method {owner}, and the method is "
                f"{method}",
                hint=f"use method {owner}, or leave it out",
            )
    numbers = {name: value for name, value in said.items() if name != "step_control"}
    if method == Dopri5.method and control is not None:
        numbers["shared"] = control == "shared"
    base = usual if usual.method == method else SOLVERS[method]()
    return replace(base, **numbers)  # type: ignore[arg-type]


def words_of(solver: Solver) -> dict[str, object]:
    """The words that mean a solver, None for those of the other method: `solver_of` reads them back."""
    said = {"method": solver.method, "step_control": "shared" if solver.shared else "per-image"}
    return {name: said.get(name, getattr(solver, name, None)) for name in WORDS}
