"""A set of images: pixels v in 0..L-1 (uint8; uint16 above 256 levels), with what identifies and groups them.

Pixels stay integers here. A network sees x = 2(v + 1/2)/L - 1 ("centred": the middle of a bin of width 2/L,
Kingma et al. 2021) or x = 2v/(L-1) - 1 ("ends": 0 and L-1 lie on -1 and 1, Karras et al. 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast, overload

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.mosaic import html_mosaic
from merged_diffusion.errors import DataError, UsageError

Pixels = Literal["centred", "ends"]
CHOICE_SEED = 0  # of every random choice of images: a larger one contains the smaller one
MAX_LEVELS = 256  # of uint8 pixels
MAX_DEEP_LEVELS = 65536  # of uint16, which need a word (levels, --levels): the scale is never guessed
WHOLE = int, np.integer


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Images [N, C, H, W] with their ids [N]; ``clusters`` [N] groups what is not independent.

    ``modified``: a known set whose files are not the published ones, as far as hashes and counts tell.
    ``provenance``: where it was read from: file, format, hashes, variant.
    ``files`` [N]: the name of each image's file within its folder or zip; None where images have none.

    ``data[3]`` is the fourth image, uint8 [C, H, W]; ``data[:5]``, ``data[[7, 2]]`` and ``data[mask]`` are
    sets of the images at those positions.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> data = md.load_data("digits")
    >>> len(data), data[0].shape
    (360, (1, 8, 8))
    >>> data[:5]
    Data(digits/test, 5 images 1x8x8, 17 levels)
    """

    name: str
    split: str
    images: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    levels: int
    clusters: npt.NDArray[np.int64] | None
    sha256: str
    modified: bool = False
    provenance: Mapping[str, object] = field(default_factory=dict)
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("images", "ids", "labels", "clusters"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, in_order(getattr(self, name)))
        check_images(self.images, self.levels, self.name)
        for key in ("ids", "labels", "clusters", "files"):
            column = getattr(self, key)
            if column is not None and np.shape(column) != (len(self.images),):
                raise DataError(
                    f"{self.name}: {key} has shape {list(np.shape(column))} for {len(self.images)} images",
                    hint=f"give one entry of {key} per image",
                    key=key,
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"Data({self.name}/{self.split}, {len(self)} images {shape}, {self.levels} levels)"

    @overload
    def __getitem__(self, key: int) -> npt.NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> Data: ...
    def __getitem__(
        self, key: int | slice | Sequence[int] | npt.NDArray[Any]
    ) -> npt.NDArray[np.uint8] | Data:
        found = np.arange(len(self))[key]
        return self.images[found] if np.ndim(found) == 0 else self._take(found)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return iter(self.images)

    def _repr_html_(self) -> str:
        return html_mosaic(self.images, self.levels, repr(self))

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What it knows of each image beside its pixels: ``file`` and ``label``, where it has them."""
        own = {"file": self.files, "label": self.labels}
        return {name: np.asarray(column) for name, column in own.items() if column is not None}

    @cached_property
    def duplicates(self) -> int:
        """How many images have the very pixels of an earlier one."""
        return len(self) - len(
            {hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in self.images}
        )

    def select(self, limit: int | None = None, ids: tuple[int, int] | None = None) -> Data:
        """The first ``limit`` entries of ``RandomState(0).permutation(n)``, or positions ``a <= p < b``.

        The selection is in ascending order of position and keeps each image's id. ``sha256`` goes on naming
        the whole set.
        """
        if limit is not None and ids is not None:
            raise UsageError("limit and ids were both given", hint="use one of them")
        if limit is not None:
            return self._take(np.sort(chosen_positions(len(self), limit)))
        if ids is not None:
            if not (isinstance(ids, tuple) and len(ids) == 2 and all(isinstance(at, WHOLE) for at in ids)):
                raise UsageError(
                    f"ids = {ids!r} is no pair A, B of the first position and the one after the last",
                    hint="single images are data[[3, 9]], a part is data[3:9]",
                )
            first, end = ids
            if not 0 <= first < end <= len(self):
                raise UsageError(
                    f"ids {first}:{end} do not lie in 0:{len(self)} ({self.name}/{self.split}, half open)",
                    hint=f"use 0 <= A < B <= {len(self)}",
                )
            return self._take(np.arange(first, end))
        return self

    def _take(self, positions: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Data:
        return replace(
            self,
            images=self.images[positions],
            ids=self.ids[positions],
            labels=None if self.labels is None else self.labels[positions],
            clusters=None if self.clusters is None else self.clusters[positions],
            files=None if self.files is None else tuple(np.asarray(self.files)[positions].tolist()),
        )

    def where(self, mask: npt.NDArray[np.bool_]) -> Data:
        """The images at which ``mask`` [N] holds."""
        return self._take(mask)


def chosen_positions(n: int, limit: int) -> npt.NDArray[np.int64]:
    """Positions of a random choice of ``limit`` out of ``n``; a smaller one is a prefix of a larger one."""
    if not (isinstance(limit, WHOLE) and 1 <= limit <= n):
        raise UsageError(f"limit {limit} does not lie in 1..{n}", hint=f"use a number from 1 to {n}")
    return np.random.RandomState(CHOICE_SEED).permutation(n)[:limit].astype(np.int64)


def content_sha256(images: npt.NDArray[np.uint8], levels: int) -> str:
    r"""SHA-256 of ``N,C,H,W,L\n`` in decimal and the pixels' bytes in C order (uint16: low byte first)."""
    digest = hashlib.sha256((",".join(map(str, (*images.shape, levels))) + "\n").encode())
    digest.update(np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def ids_sha256(data: Data) -> str:
    """Which images of its set these are."""
    return hashlib.sha256(data.ids.astype("<i8").tobytes()).hexdigest()


def make_data(
    name: str,
    split: str,
    images: npt.NDArray[np.generic],
    levels: int,
    *,
    ids: npt.NDArray[np.int64] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    clusters: npt.NDArray[np.int64] | None = None,
    modified: bool = False,
    provenance: Mapping[str, object] | None = None,
    files: Sequence[str] | None = None,
) -> Data:
    """A set whose hash is computed and whose ids are the positions where none are given.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import numpy as np
    >>> md.make_data("noise", "test", np.zeros((2, 3, 32, 32), np.uint8), 256)
    Data(noise/test, 2 images 3x32x32, 256 levels)
    """
    pixels = check_images(images, levels, name)
    ids = np.arange(len(pixels), dtype=np.int64) if ids is None else ids
    sha256 = content_sha256(pixels, levels)
    named = None if files is None else tuple(files)
    return Data(name, split, pixels, ids, labels, levels, clusters, sha256, modified, provenance or {}, named)


def pixel_values(
    images: npt.NDArray[np.uint8], levels: int, pixels: Pixels = "centred"
) -> npt.NDArray[np.float64]:
    """Network-space values x in [-1, 1] of pixels v, same shape: 2(v + 1/2)/L - 1 or 2v/(L - 1) - 1."""
    v = images.astype(np.float64)
    return 2 * (v + 0.5) / levels - 1 if pixels == "centred" else 2 * v / (levels - 1) - 1


def in_order(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """An array as torch and the core take it: one value after the other, in this machine's byte order.

    Torch takes no strides below 0, the core no gaps, neither of them bytes of another machine. What is so
    already is not copied.
    """
    array = np.asarray(values)
    # Of an axis of length 1 the stride says nothing, and may still be below 0.
    if array.flags.c_contiguous and array.dtype.isnative and min(array.strides, default=0) >= 0:
        return array
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return array.copy() if min(array.strides, default=0) < 0 else array


def check_images(images: npt.NDArray[np.generic], levels: int, name: str) -> npt.NDArray[np.uint8]:
    """``images``; refuse what is not uint8 [N >= 1, C in (1, 3), H, W] with values below ``levels``.

    uint16 pixels are those of more than 256 levels, and of no others.
    """
    deep = images.dtype == np.uint16 and levels > MAX_LEVELS
    if images.dtype != np.uint8 and not deep:
        raise DataError(
            f"{name}: images are {images.dtype}, but pixels are uint8 (the scale is never guessed)",
            hint=_conversion(images),
            expected="uint8",
            found=str(images.dtype),
        )
    _check_shape(images.shape, name)
    highest = MAX_DEEP_LEVELS if deep else MAX_LEVELS
    if not 2 <= levels <= highest:
        raise UsageError(
            f"{name}: {levels} grey levels; 2..{highest} are possible with {images.dtype} pixels"
        )
    # uint16 goes by the name of uint8 here: what reads pixels takes their values, not their bytes.
    pixels = cast(npt.NDArray[np.uint8], images)
    at = _first(pixels >= levels) if levels < highest else None
    if at is not None:
        raise DataError(
            f"{name}: the value {pixels[at]} at {list(at)} exceeds {levels - 1}, the highest of "
            f"{levels} levels",
            hint="state the number of grey levels of the file (levels in an npz, or --levels)",
            index=list(at),
        )
    return pixels


def _conversion(images: npt.NDArray[np.generic]) -> str:
    """What turns ``images`` into uint8, or the first value that prevents it."""
    kind = images.dtype.kind
    if kind == "b":
        return "use images.astype('uint8') with levels = 2"
    if kind not in "fiu":
        return "give an array of uint8"
    values = images.astype(np.float64)
    outside = _first(~((values >= 0) & (values <= 255)))
    if outside is not None and images.dtype.itemsize == 2 and kind == "u":
        return "16-bit images: state levels 65536, or (images >> 8).astype('uint8') keeps the upper 8 bits"
    if outside is not None:
        return f"the value {values[outside]:g} at {list(outside)} lies outside 0..255"
    if kind == "f" and values.size and values.max() <= 1:
        return "if they are in [0, 1]: (images * 255).round().astype('uint8')"
    return "all values lie in 0..255: images.round().astype('uint8')"


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    wanted = "[N, C, H, W] with C = 1 or 3"
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise DataError(
            f"{name}: images have shape {list(shape)}, expected {wanted}",
            hint=_shape_hint(shape),
            expected=wanted,
            found=list(shape),
        )
    if 0 in shape:
        raise UsageError(f"{name}: no images (shape {list(shape)})", hint="give at least one image")


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[3] in (1, 3):
        return "the last axis looks like channels: images.transpose(0, 3, 1, 2)"
    if len(shape) == 4 and 4 in (shape[1], shape[3]):
        return "four channels look like RGB with alpha: drop the alpha channel first"
    if len(shape) == 3 and shape[2] in (1, 3):
        return "this looks like one image [H, W, C]: images.transpose(2, 0, 1)[None]"
    if len(shape) == 3:
        return "there is no channel axis: images[:, None] for grey images"
    return "give one array with the axes images, channels, height, width"


def _first(bad: npt.NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Index of the first True, or None."""
    if not bad.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
