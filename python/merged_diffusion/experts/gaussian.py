"""Experts that know the answer: data from a Gaussian, or from a mixture of Gaussians.

For x ~ N(m, S) the noised z = alpha x + sigma eps has covariance V = alpha^2 S + sigma^2 I and

    eps_hat = sigma V^-1 (z - alpha m),    trace = sigma tr V^-1,    log p = log N(z; alpha m, V),

and the probability flow from gamma_0 to gamma_1 multiplies every principal coordinate of z - alpha m by
sqrt(v(gamma_1)/v(gamma_0)), v(gamma) = alpha^2 s^2 + sigma^2. So even the likelihood under *merged* Gaussian
experts has a closed form: oracles for everything else. Sums of positive terms only, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from merged_diffusion import _core, schedules
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert, ImageShape, Pixels, described

LOG_2_PI = math.log(2 * math.pi)


class _Oracle(nn.Module):
    """Declared facts, and constants that ``.to(dtype)`` leaves in float64."""

    conditional = False
    is_closed_form: bool

    def __init_subclass__(cls) -> None:
        """Another noise predictor in the place of an exact one is exact where it says so."""
        super().__init_subclass__()
        if "is_closed_form" not in vars(cls):
            cls.is_closed_form = cls.is_closed_form and not {"forward", "__call__"} & vars(cls).keys()

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        gamma_range: tuple[float, float],
        pixels: Pixels,
        levels: int,
        name: str,
    ) -> None:
        super().__init__()
        self.training = False
        self.image_shape: ImageShape = image_shape
        self.gamma_range = _core.gamma_range(*gamma_range)
        self.pixels: Pixels = pixels
        self.levels = levels
        self.name = name
        self.dim = math.prod(image_shape)

    def __repr__(self) -> str:
        return described(cast(Expert, self))

    def _keep(self, name: str, value: Tensor) -> None:
        # As bits: a float buffer would be rounded by .to(torch.float32), and the oracle with it.
        self.register_buffer(name, value.detach().double().clone().view(torch.int64))

    def _constant(self, name: str) -> Tensor:
        bits = self.get_buffer(name)
        return bits.to(schedules.home(bits.device)).view(torch.float64)


class GaussianExpert(_Oracle):
    """The exact noise predictor for data from N(mean, S).

    Parameters
    ----------
    image_shape
        C, H, W.
    variance, covariance
        One of the two: the diagonal of S (a number or a tensor that broadcasts to C, H, W), or all of S
        [d, d] in the order of the flattened image.
    mean
        A number or a tensor that broadcasts to C, H, W.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import math
    >>> import numpy as np
    >>> exact = md.GaussianExpert((1, 4, 4), variance=0.25, gamma_range=(-13.3, 13.0))
    >>> (found,) = md.log_density(exact, np.zeros((1, 1, 4, 4)), probes=md.Probes(kind="exact"))
    >>> closed = -8 * math.log(2 * math.pi * 0.25)  # log N(0; 0, I/4) in 16 dimensions
    >>> bool(abs(found - closed) < 0.01)
    True
    """

    is_closed_form = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        *,
        variance: Tensor | float | None = None,
        covariance: Tensor | None = None,
        mean: Tensor | float = 0.0,
        gamma_range: tuple[float, float] = _core.MERGED_RANGE,
        pixels: Pixels = "centred",
        levels: int = 256,
        name: str = "gaussian",
    ) -> None:
        super().__init__(image_shape, gamma_range, pixels, levels, name)
        if (variance is None) == (covariance is None):
            raise UsageError("a Gaussian expert takes either variance or covariance, not both")
        self.dense = covariance is not None
        if covariance is not None:
            _check_covariance(covariance, self.dim)
            eigenvalues, axes = torch.linalg.eigh(covariance.double())
            self._keep("_axes", axes)
            if float(eigenvalues[0]) < -1e-9 * float(eigenvalues[-1]):
                raise UsageError(f"covariance has the negative eigenvalue {float(eigenvalues[0])}")
            self._keep("_variance", eigenvalues.clamp(min=0))
        else:
            self._keep("_variance", _flat(_positive(variance), image_shape))
        self._keep("_mean", _flat(mean, image_shape))

    @property
    def variance(self) -> Tensor:
        """Variances [d] of the data along the principal axes; the diagonal of S unless it is dense."""
        return self._constant("_variance")

    def noised_variance(self, gamma: Tensor | float) -> Tensor:
        """Variance v = alpha^2 s^2 + sigma^2 along the principal axes, float64 [B, d]; gamma [B] or one."""
        gamma = torch.as_tensor(gamma, dtype=torch.float64, device=self.variance.device).reshape(-1, 1)
        return torch.sigmoid(-gamma) * self.variance + torch.sigmoid(gamma)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """eps_hat [B, C, H, W] = sigma V^-1 (z - alpha m), in float64 and then like z."""
        sigma = schedules.sigma(gamma).view(-1, 1)
        along = self._along(z, gamma) * sigma / self.noised_variance(gamma)
        return schedules.as_input(self._back(along).view_as(z), z)

    def trace(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Sum over i of d eps_hat_i / d z_i, float64 [B]."""
        per_row = schedules.sigma(gamma) * (1 / self.noised_variance(gamma)).sum(1)
        return per_row.expand(len(z))

    def log_density(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Logarithm of N(z; alpha m, V) in nats, float64 [B]."""
        v = self.noised_variance(gamma)
        return -0.5 * (self._along(z, gamma).square() / v + v.log() + LOG_2_PI).sum(1)

    def flow(self, z: Tensor, start: float, end: float) -> Tensor:
        """Where the probability flow carries z [B, C, H, W] from gamma ``start`` to ``end``; float64."""
        device = self.variance.device
        at_start, at_end = (torch.full((1,), g, dtype=torch.float64, device=device) for g in (start, end))
        stretch = (self.noised_variance(end) / self.noised_variance(start)).sqrt()
        moved = self._back(self._along(z, at_start) * stretch)
        return (moved + schedules.alpha(at_end) * self._constant("_mean")).view_as(z)

    def flow_log_det(self, start: float, end: float) -> float:
        """Logarithm of the volume that the flow from gamma ``start`` to ``end`` multiplies by, in nats."""
        v = self.noised_variance
        return float(0.5 * (v(end).log() - v(start).log()).sum())

    def sample(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Standard normal z [B, C, H, W] made a draw of the noised data at gamma [B]; float64."""
        along = schedules.widened(z).flatten(1) * self.noised_variance(gamma).sqrt()
        return (self._back(along) + schedules.alpha(gamma).view(-1, 1) * self._constant("_mean")).view_as(z)

    def _along(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Distance z - alpha m along the principal axes, float64 [B, d]."""
        mean = schedules.alpha(gamma).view(-1, 1) * self._constant("_mean")
        centred = schedules.widened(z).flatten(1) - mean
        return centred @ self._constant("_axes") if self.dense else centred

    def _back(self, along: Tensor) -> Tensor:
        return along @ self._constant("_axes").T if self.dense else along


def merged_log_density(z: Tensor, legs: Iterable[tuple[GaussianExpert, float, float]]) -> Tensor:
    """Exact log p(z) [B] of a model whose legs toward noise are (expert, start, end) of Gaussian experts.

    The legs' flows are affine: log N(z_max; 0, sigma^2(gamma_max) I) plus their log determinants. For two
    zero-mean diagonal experts that is the Gaussian of variance
    sigma^2(gamma_max) v_q(gamma_eta)/v_q(gamma_max) v_l(gamma_min)/v_l(gamma_eta).
    """
    moved, log_det, last = schedules.widened(z), 0.0, math.nan
    for expert, start, end in legs:
        moved = expert.flow(moved, start, end)
        log_det += expert.flow_log_det(start, end)
        last = end
    log_variance = 2 * _core.log_sigma(last)
    square = moved.flatten(1).square().sum(1) / math.exp(log_variance)
    return log_det - 0.5 * (square + moved[0].numel() * (LOG_2_PI + log_variance))


class GaussianMixtureExpert(_Oracle):
    """The exact noise predictor for data from a mixture of K Gaussians of diagonal covariance.

    With variance 0 it is the posterior mean over K stored images.

    Parameters
    ----------
    means
        [K, C, H, W].
    variance
        A number, or a tensor that broadcasts to [K, C, H, W]; zero is allowed.
    weights
        [K], positive, of any sum (default: equal).

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import torch
    >>> means = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    >>> md.GaussianMixtureExpert(means, variance=0.1)
    GaussianMixtureExpert(mixture, 1x4x4, 256 levels, gamma -13.3 to 8.764)
    """

    is_closed_form = True

    def __init__(
        self,
        means: Tensor,
        *,
        variance: Tensor | float,
        weights: Tensor | None = None,
        gamma_range: tuple[float, float] = _core.MERGED_RANGE,
        pixels: Pixels = "centred",
        levels: int = 256,
        name: str = "mixture",
    ) -> None:
        if means.dim() != 4:
            raise UsageError(f"means of shape {tuple(means.shape)}, where [K, C, H, W] is needed")
        count, channels, height, width = means.shape
        super().__init__((channels, height, width), gamma_range, pixels, levels, name)
        weights = torch.ones(count) if weights is None else weights
        if weights.shape != (count,) or not bool((weights > 0).all()):
            raise UsageError(f"weights must be {count} positive numbers, one for each mean")
        variances = torch.as_tensor(_positive(variance), dtype=torch.float64).expand_as(means)
        self._keep("_means", means.flatten(1))
        self._keep("_variance", variances.flatten(1))
        self._keep("_log_weights", (weights.double() / weights.double().sum()).log())

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """eps_hat [B, C, H, W] = sigma sum_k r_k (z - alpha m_k)/v_k, r_k the posterior of component k."""
        pull, _, log_joint = self._components(z, gamma)
        mean_pull = torch.einsum("bk,bkd->bd", log_joint.softmax(1), pull)
        return schedules.as_input((schedules.sigma(gamma).view(-1, 1) * mean_pull).view_as(z), z)

    def trace(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Sum over i of d eps_hat_i / d z_i, float64 [B]."""
        pull, v, log_joint = self._components(z, gamma)
        posterior = log_joint.softmax(1)
        mean_pull = torch.einsum("bk,bkd->bd", posterior, pull)
        # The variance of the pulls round their mean, not a difference of their squares.
        spread = (pull - mean_pull.unsqueeze(1)).square()
        return schedules.sigma(gamma) * (posterior * (1 / v - spread).sum(2)).sum(1)

    def log_density(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Logarithm of sum_k w_k N(z; alpha m_k, V_k) in nats, float64 [B]."""
        return self._components(z, gamma)[2].logsumexp(1)

    def _components(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(z - alpha m_k)/v_k and v_k, float64 [B, K, d], and log w_k N(z; alpha m_k, v_k) [B, K]."""
        clock = gamma.double().view(-1, 1, 1)
        v = torch.sigmoid(-clock) * self._constant("_variance") + torch.sigmoid(clock)
        means = schedules.alpha(clock) * self._constant("_means")
        away = schedules.widened(z).flatten(1).unsqueeze(1) - means
        log_normal = -0.5 * (away.square() / v + v.log() + LOG_2_PI).sum(2)
        return away / v, v, self._constant("_log_weights") + log_normal


def _positive(variance: Tensor | float | None) -> Tensor | float:
    values = _doubles(variance)
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise UsageError(f"variance {float(values.min())} found, where it must be finite and not negative")
    return values


def _flat(values: Tensor | float, image_shape: tuple[int, int, int]) -> Tensor:
    return _doubles(values).expand(image_shape).flatten()


def _doubles(values: object) -> Tensor:
    """float64; torch takes no numpy array of negative strides or of another machine's bytes."""
    given = np.array(values, dtype=np.float64, order="C") if isinstance(values, np.ndarray) else values
    return torch.as_tensor(given, dtype=torch.float64)


def _check_covariance(covariance: Tensor, dim: int) -> None:
    if covariance.shape != (dim, dim):
        raise UsageError(f"covariance of shape {tuple(covariance.shape)}, where [{dim}, {dim}] is needed")
    if not torch.allclose(covariance, covariance.T, rtol=1e-6, atol=0.0):
        raise UsageError("covariance is not symmetric")
