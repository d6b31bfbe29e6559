"""The bound of a set of images: records, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from merged_diffusion import _core
from merged_diffusion.scores.means import Floats, MeanOfBounds, MeansOfBounds, Repeats
from merged_diffusion.scores.score_table import Scores

TERMS: Final = ("prior", "reconstruction", "diffusion")


@dataclass(frozen=True, eq=False, repr=False)
class Bound(Scores):
    """The variational bound of N images; each of its terms is negative.

    Images whose loss was not finite failed.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> found = md.variational_bound(md.load_pair("digits"), md.load_data("digits")[:2])
    >>> list(found.terms_nats)
    ['prior', 'reconstruction', 'diffusion']
    """

    TERMS: ClassVar = TERMS
    COLUMNS: ClassVar = ("se_times",)
    ERROR: ClassVar = "se_times"
    ERRORS: ClassVar = {"bits_per_dim": "se_times"}
    MEAN: ClassVar = MeanOfBounds

    @property
    def unit(self) -> str:
        """The unit of the bound."""
        return "bits/dim"

    @property
    def values(self) -> Floats:
        """The bound [N]."""
        return self.bits_per_dim

    @property
    def se_times(self) -> Floats:
        """Standard error [N] in bits/dim that times and noise leave in each value; NaN where unknown.

        From the repeats where there are two or more, else from neighbouring times, whose losses differ by
        noise (and by slope, so it errs to the large side; the reconstruction's noise is not in it).
        """
        return self.column("se_times")

    @property
    def repeat_means(self) -> Floats | None:
        """The set's mean bits/dim in each repeat [R]; None for one repeat or no mean."""
        scored = self.scored
        if self.estimate() is None or scored[0].draws is None:
            return None
        nats: Floats = np.array([record.draws for record in scored], dtype=np.float64).mean(axis=0)
        return _core.bits_per_dim(nats, self.dim)

    def summary(self) -> MeansOfBounds:
        """Means over the images."""
        found, repeats = self.repeat_means, None
        if found is not None:
            std = float(found.std(ddof=1))
            repeats = Repeats(len(found), float(found.mean()), std, found.tolist())
        return MeansOfBounds(**vars(self._means()), repeats=repeats)
