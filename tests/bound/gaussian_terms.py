"""The diffusion term of a Gaussian expert, exactly: what bounds and profiles are held against."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def gaussian_diffusion(x: Floats, mean: Floats, variance: Floats, start: float, end: float) -> Floats:
    """The diffusion term [N] of x [N, d] between two gammas under a Gaussian expert, exactly.

    For eps_hat of data N(mean, variance) [d], with w = exp(gamma), the expected loss of a value is
    (s^4 + w (x - m)^2)/(s^2 + w)^2; half its integral over log w is
    [log(w/(s^2 + w)) + (s^2 - (x - m)^2)/(s^2 + w)]/2 between the ends.
    """
    low, high = (_primitive(x, mean, variance, gamma) for gamma in (start, end))
    found: Floats = 0.5 * (high - low).sum(axis=1)
    return found


def gaussian_loss(x: Floats, mean: Floats, variance: Floats, gamma: float) -> Floats:
    """The expected |eps - eps_hat|^2 [N] of x [N, d] under a Gaussian expert: the integrand of the above."""
    w = math.exp(gamma)
    values = (variance**2 + w * np.square(x - mean)) / (variance + w) ** 2
    found: Floats = values.sum(axis=1)
    return found


def _primitive(x: Floats, mean: Floats, variance: Floats, gamma: float) -> Floats:
    w = math.exp(gamma)
    found: Floats = -np.log1p(variance / w) + (variance - np.square(x - mean)) / (variance + w)
    return found
