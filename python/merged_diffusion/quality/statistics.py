"""Statistics of a reference set: its law, and how it was made (`docs/formats.md`).

EDM's files hold ``mu`` and ``sigma`` alone, so that nothing can be checked; ours add what they are of:
images, feature network, resize, laws by group, features for the kernel distance and for neighbours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.images import Data, chosen_positions
from merged_diffusion.errors import DataError
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.copies import is_searchable
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.few_images import FewImages, gathered
from merged_diffusion.quality.frechet import UNBIASED_FROM
from merged_diffusion.quality.kid import MAX_REFERENCE
from merged_diffusion.quality.moments import Law

log = logging.getLogger("merged_diffusion")
INCEPTION: Final = 2048  # features
BATCH: Final = 1024  # images whose features are held at a time

Observer = Callable[[int], None]
Known = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]
"""Features [M, D] of images at positions [M], which were computed before."""


@dataclass(frozen=True)
class About:
    """What statistics are of; the names of ``fid-ref``'s ``about``."""

    data: str
    split: str
    data_sha256: str
    n: int
    levels: int
    image_shape: tuple[int, ...]
    features: str
    features_sha256: str
    resize: str

    @classmethod
    def of(cls, data: Data, extractor: Extractor) -> About:
        """Facts of a reference that is all images of ``data``."""
        return cls(
            data.name, data.split, data.sha256, len(data), data.levels, data.images.shape[1:],
            extractor.name, extractor.sha256, extractor.resize,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Statistics:
    """A law, what it is of (None: a bare file), features [R, D] of single images, and a floor.

    ``floor``: (n, the distance that an ideal model would have at n images), ascending.
    """

    law: Law | FewImages
    about: About | None
    reference: npt.NDArray[np.floating] | None = None
    floor: tuple[tuple[int, float], ...] = ()
    file: str | None = None
    sha256: str | None = None
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def name(self) -> str:
        """For messages."""
        return self.file or (f"{self.about.data}/{self.about.split}" if self.about else "statistics")

    @property
    def features(self) -> str | None:
        """The name of the features, as far as the file tells; EDM's are Inception's."""
        if self.about is not None:
            return self.about.features
        return "inception" if self.law.dim == INCEPTION else None

    @property
    def kernel_features(self) -> npt.NDArray[np.floating] | None:
        """Those of 10,000 images at most, which `collect` would have kept were it asked for no more."""
        return _some(self.reference, MAX_REFERENCE)

    @property
    def ball_features(self) -> npt.NDArray[np.floating] | None:
        """Those that span the balls of `Manifolds`."""
        return _some(self.kernel_features, self.calibration.n or MAX_REFERENCE)

    @property
    def is_searchable(self) -> bool:
        """Whether copies can be looked for: the features of all its images are here."""
        return (
            self.about is not None
            and self.reference is not None
            and is_searchable(len(self.reference), self.about.n)
        )

    def floor_at(self, n: int) -> float | None:
        """The distance of an ideal model at ``n`` images; straight lines in log n, log distance.

        None below the table: there the law is another (rank n - 1, in the dimensions of the features).
        """
        if not self.floor or n < self.floor[0][0]:
            return None
        x, y = np.log(np.array(self.floor, dtype=np.float64)).T
        # Beyond the end the last segment goes on: there it is nearly the law 1/n.
        at = int(np.clip(np.searchsorted(x, math.log(n)) - 1, 0, len(x) - 2))
        slope = (y[at + 1] - y[at]) / (x[at + 1] - x[at])
        return math.exp(y[at] + slope * (math.log(n) - x[at]))

    def check(self, data: Data, extractor: Extractor) -> None:
        """`DataError` where these statistics are of other features, another resize or other images."""
        if self.law.dim != extractor.dim:
            raise DataError(
                f"{self.name}: statistics of {self.law.dim} features, {extractor.name} has {extractor.dim}",
                hint="make them again: merged-diffusion fid-ref IMAGES OUT.npz",
                expected=extractor.dim,
                found=self.law.dim,
            )
        if self.about is None:
            log.warning(
                "%s holds mu and sigma alone: that they are of these features, this resize and the intended "
                "images cannot be checked; SHA-256 %s",
                self.name,
                self.sha256,
            )
            return
        expected = {
            "features": extractor.name,
            "features_sha256": extractor.sha256,
            "resize": extractor.resize,
            "levels": data.levels,
            "image_shape": tuple(data.images.shape[1:]),
        }
        self._agree(expected, f"the images {data.name} with {extractor.name} features")
        self._check_known(self.about)

    def check_data(self, name: str) -> None:
        """`DataError` where these statistics say that they are of another set than ``name``."""
        if self.about is not None:
            self._agree({"data": name}, "what was asked for")

    def _check_known(self, about: About) -> None:
        """A known set's statistics are those of its published images, all of them."""
        card = known()["data"].get(about.data, {})
        sha256 = card.get("sha256_train" if about.split == "train" else "sha256")
        if "files" in card and sha256 is not None:
            self._agree({"data_sha256": sha256}, f"the published {about.data}/{about.split}")
        if "n_test" in card and about.split == "test":
            self._agree({"n": card["n_test"]}, f"the published {about.data}/test")

    def _agree(self, expected: dict[str, object], what: str) -> None:
        for key, wanted in expected.items():
            found = getattr(self.about, key)
            if found != wanted:
                raise DataError(
                    f"{self.name}: statistics with {key} = {_shown(found)}, but {what} have {_shown(wanted)}",
                    hint="make them again: merged-diffusion fid-ref IMAGES OUT.npz",
                    key=key,
                    expected=wanted,
                    found=found,
                )


def collect(
    data: Data,
    extractor: Extractor,
    stored: int = MAX_REFERENCE,
    *,
    groups: bool = True,
    observe: Observer | None = None,
    known: Known | None = None,
) -> Statistics:
    """The statistics of all images of ``data``, with the features of ``stored`` of them.

    Which ones is the rule of ``--limit``. Without ``groups`` the law counts as exact in a standard error.
    ``known``: their features, where they are there.
    """
    if known is None:
        extractor.check(data)
    moments = gathered(extractor.dim, len(data), data.name)
    kept = np.zeros(len(data), dtype=bool)
    if stored:
        kept[chosen_positions(len(data), min(stored, len(data)))] = True
    reference = []
    for positions, features in batches(data, extractor, observe, known):
        moments.add(features, data.ids[positions])
        reference.append(features[kept[positions]].astype(np.float32))
    law = moments.law()
    law = replace(law, groups=()) if isinstance(law, Law) and not groups else law
    return Statistics(law, About.of(data, extractor), np.concatenate(reference) if stored else None)


def _some(features: npt.NDArray[np.floating] | None, most: int) -> npt.NDArray[np.floating] | None:
    """A random choice of ``most`` rows, in their order; all where there are no more."""
    if features is None or len(features) <= most:
        return features
    return features[np.sort(chosen_positions(len(features), most))]


def batches(
    data: Data, extractor: Extractor, observe: Observer | None = None, known: Known | None = None
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """(positions, features) of a thousand images at a time, in ascending order of their ids."""
    order = in_order(data)
    # As many whole network calls as make about a thousand images.
    step = max(1, BATCH // extractor.rows) * extractor.rows
    for start in range(0, len(order), step):
        positions = order[start : start + step]
        yield positions, extractor(data.images[positions]) if known is None else known(positions)
        if observe is not None:
            observe(len(positions))


def in_order(data: Data) -> npt.NDArray[np.int64]:
    """The positions [N] of images by their ids."""
    return np.argsort(data.ids, kind="stable")


def remarks(n: int, dim: int) -> list[str]:
    """What has to be said of a distance from ``n`` images with ``dim`` features."""
    if n <= dim:
        return [f"{n} images with {dim} features: their covariance has rank {n - 1} at most"]
    if n < UNBIASED_FROM:
        return [f"{n} images: biased upwards; compare it at equal n only ({UNBIASED_FROM} or more are usual)"]
    return []


def _shown(value: Any) -> str:
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else text[:80] + "..."
