"""A feature network: images [N, C, H, W] in, features [N, D] out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataError
from merged_diffusion.experts.fence import fenced

ROWS: Final = 256
NO_RESIZE: Final = "none"
# A patch of 8 x 8 pixels may be of one value throughout, a picture is not: this share of patches is taken.
FLAT_PATCHES: Final = 0.01
PATCH: Final = 64
PNG: Final = ("folder of PNG", "zip of PNG")  # `Data.provenance["format"]`


@dataclass(frozen=True, eq=False)
class Extractor:
    """A feature network: ``dim`` features of images of ``levels`` grey levels.

    ``sha256`` is that of its weight file; ``resize`` says how images come to the network's size. The network
    takes uint8 [B, C, H, W] and is always called with ``rows`` rows, so that an image's features do not
    depend on the images beside it. ``image_shape`` is None where any will do.
    """

    name: str
    dim: int
    sha256: str
    levels: int
    image_shape: tuple[int, ...] | None
    network: Callable[[Tensor], Tensor] = field(repr=False)
    resize: str = NO_RESIZE
    rows: int = ROWS
    device: str = "cpu"

    @fenced()
    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Features [N, D] of ``images`` [N, C, H, W]."""
        features = np.empty((len(images), self.dim))
        for start in range(0, len(images), self.rows):
            chunk = images[start : start + self.rows]
            rows = np.zeros((self.rows, *images.shape[1:]), dtype=images.dtype)
            rows[: len(chunk)] = chunk
            given = torch.from_numpy(rows).to(self.device)
            # The features of a call are what the next step on the host waits for.
            features[start : start + len(chunk)] = self.network(given).cpu().numpy()[: len(chunk)]
        return features

    def check(self, data: Data) -> None:
        """`DataError` unless these are images that the network can be shown.

        Levels come first: the pixels of a PNG of fewer than 256 levels are stretched, and no longer levels.
        """
        if data.levels < 256 and data.provenance.get("format") in PNG:
            raise DataError(
                f"{data.name}: PNG files do not keep {data.levels} grey levels",
                hint="give the npz that sample --out FILE.npz writes",
                expected="npz",
                found=data.provenance["format"],
            )
        if data.levels != self.levels:
            raise DataError(
                f"{data.name}: images of {data.levels} grey levels, {self.name} features take {self.levels}",
                hint=f"only an npz keeps {self.levels} levels; a PNG has 256" if self.levels < 256 else None,
                expected=self.levels,
                found=data.levels,
            )
        shape = data.images.shape[1:]
        if self.image_shape is not None and shape != self.image_shape:
            raise DataError(
                f"{data.name}: images of shape {list(shape)}, {self.name} features are of "
                f"{list(self.image_shape)}",
                expected=list(self.image_shape),
                found=list(shape),
            )
        self._check_flat(data)

    def _check_flat(self, data: Data) -> None:
        """`DataError` with the first image of one value throughout: what a failed sampler writes."""
        pixels = data.images.reshape(len(data), -1)
        flat = (pixels == pixels[:, :1]).all(axis=1)
        height, width = data.images.shape[2:]
        if flat.sum() > (FLAT_PATCHES * len(data) if height * width <= PATCH else 0):
            at = int(flat.argmax())
            raise DataError(
                f"{data.name}: all pixels of image {data.ids[at]} are {pixels[at, 0]} "
                f"({int(flat.sum())} such images of {len(data)})",
                hint="look at the sampler that made it, or take it out of the set",
                image=int(data.ids[at]),
            )
