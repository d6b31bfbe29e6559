"""The problems of an evaluation: every draw of every image, named by one number.

key = position of the image * draws + draw. Random numbers are named by (seed, image id, draw), never by a
position or a row, so a result does not depend on which images are solved beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Items:
    """Images by ``ids`` [N], each solved ``n_draws`` times; ``labels`` [N] for conditional experts."""

    ids: Keys
    n_draws: int = 1
    seed: int = 0
    labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self, positions: npt.NDArray[np.integer], draws: npt.NDArray[np.integer]) -> Keys:
        """Keys of all ``draws`` of the images at ``positions``, an image's draws beside each other."""
        return (
            positions.astype(np.uint64)[:, None] * np.uint64(self.n_draws) + draws.astype(np.uint64)
        ).ravel()

    def position(self, key: int) -> int:
        """Position of a problem's image."""
        return key // self.n_draws

    def draw(self, key: int) -> int:
        """Which of the image's draws a problem is."""
        return key % self.n_draws

    def names(self, keys: Keys) -> tuple[Keys, Keys]:
        """Image ids and draws, uint64 [G]: what random numbers are named by, beside seed and purpose."""
        positions, draws = np.divmod(keys, np.uint64(self.n_draws))
        return np.ascontiguousarray(self.ids[positions]), draws

    def labels_of(self, keys: Keys) -> npt.NDArray[np.int64] | None:
        """Labels [G] of the problems' images."""
        return None if self.labels is None else self.labels[keys // np.uint64(self.n_draws)]
