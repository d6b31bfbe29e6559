"""The six problems: two experts merged at a threshold, and where the flow of each image starts.

Starts are the same for every solver and seed, so that seeds differ in their probes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from merged_diffusion import _core
from merged_diffusion.data import load_data
from merged_diffusion.data.images import pixel_values
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.gaussian import GaussianMixtureExpert, merged_log_density
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.pairs import load_pair
from merged_diffusion.training import train
from suite.setting import Floats
from suite.spectral import SpectralGaussian

RECIPE: Final = Path(__file__).with_name("photos-rough.toml")
RANGE: Final = (-13.3, 8.764)
MIDDLE: Final = Threshold.gamma(-6.0)
SEED: Final = 2024
# How the exact trace is integrated: d products an evaluation, so no more nodes than its error needs.
TIGHT: Final = {"tol": 1e-5, "h_max": 0.15, "probe": "exact"}
# Of 192 products one can do with 64 colours, which leave a 25th of the error of one probe or less.
AFFORDABLE: Final = {"tol": 1e-4, "h_max": 0.25, "probe": "fresh", "probes": 64, "seed": 1000}
# And where 3,072 products are too many: colours whose own error is small beside the errors that it judges.
COLOURED: Final = {"tol": 1e-4, "h_max": 0.25, "probe": "fresh", "probes": 36, "seed": 1000}


@dataclass(frozen=True)
class Problem:
    """A merged model and points x [N, C, H, W] whose density at gamma_min is asked for."""

    name: str
    title: str
    model: MergedModel
    points: Floats
    exact: Floats | None = None
    """The answer in nats [N], where there is a closed form."""
    exact_by: Mapping[str, Any] | None = None
    """Where there is none: options of adams that leave next to no error, or a known one."""
    costly: bool = False
    """Whether its network is so large that fewer solvers, tolerances and seeds are run."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.points.shape[1:]
        return channels, height, width

    @property
    def dim(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)

    @property
    def starts(self) -> Floats:
        """Z [N, d] = alpha x at gamma_min."""
        return _core.alpha(self.model.gamma_range[0]) * self.points.reshape(len(self.points), -1)

    def bits_per_dim(self, nats: Floats) -> Floats:
        """Minus log2 of a density, per value."""
        return -nats / (self.dim * math.log(2))


def gaussian(n: int, _out: Path) -> Problem:
    """Two Gaussians of natural spectra, f^-2 and f^-1.8, d = 3072."""
    likelihood = SpectralGaussian(32, 2.0, name="1/f", gamma_range=RANGE)
    quality = SpectralGaussian(32, 1.8, name="1/f^0.9", gamma_range=RANGE)
    model = MergedModel(likelihood, quality, MIDDLE)
    clock = torch.full((n,), RANGE[0], dtype=torch.float64)
    z = likelihood.sample(_normal(n, likelihood.image_shape), clock)
    experts = {"likelihood": likelihood, "quality": quality}
    legs = [(experts[leg.role], leg.start, leg.end) for leg in model.legs()]
    points = z.numpy() / _core.alpha(RANGE[0])
    return Problem(
        "gaussian", "Gaussian 1/f, d = 3072", model, points, exact=merged_log_density(z, legs).numpy()
    )


def mixture(n: int, _out: Path) -> Problem:
    """32 components of width 0.02 (quality expert: 0.03) at distances of about 4, d = 64."""
    shape = (1, 8, 8)
    means = 0.35 * _normal(32, shape, seed=1)
    likelihood = GaussianMixtureExpert(means, variance=0.02**2, name="sharp", gamma_range=RANGE)
    quality = GaussianMixtureExpert(means, variance=0.03**2, name="less sharp", gamma_range=RANGE)
    chosen = torch.from_numpy(np.random.default_rng(SEED).integers(32, size=n))
    width = math.hypot(0.02, _core.edm_sigma(RANGE[0]))
    points = means[chosen] + width * _normal(n, shape)
    model = MergedModel(likelihood, quality, MIDDLE)
    return Problem("mixture", "sharp mixture, d = 64", model, points.numpy(), exact_by=TIGHT)


def digits(n: int, _out: Path) -> Problem:
    """The bundled pair at its recommended threshold, d = 64."""
    return of_images("digits", "digits, d = 64", load_pair("digits"), n, TIGHT)


def photos(n: int, _out: Path) -> Problem:
    """The bundled pair at its recommended threshold, d = 192."""
    return of_images("photos", "photos, d = 192", load_pair("photos"), n, AFFORDABLE)


def rough(n: int, out: Path) -> Problem:
    """The public VDM's architecture in small: undamped Fourier features of 2 and 4 grey levels' period.

    Trained on photos' train split (4 minutes) where ``out`` does not hold it; 16 images.
    """
    likelihood = load_expert(train(RECIPE, out / "photos-rough"))
    quality = load_expert("bundled:photos-edm")
    model = MergedModel(likelihood, quality, Threshold.eta(0.4), eta_range=RANGE)
    return of_images("photos", "rough network, d = 192", model, min(n, 16), AFFORDABLE, name="rough")


def scenes(n: int, _out: Path) -> Problem:
    """The bundled pair of 3 x 32 x 32 at its recommended threshold; 16 images."""
    return of_images("scenes", "scenes, d = 3072", load_pair("scenes"), min(n, 16), COLOURED, costly=True)


def other(expert: str, n: int) -> Problem:
    """The likelihood expert of a folder beside scenes' quality expert, at eta 0.45."""
    model = MergedModel(load_expert(expert), load_expert("bundled:scenes-edm"), Threshold.eta(0.45))
    title = "scenes, another likelihood expert"
    return of_images("scenes", title, model, n, COLOURED, name="other", costly=True)


PROBLEMS: Final[Mapping[str, Callable[[int, Path], Problem]]] = {
    "gaussian": gaussian,
    "mixture": mixture,
    "digits": digits,
    "photos": photos,
    "rough": rough,
    "scenes": scenes,
}


def of_images(
    data: str,
    title: str,
    model: MergedModel,
    n: int,
    exact_by: Mapping[str, Any],
    *,
    name: str | None = None,
    costly: bool = False,
) -> Problem:
    """Images of a test split, each with one draw of truncated normal noise."""
    images = load_data(data).select(limit=n)
    low = model.gamma_range[0]
    noise = np.empty((n, math.prod(images.images.shape[1:])))
    ids = images.ids.astype(np.uint64)
    _core.fill_truncated_normal(noise, math.exp(-low / 2) / images.levels, SEED, ids, np.zeros(n, np.uint64))
    x = pixel_values(images.images, images.levels)
    points = x + _core.edm_sigma(low) * noise.reshape(x.shape)
    return Problem(name or data, title, model, points, exact_by=exact_by, costly=costly)


def _normal(n: int, shape: tuple[int | None, ...], seed: int = SEED) -> torch.Tensor:
    return torch.randn(
        n, *map(int, filter(None, shape)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
