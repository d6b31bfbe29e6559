"""What a measurement is asked for, and what it found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A solver, how exact, and its probes. ``tol`` is rtol and atol of Runge-Kutta methods."""

    solver: str
    tol: float
    h_max: float | None = None
    probe: str = "fixed"
    probes: int = 1
    """Colours of one probe for a solver of the package; independent ones, averaged, for its peers."""
    seed: int = 0
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Also that of its file."""
        words = [self.solver, f"{self.tol:g}"]
        words += [] if self.h_max is None else [f"h{self.h_max:.3g}"]
        words += [self.probe if self.probes == 1 else f"{self.probes}-{self.probe}"]
        words += [self.dtype] if self.dtype != "float32" else []
        return "-".join([*words, f"seed{self.seed}"])


@dataclass(frozen=True)
class Found:
    """Log densities in nats [N], evaluations an image, and what it took."""

    nats: Floats
    evaluations: Floats
    seconds: float
    network_seconds: float
    """In forward calls and vector-Jacobian products."""
    peak_bytes: float | None
    """Resident memory above what was there before."""
