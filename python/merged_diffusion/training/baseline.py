"""What a model must beat: a Gaussian with full covariance, fitted to the train images.

p(v) >= exp E_u log N(v + u; m, S), u uniform on [0, 1) per value (Theis et al. 2016, section 3.1), m and S +
1e-3 I the mean and covariance of train v + u, in grey levels.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataError

RIDGE: Final = 1e-3  # grey levels squared


def gaussian_bits_per_dim(train: Data, test: Data, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """Bits/dim of each test image [N] under the Gaussian fitted to ``train``, one draw of u per image."""
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"train images are {train.images.shape[1:]}, test images {test.images.shape[1:]}")
    random = np.random.RandomState(seed)
    mean, covariance = _moments(train, random)
    d = len(mean)
    factor = np.linalg.cholesky(covariance + RIDGE * np.eye(d))
    x = _dequantised(test.images, random) - mean
    whitened = np.linalg.solve(factor, x.T)
    log_density = (
        -0.5 * (whitened**2).sum(axis=0) - np.log(np.diag(factor)).sum() - 0.5 * d * math.log(2 * math.pi)
    )
    bits: npt.NDArray[np.float64] = -log_density / (d * math.log(2))
    return bits


def _dequantised(images: npt.NDArray[np.uint8], random: np.random.RandomState) -> npt.NDArray[np.float64]:
    flat = images.reshape(len(images), -1)
    return flat + random.random_sample(flat.shape)


def _moments(
    train: Data, random: np.random.RandomState
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean [d] and covariance [d, d], in chunks: photos' train split has 320,544 images."""
    d = int(np.prod(train.images.shape[1:]))
    total, products = np.zeros(d), np.zeros((d, d))
    for chunk in np.array_split(train.images, math.ceil(len(train) / 16384)):
        x = _dequantised(chunk, random) - train.levels / 2
        total += x.sum(axis=0)
        products += x.T @ x
    mean = total / len(train)
    covariance = (products - len(train) * np.outer(mean, mean)) / (len(train) - 1)
    return mean + train.levels / 2, covariance
