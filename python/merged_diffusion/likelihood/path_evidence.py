"""May the first-order correction of adams' path be applied under a model? What two tolerances say of it.

The correction C takes eps_hat for -sigma times the score of the flow's own density. That holds of exact
experts, and above no threshold; a network need not be a gradient at all. Where it holds, going from a
tolerance to a finer one changes the log density L without its correction by as much as C falls: of images at
both, with dL = L_fine - L and dC = C - C_fine,

    beta = sum dL dC / sum dC^2,

the regression through zero, is one. Its standard error is by leaving out each image in turn (Tukey 1958).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.ode.methods import Adams, Solver

if TYPE_CHECKING:
    from merged_diffusion.experts.base import Expert

Floats = npt.NDArray[np.float64]

LEAST: Final = 0.5  # beta has to exceed it by two standard errors; below it nothing is gained
NEGLIGIBLE: Final = 0.1  # of the error that is stated for a path: smaller corrections are left alone
LEAST_IMAGES: Final = 3


@dataclass(frozen=True)
class PathEvidence(TypedValues):
    """What a pilot on ``n`` images says of the path's correction; errors in the unit of a value."""

    beta: float
    """The share of the correction that a finer tolerance confirms."""
    se: float | None
    """Its standard error; None where too few images tell none."""
    ratio: float
    """What was left of dL over dC: root mean squares."""
    rms: float
    """What was left of dL: root mean square."""
    n: int
    """No image: nothing was measured, and the correction is taken for what its formula says."""

    @property
    def share(self) -> float:
        """How much of a correction is applied: beta, at most 1, where it is surely above one half."""
        is_sure = self.se is not None and self.beta - 2 * self.se > LEAST
        return min(self.beta, 1.0) if is_sure else 0.0

    def words(self, unit: str = "bits/dim") -> str:
        """What is said of it."""
        se = "" if self.se is None else f" ± {self.se:.2g}"
        done = f"{self.share:.2f} of it is applied" if self.share else "none of it is applied"
        return (
            f"a finer tol confirms {self.beta:.2f}{se} of the path's correction on {self.n} images: {done}, "
            f"and {self.rms:.2g} {unit} are left"
        )

    def error(self, corrections: Floats) -> Floats:
        """What is stated of paths with these corrections, in their unit."""
        return np.maximum(np.abs(corrections) * self.ratio, self.rms)

    def applied(self, corrections: Floats) -> Floats:
        """What is added to log P: nothing where it is far smaller than the error that is stated."""
        if not self.share:
            return np.zeros_like(corrections)
        counts = np.abs(corrections) > NEGLIGIBLE * self.error(corrections)
        return np.where(counts, self.share * corrections, 0.0)


ASSUMED: Final = PathEvidence(1.0, 0.0, 1.0, 0.0, 0)
"""As the formula says; the correction itself is stated as an error."""
LEFT_OUT: Final = PathEvidence(0.0, 0.0, 1.0, 0.0, 0)
"""Told as an error, and not applied."""


def unmeasured(solver: Solver, experts: Iterable[Expert]) -> PathEvidence | None:
    """What is taken for true under some experts where nothing was measured; None of dopri5.

    Closed forms alone (``is_closed_form``) are known to be scores; what is said of a network is told only.
    """
    if not isinstance(solver, Adams):
        return None
    is_known = all(getattr(expert, "is_closed_form", False) for expert in experts)
    return ASSUMED if is_known and solver.corrects else LEFT_OUT


def path_evidence(coarse: tuple[Floats, Floats], fine: tuple[Floats, Floats]) -> PathEvidence:
    """From L, without its correction, and C [N] at a tolerance and at a finer one; failed images are NaN.

    Three digits are kept, so that workers whose last bits differ find the same.

    Examples
    --------
    >>> import numpy as np
    >>> c = np.array([1.0, 2.0, 3.0, 4.0])
    >>> found = path_evidence((10 - c, c), (10 - c / 4, c / 4))  # what is left after C is nothing
    >>> found.beta, found.share, found.rms
    (1.0, 1.0, 0.0)
    """
    gained, spent = fine[0] - coarse[0], coarse[1] - fine[1]
    known = np.isfinite(gained) & np.isfinite(spent)
    gained, spent = gained[known], spent[known]
    n, square = len(gained), float(spent @ spent)
    beta = _kept(float(gained @ spent) / square) if square else 0.0
    found = PathEvidence(beta, _jackknife(gained, spent), 0.0, 0.0, n)
    left = _rms(gained - found.share * spent)
    return PathEvidence(beta, found.se, _kept(left / _rms(spent)) if square else 0.0, _kept(left), n)


def _jackknife(gained: Floats, spent: Floats) -> float | None:
    n = len(gained)
    squares = float(spent @ spent) - spent**2
    if n < LEAST_IMAGES or not (squares > 0).all():
        return None
    without = (float(gained @ spent) - gained * spent) / squares
    return _kept(float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _kept(value: float) -> float:
    return float(f"{value:.3g}")
