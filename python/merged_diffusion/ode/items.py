"""The problems of an evaluation: every draw of every image, named by one number.

key = position of the image * draws + draw; where the same problem goes several courses, plus a multiple of
the number of problems. Random numbers are named by (seed, image id, draw), never by a position, a row or a
course, so a result does not depend on which images are solved beside it, and courses differ in nothing else.

Draws that one importance bound weights share their probes: with probes of their own the greatest of their
bounds is the one whose noise is luckiest, and the bound on log P is too good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Items:
    """Images by ``ids`` [N], each solved ``n_draws`` times; ``labels`` [N] for conditional experts.

    ``sharing``: so many draws after each other share their probes.
    """

    ids: Keys
    n_draws: int = 1
    seed: int = 0
    labels: npt.NDArray[np.int64] | None = None
    sharing: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def stride(self) -> int:
        """Problems of one course: what lies between the keys of a problem on two courses."""
        return len(self.ids) * self.n_draws

    def keys(
        self, positions: npt.NDArray[np.integer], draws: npt.NDArray[np.integer], course: int = 0
    ) -> Keys:
        """Keys of all ``draws`` of the images at ``positions``, an image's draws beside each other."""
        first = positions.astype(np.uint64) * np.uint64(self.n_draws) + np.uint64(course * self.stride)
        return (first[:, None] + draws.astype(np.uint64)).ravel()

    def course(self, key: int) -> int:
        """Which course a problem goes."""
        return key // self.stride

    def problem(self, key: int) -> int:
        """The problem's key on the first course."""
        return key % self.stride

    def position(self, key: int) -> int:
        """Position of a problem's image."""
        return self.problem(key) // self.n_draws

    def draw(self, key: int) -> int:
        """Which of the image's draws a problem is."""
        return self.problem(key) % self.n_draws

    def names(self, keys: Keys) -> tuple[Keys, Keys]:
        """Image ids and draws, uint64 [G]: what random numbers are named by, beside seed and purpose."""
        positions, draws = np.divmod(keys % np.uint64(self.stride), np.uint64(self.n_draws))
        return np.ascontiguousarray(self.ids[positions]), draws

    def probe_names(self, keys: Keys) -> tuple[Keys, Keys]:
        """The same for probes: one name for the draws that share them."""
        ids, draws = self.names(keys)
        return ids, draws // np.uint64(self.sharing)

    def labels_of(self, keys: Keys) -> npt.NDArray[np.int64] | None:
        """Labels [G] of the problems' images."""
        if self.labels is None:
            return None
        positions = keys % np.uint64(self.stride) // np.uint64(self.n_draws)
        found: npt.NDArray[np.int64] = self.labels[positions]
        return found
