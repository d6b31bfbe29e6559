"""The compiled core: clock, legs, solver, random streams, bits per dimension."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, final, overload

import numpy as np
import numpy.typing as npt

__version__: Final[str]
DEBUG_BUILD: Final[bool]

# ---- gamma

SNAP: Final[float]
VDM_RANGE: Final[tuple[float, float]]
EDM_RANGE: Final[tuple[float, float]]
MERGED_RANGE: Final[tuple[float, float]]

@overload
def alpha(gamma: float, /) -> float: ...
@overload
def alpha(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Scale of the data in z = alpha x + sigma eps; relative error below 1e-15 over [-60, 60]."""

@overload
def sigma(gamma: float, /) -> float: ...
@overload
def sigma(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Scale of the noise in z = alpha x + sigma eps; relative error below 1e-15 over [-60, 60]."""

@overload
def sigma_squared(gamma: float, /) -> float: ...
@overload
def sigma_squared(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Variance of the noise, sigmoid(gamma)."""

@overload
def log_alpha(gamma: float, /) -> float: ...
@overload
def log_alpha(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Logarithm of alpha, -softplus(gamma)/2, with all its digits where alpha rounds to 1."""

@overload
def log_sigma(gamma: float, /) -> float: ...
@overload
def log_sigma(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Logarithm of sigma, -softplus(-gamma)/2, with all its digits where sigma rounds to 1."""

@overload
def edm_sigma(gamma: float, /) -> float: ...
@overload
def edm_sigma(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """EDM's noise level sigma/alpha = exp(gamma/2)."""

@overload
def log_snr(gamma: float, /) -> float: ...
@overload
def log_snr(gamma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Log SNR, -gamma; its own inverse."""

@overload
def gamma_of_edm_sigma(edm_sigma: float, /) -> float: ...
@overload
def gamma_of_edm_sigma(edm_sigma: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Gamma of EDM's noise level, 2 log sigma; UsageError unless positive and finite."""

@overload
def gamma_of_eta(eta: float, gamma_range: tuple[float, float]) -> float: ...
@overload
def gamma_of_eta(
    eta: npt.NDArray[np.float64], gamma_range: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Gamma at time eta of the linear schedule over the range; the ends are met exactly."""

@overload
def eta_of_gamma(gamma: float, gamma_range: tuple[float, float]) -> float: ...
@overload
def eta_of_gamma(
    gamma: npt.NDArray[np.float64], gamma_range: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Time of the linear schedule over the range at which gamma is reached."""

def gamma_range(minimum: float, maximum: float, /) -> tuple[float, float]:
    """The two ends as floats; UsageError unless finite and increasing."""

@final
class Threshold:
    """Where one expert hands over to the other, in the words of the user; checked when made."""

    @staticmethod
    def eta(value: float | str, /) -> Threshold:
        """A point of the eta range in [0, 1] (0, 1: one expert alone), or "min", "max": the ends of
        the gammas at which both experts were trained."""

    @staticmethod
    def gamma(value: float, /) -> Threshold:
        """A gamma = -log SNR."""

    @staticmethod
    def edm_sigma(value: float, /) -> Threshold:
        """A noise level of EDM's, sigma/alpha."""

    @staticmethod
    def logsnr(value: float, /) -> Threshold:
        """A log SNR."""

    @property
    def kind(self) -> str:
        """Which of eta, gamma, edm_sigma, logsnr was given."""

    @property
    def value(self) -> float | str:
        """What was given."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

# ---- merge

@final
class Route:
    """Legs of any number of experts, in the order of rising noise, that follow without gap."""

    def __new__(
        cls,
        ranges: Sequence[tuple[float, float]],
        thresholds: Sequence[float],
        *,
        extrapolate: bool = False,
    ) -> Self:
        """Expert i between gammas thresholds[i - 1] and thresholds[i]; one expert needs none."""

    @staticmethod
    def of_pair(
        likelihood: tuple[float, float],
        quality: tuple[float, float],
        threshold: Threshold,
        *,
        eta_range: tuple[float, float] | None = None,
        range: str = "native",
        extrapolate: bool = False,
    ) -> Route:
        """Likelihood expert (0) below the threshold, quality expert (1) above; eta = 0 or 1: one
        expert alone, on its own range ("native") or the merged one ("merged")."""

    def legs(self, toward: str = "noise") -> list[tuple[int, float, float, bool]]:
        """(expert, start, end, extrapolated) in the order of an integration."""

    @property
    def gamma_range(self) -> tuple[float, float]:
        """Gamma of the data end and of the noise end."""

    @property
    def extrapolated(self) -> bool:
        """Whether any leg leaves the range that its expert was trained on."""

    @property
    def threshold(self) -> dict[str, float | None] | None:
        """The pair's threshold as eta, gamma, edm_sigma and logsnr; an expert alone has eta only."""

    @property
    def snapped_from(self) -> float | None:
        """The gamma that was given, if it was moved onto an end of an expert's range."""

def eta_grid(
    likelihood: tuple[float, float],
    quality: tuple[float, float],
    *,
    eta_range: tuple[float, float] | None = None,
) -> list[float]:
    """Thresholds of a table: both limits of eta and every multiple of 0.1 between them."""

# ---- random

# ---- bits

# ---- ode

# ---- threads

def set_threads(threads: int, /) -> None:
    """Run the core's loops in a pool of that many threads (0: one per core)."""

def threads() -> int:
    """Threads of the pool that the core's loops run in."""
