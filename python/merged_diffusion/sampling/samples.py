"""What drawing gives: images by id, and what each cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import content_sha256
from merged_diffusion.data.mosaic import html_mosaic
from merged_diffusion.frames import Column, Tabular
from merged_diffusion.ode.time_profile import TimeProfile


@dataclass(frozen=True, eq=False, repr=False)
class Samples(Tabular):
    """Images [N, C, H, W], uint8 (uint16 above 256 levels), drawn for ``ids`` [N].

    ``evaluations`` [N] of networks by role; ``latents`` z_min float64 [N, d] and ``time_profile``, of the
    drawing of all, where they were asked for.

    ``samples[3]`` is the fourth image [C, H, W]; ``samples[:5]`` and ``samples[[7, 2]]`` are the samples at
    those positions. As a table they have a row per image: ``id``, ``label`` where there are some, and the
    evaluations by role.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> samples = md.draw(md.load_pair("digits"), [5, 3], sampler="heun")
    >>> samples[:1].ids.tolist()
    [5]
    """

    images: npt.NDArray[Any]
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    levels: int
    evaluations: Mapping[str, npt.NDArray[np.float64]]
    latents: npt.NDArray[np.float64] | None = None
    time_profile: TimeProfile | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"Samples({len(self)} images {shape}, {self.levels} levels)"

    @overload
    def __getitem__(self, key: int) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> Samples: ...
    def __getitem__(self, key: int | slice | Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[Any] | Samples:
        found = np.arange(len(self))[key]
        return self.images[found] if np.ndim(found) == 0 else self.take(found)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter(self.images)

    def to_dict(self) -> dict[str, Column]:
        """Columns [N] by name; pixels are in none."""
        labels = {} if self.labels is None else {"label": self.labels}
        spent = {f"evaluations_{role}": counts for role, counts in self.evaluations.items()}
        return {"id": self.ids, **labels, **spent}

    def _repr_html_(self) -> str:
        return html_mosaic(self.images, self.levels, repr(self))

    @property
    def sha256(self) -> str:
        """Hash of the images in their order, as of a data set's content."""
        return content_sha256(self.images, self.levels)

    def take(self, positions: npt.NDArray[np.integer]) -> Samples:
        """Those at some positions, in that order."""
        return Samples(
            self.images[positions],
            self.ids[positions],
            None if self.labels is None else self.labels[positions],
            self.levels,
            {role: counts[positions] for role, counts in self.evaluations.items()},
            None if self.latents is None else self.latents[positions],
        )

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """All of one model's, in the order of the parts."""
        first = parts[0]
        return cls(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.ids for part in parts]),
            None if first.labels is None else _all([part.labels for part in parts]),
            first.levels,
            {role: _all([part.evaluations[role] for part in parts]) for role in first.evaluations},
            None if first.latents is None else _all([part.latents for part in parts]),
        )

    def in_order(self, ids: npt.NDArray[np.int64]) -> Samples:
        """Those of ``ids`` [M], all of which are here, in that order."""
        order = np.argsort(self.ids, kind="stable")
        return self.take(order[np.searchsorted(self.ids, ids, sorter=order)])


def _all(columns: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[Any]:
    return np.concatenate([column for column in columns if column is not None])
