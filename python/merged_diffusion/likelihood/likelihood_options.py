"""How a likelihood is computed, as one value that checks itself. Loads no torch."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.ode.machine import DTYPE, Machine
from merged_diffusion.ode.methods import Adams, Dopri5, Probes, Solver, check_count, check_kind, check_seed
from merged_diffusion.scores.defaults import IMPORTANCE, REPEATS, SEED

if TYPE_CHECKING:
    from merged_diffusion.likelihood.path_evidence import PathEvidence

DequantisationKind = Literal["truncated-normal", "uniform", "decoder", "none"]

KINDS: Final = get_args(DequantisationKind)
DEQUANTISE: Final = "truncated-normal"
SINGLE_RTOL: Final = 1e-6  # below it the rounding of a float32 network is a part of the error estimate


@dataclass(frozen=True)
class Options:
    """What `log_likelihood` is asked for beside a model and images; its docstring says what each is."""

    _: KW_ONLY
    seed: int = SEED
    dequantise: DequantisationKind = DEQUANTISE
    importance: int = IMPORTANCE
    repeats: int = REPEATS
    solver: Solver = Adams()
    probes: Probes = Probes()
    machine: Machine = Machine()
    accept: Accept = Accept()
    path: PathEvidence | None = None
    """What is known of the correction of adams' path; None: nothing was measured."""

    def __post_init__(self) -> None:
        """Complete the probes by what suits the solver.

        Raises
        ------
        UsageError
            A value is not possible, or two contradict each other.
        """
        check_kind("solver", self.solver, Adams, Dopri5)
        check_kind("probes", self.probes, Probes)
        check_kind("machine", self.machine, Machine)
        check_kind("accept", self.accept, Accept)
        if self.dequantise not in KINDS:
            raise UsageError(f"dequantise = {self.dequantise!r}, possible are {', '.join(KINDS)}")
        check_count("importance", self.importance)
        check_count("repeats", self.repeats)
        check_seed(self.seed)
        if self.dequantise == "none" and self.importance > 1:
            raise UsageError(
                f"importance = {self.importance} weights draws of noise, but dequantise none draws none",
                hint="use importance 1",
            )
        object.__setattr__(self, "probes", self.probes.under(self.solver))

    def warned(self) -> Self:
        """The same; a warning where a float32 network cannot be as exact as the solver is asked to be."""
        solver = self.solver
        single = (self.machine.dtype or DTYPE) == "float32"
        if isinstance(solver, Dopri5) and single and solver.rtol < SINGLE_RTOL:
            warn_caller(
                f"rtol = {solver.rtol:g} lies below {SINGLE_RTOL:g}, where a float32 network's rounding is "
                'most of the error estimate; use dtype = "float64"'
            )
        return self

    @property
    def is_density(self) -> bool:
        """Whether nothing is dequantised: a density in nats and no probability."""
        return self.dequantise == "none"

    @property
    def n_draws(self) -> int:
        """Problems an image: K draws of the importance bound in each of R repeats."""
        return self.importance * self.repeats

    def once(self, solver: Solver, probes: Probes) -> Self:
        """One draw an image, solved in another way."""
        return replace(self, importance=1, repeats=1, solver=solver, probes=probes)
