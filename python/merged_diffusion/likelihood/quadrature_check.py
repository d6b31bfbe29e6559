"""Whether a trace is too rough for the nodes that it was seen at: the errors of quadrature of some images.

Nodes lie where the path needs them, and a network may bend faster in z than its path does in gamma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertWarning
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.likelihood.likelihoods import Likelihood

# In bits/dim. Smooth experts have 0.002 to 0.005 at the default tolerance, where splines through every second
# node are 16 times as far off as that through all; less is never warned of.
FLOOR: Final = 5e-3


@dataclass(frozen=True)
class QuadratureCheck(TypedValues):
    """Root mean squares over ``n`` images, in the unit of their value."""

    quadrature_error: float
    """Standard deviation of what quadrature may miss of an image; it is taken to be alike in all of them."""
    se_probe: float | None
    """What probes leave in an image; None where they do not tell."""
    n: int
    floor: float
    """An error below it is not warned of."""

    @property
    def is_rough(self) -> bool:
        """Whether quadrature may miss more than is allowed and than probes leave."""
        return self.quadrature_error > max(self.floor, self.se_probe or 0.0)

    def words(self, unit: str) -> str:
        """What a warning says of it."""
        probes = "" if self.se_probe is None else f", more than the {self.se_probe:.2g} of the probes"
        error = f"{self.quadrature_error:.2g} {unit}"
        return (
            f"quadrature may miss {error} of an image{probes} ({self.n} measured): between the nodes of the "
            "path the trace bends more than they show; a smaller tol or h-max, or method dopri5, has more"
        )


def quadrature_check(found: Likelihood) -> QuadratureCheck | None:
    """Of the images that were measured themselves; None where none was."""
    errors = found.column("quadrature_error")
    known = np.isfinite(errors)
    if not known.any():
        return None
    probes = found.se_probe[known]
    se = None if np.isnan(probes).any() else math.sqrt(float(np.mean(probes**2)))
    floor = FLOOR * found.dim * math.log(2) if found.is_density else FLOOR
    return QuadratureCheck(math.sqrt(float(np.mean(errors[known] ** 2))), se, int(known.sum()), floor)


def rough_words(rough: Mapping[str, QuadratureCheck], unit: str) -> list[str]:
    """What is said of rows that are rough, by name: the worst's words, where there is any."""
    if not rough:
        return []
    worst = max(rough.values(), key=lambda check: check.quadrature_error)
    return [f"{worst.words(unit)} (rows {', '.join(rough)})"]


def warn_rough(found: Likelihood) -> None:
    """Warn of a trace that is rougher than its nodes."""
    check = quadrature_check(found)
    if check is not None and check.is_rough:
        unit = "nats" if found.is_density else "bits/dim"
        warn_caller(ExpertWarning(check.words(unit), "rough trace"))
