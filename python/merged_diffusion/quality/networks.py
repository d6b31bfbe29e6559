"""The small feature networks: a classifier of digits, and convolutions with fixed random weights for colour.

They take x = 2(v + 1/2)/L - 1, [B, C, H, W], and give features [B, D] whose mean is 0 and whose covariance is
1 over the train split. The scaling was chosen on images of train and changed ones of train alone: it tells
blur, noise, colours and seams from chance best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from merged_diffusion import _core

N_CLASSES: Final = 10
CLASSIFIER_FEATURES: Final = 32
LEAST_VARIANCE: Final = 1e-3
# (channels, stride) of the layers of random convolutions. A feature of photos sees 9 x 9 pixels, one of
# scenes 17 x 17; the last layer gives two features a channel.
PHOTOS: Final = ((32, 1), (64, 2), (32, 1))
SCENES: Final = ((32, 1), (64, 2), (64, 2), (32, 1))
SEED: Final = 5


class Whitening(nn.Module):
    """(f - mean) S^(-1/2), S the covariance over the train split, so that every direction counts alike.

    S is that of features scaled to variance 1, with eigenvalues of `LEAST_VARIANCE` at least: what hardly
    varies on train is not blown up without bound.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def fit(self, features: Tensor) -> None:
        """Take mean and covariance of ``features`` [N, D], float64."""
        deviation = features.std(dim=0)
        values, vectors = torch.linalg.eigh(torch.corrcoef(features.T))
        root = vectors * values.clamp(min=LEAST_VARIANCE).rsqrt() @ vectors.T
        self.mean.copy_(features.mean(dim=0))
        self.matrix.copy_(root / deviation[:, None])

    def forward(self, features: Tensor) -> Tensor:
        """The same shape."""
        return (features - self.mean) @ self.matrix


class Classifier(nn.Module):
    """Digits: three convolutions and a layer of 32 features, from which the ten classes follow."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 4 * 4, CLASSIFIER_FEATURES),
        )  # fmt: skip
        self.head = nn.Linear(CLASSIFIER_FEATURES, N_CLASSES)
        self.whitening = Whitening(CLASSIFIER_FEATURES)

    def logits(self, x: Tensor) -> Tensor:
        """[B, 10]; for training."""
        classes: Tensor = self.head(torch.relu(self.body(x)))
        return classes

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, 32]: what the last layer reads, before its rectifier."""
        features: Tensor = self.whitening(self.body(x))
        return features


class RandomConvolutions(nn.Module):
    """Photos and scenes: convolutions with drawn weights, ``layers`` of (channels, stride).

    A channel of the last gives its mean over space and the root of its deviation, whose tails are lighter
    than the deviation's: contrasts of patches differ by orders of magnitude.
    """

    def __init__(self, layers: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        inputs = [3, *(channels for channels, _ in layers)]
        self.layers = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1, stride=stride)
            for n_in, (n_out, stride) in zip(inputs, layers, strict=False)
        )
        self.whitening = Whitening(2 * inputs[-1])

    def draw(self) -> None:
        """Weights of variance 2/fan-in (He et al. 2015), biases of 1/100, from the core's streams."""
        for i, layer in enumerate(self.layers):
            for draw, value in enumerate(layer.parameters()):
                fan_in = value[0].numel()
                scale = (2 / fan_in) ** 0.5 if value.ndim > 1 else 0.1
                noise = np.empty((1, value.numel()), dtype=np.float32)
                names = np.array([i], dtype=np.uint64), np.array([draw], dtype=np.uint64)
                _core.fill_normal(noise, SEED, "training", *names)
                value.data.copy_(torch.from_numpy(noise).view_as(value) * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D], two a channel of the last layer."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        x = x.flatten(2)
        features: Tensor = self.whitening(torch.cat([x.mean(dim=2), x.std(dim=2).sqrt()], dim=1))
        return features
