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

@overload
def erf(x: float, /) -> float: ...
@overload
def erf(x: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """Error function, within one unit in the last place."""

@overload
def normal_quantile(p: float, /) -> float: ...
@overload
def normal_quantile(p: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
    """The x with Phi(x) = p (Wichura 1988, AS 241); relative error below 1e-15, NaN outside [0, 1]."""

@final
class TruncatedNormal:
    """Standard normal law on [-tau, tau], the noise of dequantisation; densities in nats."""

    def __new__(cls, tau: float) -> Self:
        """UsageError unless tau is positive and finite."""

    @property
    def tau(self) -> float:
        """Half-width."""

    @property
    def log_mass(self) -> float:
        """log Z, Z = erf(tau/sqrt 2)."""

    @property
    def entropy(self) -> float:
        """1/2 log(2 pi e) + log Z - tau phi(tau)/Z, per dimension."""

    @overload
    def log_density(self, x: float, /) -> float: ...
    @overload
    def log_density(self, x: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
        """log density at x; minus infinity outside [-tau, tau]."""

    @overload
    def cdf(self, x: float, /) -> float: ...
    @overload
    def cdf(self, x: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
        """Probability of a value up to x, within 1e-15."""

    @overload
    def quantile(self, p: float, /) -> float: ...
    @overload
    def quantile(self, p: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
        """The x with cdf(x) = p, in [-tau, tau]; NaN for p outside [0, 1]."""

def fill_truncated_normal(
    out: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    tau: float,
    seed: int,
    images: npt.NDArray[np.uint64],
    draws: npt.NDArray[np.uint64],
) -> None:
    """Fill row i of ``out`` [N, d] (C-contiguous) with truncated-normal noise of (seed, "dequantisation",
    images[i], draws[i]).

    A row depends on its own name only, never on the other rows, d, threads or time. float32 values are the
    float64 ones, rounded; none lies beyond tau. Number j inverts the distribution function at
    u = (k + 1/2) 2^-52, k the upper 52 bits of word j of a ChaCha8 keystream whose key is the four words of the
    name (purposes are numbered 1 "dequantisation", 2 "probe", 3 "start", 4 "training", 5 "sampling", 6 "decoding").
    So do the other fills.
    """

def fill_normal(
    out: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    seed: int,
    purpose: str,
    images: npt.NDArray[np.uint64],
    draws: npt.NDArray[np.uint64],
) -> None:
    """Fill row i of ``out`` [N, d] with standard normal numbers of (seed, purpose, images[i], draws[i]).

    ``purpose`` is one of those names; UsageError otherwise.
    """

def fill_uniform(
    out: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    low: float,
    high: float,
    seed: int,
    purpose: str,
    images: npt.NDArray[np.uint64],
    draws: npt.NDArray[np.uint64],
) -> None:
    """Fill row i of ``out`` [N, d] with uniform numbers strictly between ``low`` and ``high``."""

def fill_signs(
    out: npt.NDArray[np.uint8],
    seed: int,
    images: npt.NDArray[np.uint64],
    draws: npt.NDArray[np.uint64],
    nodes: npt.NDArray[np.uint64],
) -> None:
    """Fill row i of ``out`` [N, ceil(d/8)] with random signs of (seed, "probe", images[i], draws[i], nodes[i]).

    Bit i of byte b is entry 8 b + i, and 1 is +1. The node is the nonce of the cipher.
    """

# ---- bits

def end_density(
    square: npt.NDArray[np.float64], gamma_max: float, dim: int
) -> npt.NDArray[np.float64]:
    """log N(z; 0, sigma^2 I) at gamma_max [N] of every ``square`` = |z|^2 [N], in nats."""

def dequantisation_constant(kind: str, gamma_min: float, levels: int, dim: int) -> float:
    """Entropy E[-log q(z | x)] of the dequantised image in nats (Zheng et al. 2023, eq. 17).

    ``kind`` is "truncated-normal", "uniform", "decoder" (log p(x | z) is added per draw) or "none" (0).

    Raises
    ------
    UsageError
        Another kind; no levels or dimensions; for the truncated normal, a gamma_min whose half-width
        exp(-gamma_min/2)/levels is not positive and finite.
    """

def dequantisation_per_draw(
    kind: str, gamma_min: float, levels: int, dim: int, square: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """-log q(z | x) of every draw [N] in nats, given its ``square`` = |eps|^2 [N].

    Kinds and errors are those of ``dequantisation_constant``, its expectation. The uniform law and "none" do not
    look at ``square``; the decoder's log p(x | z) is not in it.
    """

def decoder_log_likelihood(
    z: npt.NDArray[np.float64],
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    gamma_min: float,
    levels: int,
) -> npt.NDArray[np.float64]:
    """log p(x | z) [N] in nats of ``pixels`` [N, d] at z = z_min [N, d] (Kingma et al. 2021, section 3.2).

    Each pixel's law over its levels x_k = 2 (k + 1/2)/levels - 1 is the softmax of
    -exp(-gamma_min) (z/alpha - x_k)^2 / 2. Both arrays must be C-contiguous.

    Raises
    ------
    UsageError
        Shapes that differ, nothing in them, or a pixel that is none of the levels.
    """

def image_terms(
    end_density: npt.NDArray[np.float64],
    trace: npt.NDArray[np.float64],
    path_correction: npt.NDArray[np.float64],
    dequantisation: npt.NDArray[np.float64],
    importance: int,
) -> dict[str, float]:
    """Terms of one image's log P in nats: end_density, trace, path_correction, dequantisation, importance.

    The arrays [R K] hold draw k of repeat r at r K + k, K = ``importance``. The terms add up to
    mean_r log mean_k exp(sum of the four): importance is what the K draws gain over the mean of their bounds
    (exactly 0 for K = 1), the others are means over all draws.

    Raises
    ------
    UsageError
        No draws, lengths that differ, or a part of a repeat.
    """

def draw_weights(bounds: npt.NDArray[np.float64], importance: int) -> npt.NDArray[np.float64]:
    """Derivatives [R K] of an image's log P by the bounds [R K] of its draws; they add up to 1.

    Raises
    ------
    UsageError
        No draws, or a part of a repeat.
    """

@overload
def bits_per_dim(nats: float, dim: int) -> float: ...
@overload
def bits_per_dim(nats: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float64]:
    """-nats / (dim log 2)."""

def mean_and_error(values: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """Mean and standard error of independent values [N], summed with compensation; one value has no error."""

def clustered_error(
    values: npt.NDArray[np.float64], clusters: npt.NDArray[np.int64]
) -> float | None:
    """Standard error of the mean of values [N] that share clusters [N] (Liang & Zeger 1986); one cluster has none.

    se^2 = G/(G - 1) sum over the G clusters g of (sum_{i in g} (x_i - mean))^2 / N^2.
    """

def error_of_mean(errors: npt.NDArray[np.float64]) -> float:
    """Standard error of the mean of values that have independent errors [N] of their own."""

def probe_variances(
    times: npt.NDArray[np.float64], probes: list[npt.NDArray[np.float64]]
) -> tuple[npt.NDArray[np.float64], float] | None:
    """Variance of half the integral of q, where every node has probes of its own, and how well it is known.

    Parts [n] by node; and half the variance of their sum, which is its square over its degrees of freedom
    (Satterthwaite 1946).
    ``times`` [n] are the nodes of a leg, ``probes`` the values [n] of q of each probe. One probe's noise shows
    in the distance of its values from their neighbours (Gasser et al. 1986); None with fewer than 4 nodes.

    Raises
    ------
    ValueError
        No probe, or lengths that differ.
    """

def quadrature_variance(
    times: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> float | None:
    """Square of how far half the integral of the spline through ``values`` [n] of a smooth q may be off.

    The sum of D_even^2, D_odd^2 (splines through every second node of ``times`` [n] less that through all)
    and the squares of (w r / 2), w the spline's weights and r the distance of each value from what its four
    neighbours predict. None with fewer than 4 nodes.

    Raises
    ------
    ValueError
        Lengths that differ.
    """

def paired_difference(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Mean of a - b [N] as ``difference``, with ``se``, ``se_images`` and the number of images ``n``.

    ``se`` is clustered where clusters [N] are given, ``se_images`` never is; None where there is but one.
    """

# ---- outcome, host, lane

@final
class Outcome:
    """How one problem of a solve ended."""

    @property
    def key(self) -> int:
        """The problem."""

    @property
    def status(self) -> str:
        """ok, nonfinite, dt_min, max_steps or tolerance_missed."""

    @property
    def leg(self) -> int:
        """Position of the leg it ended in."""

    @property
    def gamma(self) -> float:
        """Where it ended."""

    @property
    def log_density(self) -> float:
        """Integral of the drift's trace over the legs, in nats; log p(z_min) less the end density."""

    @property
    def path_correction(self) -> float:
        """What the evaluated path's distance from the solution adds to log_density, in nats (Adams)."""

    @property
    def square(self) -> float:
        """|z|^2 at the end of the last leg; 0 where that was not reached."""

    @property
    def evaluations(self) -> list[int]:
        """Network evaluations, leg by leg."""

    @property
    def accepted(self) -> int:
        """Accepted steps."""

    @property
    def rejected(self) -> int:
        """Rejected attempts."""

    @property
    def ratio(self) -> float:
        """The last error estimate in units of the tolerance."""

    @property
    def stage(self) -> int | None:
        """The first stage of the last attempt whose network output was not finite."""

    @property
    def steps(self) -> npt.NDArray[np.float64] | None:
        """Where its accepted steps ended, if a solve recorded them."""

    @property
    def origin(self) -> tuple[int, int] | None:
        """The problem in whose row its first accepted steps were taken, and how many those are."""

@final
class HostStore:
    """States between legs, and at the end of the last where a solve keeps them, by key."""

    def __new__(cls) -> Self: ...
    def __len__(self) -> int: ...
    def take(self, key: int) -> npt.NDArray[np.float64]:
        """The state [d] under the key, which is forgotten; KeyError if there is none."""

@final
class HostWorkspace:
    """A leg on the host: buffers in the core, a network input shared with Python, and two callbacks.

    ``start(key)`` gives a state float64 [d]; ``evaluate(t [G], node [G], key [G])`` reads ``input`` [G, d] and
    returns a new array like it and q float64 [G]. Rows without a problem carry the key of the solve's first one.
    """

    def __new__(
        cls,
        input: npt.NDArray[np.float32] | npt.NDArray[np.float64],
        store: HostStore,
        start: Callable[[int], npt.NDArray[np.float64]],
        evaluate: Callable[
            [npt.NDArray[np.float64], npt.NDArray[np.uint64], npt.NDArray[np.uint64]],
            tuple[npt.NDArray[Any], npt.NDArray[np.float64]],
        ],
    ) -> Self: ...

def solve(
    legs: Sequence[tuple[float, float]],
    workspaces: Sequence[object],
    keys: npt.NDArray[np.uint64],
    *,
    rows: int,
    dim: int,
    finished: Callable[[Outcome], object],
    method: str,
    precision: tuple[float, float],
    drift: str = "probability-flow",
    step_control: str = "per-image",
    steps: int | None = None,
    noise_floor: float = 0.0,
    keep: bool = False,
    record_steps: bool = False,
    branches: Sequence[Sequence[tuple[float, float]]] | None = None,
    stride: int = 0,
    soft: Sequence[int] | None = None,
    time_verbs: bool = False,
) -> dict[str, Any]:
    """Take every problem through all legs, on one workspace per leg.

    ``method`` is "dopri5", Dormand-Prince 5(4), whose ``precision`` is (rtol, atol); or "adams", the exponential
    Adams method of orders up to 3, one evaluation a step, whose ``precision`` is (tol, h_max): errors of at most
    tol in units of the noise max(s, ``noise_floor``), s = exp(gamma/2), steps of at most h_max in gamma.
    Workspaces have 7 slots for the one, 5 for the other.

    ``workspaces`` holds HostWorkspace objects, or objects with the verbs of ``ode.workspace.Workspace``.
    ``drift`` is "probability-flow", dz/dgamma = -sigma^2 z/2 + sigma eps_hat/2 with its log-density, "flow", the
    same without (dopri5), or "plain",
    dy/dt = what was evaluated. ``step_control`` is "per-image", "shared" (blocks of ``rows`` keys, one step size and
    one error norm each, as scipy's solve_ivp on the block) or "constant" (``steps`` equal steps a leg).
    ``finished(outcome)`` is called for each problem, in order of finishing; its exceptions and those of the
    callbacks come out unchanged.

    ``branches`` are further routes that begin as ``legs`` does; problem ``key + c * stride`` goes route c, which
    is ``legs`` for c = 0. The problems of one ``key`` share a row as long as they take the same steps; their outcomes
    are to the last bit those of solves without branches, and count the evaluations that they would have taken alone.

    At the ends of the legs ``soft`` the right-hand side is smooth: a problem lands there and goes on in the next
    workspace with its slots, history and step size; nothing is restarted.

    Returns ``frames`` (attempts of all rows of a leg at once), ``calls`` (network calls, leg by leg),
    ``evaluations`` (their useful rows), and ``rows_before_drain``, ``evaluations_before_drain`` (the same while
    problems waited for their first row). With ``time_verbs`` also ``verbs``: calls and seconds of each verb of the
    workspaces, by name; what a callback takes is part of the verb that calls it.

    Raises
    ------
    UsageError
        No rows, legs or steps; a leg without extent; tolerances that are not positive or too fine; "adams" or
        branches with shared steps; "adams" with a plain drift; branches that begin elsewhere, a key of none.
    """

# ---- threads

def set_threads(threads: int, /) -> None:
    """Run the core's loops in a pool of that many threads (0: one per core), and those of forks of this process."""

def threads() -> int:
    """Threads of the pool that the core's loops run in."""
