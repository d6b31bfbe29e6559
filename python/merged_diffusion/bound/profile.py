"""The loss of one expert by gamma: l(gamma) = E |eps - eps_hat(z, gamma)|^2, summed over an image's values.

Half its integral is the diffusion term of the bound in nats, so the profiles of two experts give the bound of
every merge of them (`merged_diffusion.thresholds.eta_curves`). Both meet the same noise at the same gamma.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import random_numbers
from merged_diffusion.bound.losses import Losses
from merged_diffusion.bound.random_numbers import Floats
from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.experts.base import Expert, check_posterior
from merged_diffusion.frames import Column, Tabular
from merged_diffusion.merge import Convention, as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import check_kind, check_seed
from merged_diffusion.scores.by_image import ByImage, Keep, Positions, here
from merged_diffusion.scores.defaults import SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels
from merged_diffusion.scores.prepared import ready
from merged_diffusion.scores.usual_rows import scoring_rows


@dataclass(frozen=True, eq=False, repr=False)
class Profile(Tabular):
    """Losses in nats [N, G] of N images at the gammas [G]; NaN where an image was not asked.

    As a table it has a row for each gamma: the ``mean`` loss in nats with its ``se``, and ``n`` images.
    """

    ERRORS: ClassVar = {"mean": "se"}

    gamma: Floats
    per_image: Floats
    clusters: npt.NDArray[np.int64] | None = None

    @property
    def n(self) -> npt.NDArray[np.int64]:
        """Images at each gamma [G]."""
        counts: npt.NDArray[np.int64] = self.is_known.sum(axis=0)
        return counts

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Where a loss was measured [N, G]."""
        return ~np.isnan(self.per_image)

    @property
    def mean(self) -> Floats:
        """Mean over the images [G]."""
        return cast(Floats, np.nanmean(self.per_image, axis=0))

    @property
    def influence(self) -> Floats:
        """What each image adds to the mean's error [N, G]; their squares add up to its variance."""
        return np.where(self.is_known, (self.per_image - self.mean) / self.n, 0.0)

    @property
    def se(self) -> Floats:
        """Standard error of the mean [G], clustered where images have clusters."""
        return error_of(self.influence, self.clusters)

    @property
    def evaluations(self) -> int:
        """Forward passes spent."""
        return int(self.n.sum())

    def to_dict(self) -> dict[str, Column]:
        """Columns [G] by name."""
        return {"gamma": self.gamma, "mean": self.mean, "se": self.se, "n": self.n}

    def __repr__(self) -> str:
        ends = f"{self.gamma[0]:.4g} to {self.gamma[-1]:.4g}"
        return f"Profile(loss at {len(self.gamma)} gammas from {ends}, {len(self.per_image)} images)"


def error_of(influence: Floats, clusters: npt.NDArray[np.int64] | None) -> Floats:
    """Standard errors [E] of estimates with ``influence`` [N, E], with a factor G/(G - 1) for G groups."""
    if clusters is not None:
        _, group = np.unique(clusters, return_inverse=True)
        summed = np.zeros((int(group.max()) + 1, influence.shape[1]))
        np.add.at(summed, group, influence)
        influence = summed
    n = len(influence)
    if n < 2:
        return np.full(influence.shape[1], np.nan)
    found: Floats = np.sqrt(np.square(influence).sum(axis=0) * n / (n - 1))
    return found


def loss_profile(
    expert: Expert,
    data: Images,
    gammas: npt.ArrayLike,
    *,
    first: int = 0,
    stride: int = 1,
    seed: int = SEED,
    labels: npt.ArrayLike | None = None,
    machine: Machine = Machine(),
    convention: Convention = "exact",
    by_image: ByImage = here,
) -> Profile:
    """The loss of ``expert`` at ``gammas`` [G] on every image of ``data``.

    Parameters
    ----------
    first
        The number of the first gamma, which names its noise.
    stride
        Ask every image at each ``stride``-th gamma only, the next image at those beside them. At one number
        two experts meet the same images.
    convention
        The same as in `MergedModel`.
    by_image
        Who measures the images: by default this call, all of them.

    Raises
    ------
    UsageError
        Gammas that do not increase, or outside the expert's range.
    SolveError
        A loss that is not finite.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> expert, digits = md.load_expert("bundled:digits-vdm"), md.load_data("digits")[:8]
    >>> profile = md.loss_profile(expert, digits, [-6, -2, 2])
    >>> profile.mean.round().astype(int).tolist()  # nats by gamma
    [32, 13, 2]
    """
    grid = np.asarray(gammas, dtype=np.float64)
    low, high = expert.gamma_range
    if grid.ndim != 1 or len(grid) < 2 or not (np.diff(grid) > 0).all():
        raise UsageError("gammas do not increase, or are fewer than two")
    if grid[0] < low or grid[-1] > high:
        raise UsageError(
            f"gammas from {grid[0]:g} to {grid[-1]:g} leave {low:g} to {high:g}, where expert {expert.name} "
            "was trained"
        )
    check_posterior(expert, "a loss by gamma")
    check_seed(seed)
    check_kind("machine", machine, Machine)
    model = as_model(expert, convention=convention)
    given = as_data(data, None, model)
    (leg,) = model.legs()
    place = machine.here(partial(scoring_rows, len(given)))
    losses = Losses.of(given, as_labels(labels, len(given), model, given.labels), seed, place)
    measure = LossRows(losses, leg.expert, grid, first, stride)
    is_asked = measure.is_asked
    visits = max(int(is_asked.sum(axis=1).max()), 1)
    with ready([leg.expert], place):
        per_image = by_image(len(given), len(grid), measure, rows=place.rows // visits)
    images, points = np.nonzero(is_asked)
    values = per_image[is_asked]
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise SolveError(
            f"the loss of expert {expert.name} is not finite at gamma = {grid[points[where]]:.4g} "
            f"(image {given.ids[images[where]]})",
            gamma=float(grid[points[where]]),
            expert=expert.name,
        )
    return Profile(grid, per_image, given.clusters)


@dataclass(frozen=True, eq=False)
class LossRows:
    """Measures rows [G] of losses: at each ``stride``-th of the gammas [G], of which the first is ``first``.

    It is a `Measure`, and travels to whoever measures.
    """

    losses: Losses
    expert: Expert
    gammas: Floats
    first: int
    stride: int

    @property
    def is_asked(self) -> npt.NDArray[np.bool_]:
        """Which images meet which gammas [N, G]."""
        return _asked(len(self.losses.data), self.first + np.arange(len(self.gammas)), self.stride)

    def __call__(self, positions: Positions, keep: Keep) -> None:
        """Measure the images at positions; NaN where one was not asked."""
        own = self.is_asked[positions]
        images, points = np.nonzero(own)
        draws = random_numbers.profile_draws(points + self.first)
        rows = np.full(own.shape, np.nan)
        with ready([self.expert], self.losses.place):
            rows[own] = self.losses(self.expert, positions[images], self.gammas[points], draws)
        keep(positions, rows)


def _asked(n_images: int, numbers: npt.NDArray[np.int64], stride: int) -> npt.NDArray[np.bool_]:
    """Which images meet the gammas of these numbers [N, G]: every image a comb."""
    if stride < 1:
        raise UsageError(f"stride = {stride} is no whole number from 1 up")
    stride = min(stride, n_images)  # so that some image is at every gamma
    grid: npt.NDArray[np.bool_] = numbers % stride == (np.arange(n_images) % stride)[:, None]
    return grid
