"""Images, points, ids and labels as they are given, checked against the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from merged_diffusion.caller import warn_caller
from merged_diffusion.data.images import Data, check_images, in_order, pixel_values
from merged_diffusion.data.torch_sets import from_torch_set, is_torch_set
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.experts.base import check_labels, takes_shape
from merged_diffusion.experts.denoising import ROWS as EXAMPLES
from merged_diffusion.merge import MergedModel

Integers = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.generic] | Tensor
FROM_DATA: Final = "from-data"
FEW: Final = 32  # levels that small sets and counts have: 2, 4, 8, 16, 17, 32
LEAST_PIXELS: Final = 256
WHITE: Final = 0.01  # share of the pixels that have the greatest value; of 17 digits' levels a tenth


Images = Data | npt.NDArray[np.uint8] | Tensor | Dataset[Any] | DataLoader[Any]
"""uint8 [N, C, H, W], or a data set of such images."""


def as_data(images: Images, ids: npt.ArrayLike | None, model: MergedModel) -> Data:
    """The images with the ids given, or their own; `DataError` where they do not suit the model."""
    if is_torch_set(images):
        images = from_torch_set(images, model.levels)
    if isinstance(images, Data):
        data = images if ids is None else replace(images, ids=_ids(ids, len(images)))
    else:
        pixels = check_images(in_order(_array(cast(Pixels, images))), model.levels, "images")
        data = Data("images", "", pixels, _ids(ids, len(pixels)), None, model.levels, None, "")
    _check_shape(data.images.shape[1:], model, data.name)
    if data.levels != model.levels:
        raise DataError(
            f"{data.name} has {data.levels} grey levels, but the experts model {model.levels}",
            hint="take experts of this data set, or state the levels of the file",
            expected=model.levels,
            found=data.levels,
        )
    _ids(data.ids, len(data))
    return data


def as_labels(
    labels: npt.ArrayLike | None, n: int, model: MergedModel, own: Integers | None = None
) -> Integers | None:
    """Labels [N] that every conditional expert of the model knows; ``own`` ones of the data if asked for."""
    if isinstance(labels, str):
        if labels != FROM_DATA or own is None:
            raise UsageError(
                f"labels = {labels!r}" + ("" if labels != FROM_DATA else ", but no image has a class"),
                hint=f"give {n} class numbers, {FROM_DATA!r} for data that have them, or leave them out",
            )
        labels = own
    found = _column(labels, n, "labels")
    if found is not None:
        for leg in model.legs():
            for expert in leg.parts:
                check_labels(expert, found)
    return found


def as_points(
    x: npt.NDArray[np.generic] | Tensor,
    ids: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    model: MergedModel,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64], Integers | None]:
    """Finite points float64 [N, C, H, W], ids and labels."""
    points = _array(x)
    if points.dtype.kind != "f" or points.ndim != 4 or 0 in points.shape:
        raise DataError(
            f"points are {points.dtype} {list(points.shape)}, where floating point [N, C, H, W] is needed",
            hint="log_likelihood takes uint8 images",
            found=[str(points.dtype), list(points.shape)],
        )
    _check_shape(points.shape[1:], model, "points")
    values = in_order(points.astype(np.float64))
    if not np.isfinite(values).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise DataError(f"points hold {values[tuple(at)]} at {at}", index=at)
    n = len(values)
    return values, _ids(ids, n).astype(np.uint64), as_labels(labels, n, model)


def examples(data: Data) -> npt.NDArray[np.float64]:
    """The few images that the start check denoises, in the model's space [N, C, H, W].

    Warns
    -----
    UserWarning
        All of the set's pixels are among the lowest of its levels, and look like those of fewer levels.
    """
    if (fewer := fewer_levels(data.images, data.levels)) is not None:
        warn_caller(
            f"no pixel of {data.name} is above {fewer - 1}, of {data.levels} grey levels: is it {fewer} "
            f"levels? If so say --levels {fewer} (in Python load_data(..., levels={fewer})), and take an "
            "expert of as many"
        )
    return pixel_values(data.images[:EXAMPLES], data.levels)


def fewer_levels(images: npt.NDArray[np.integer[Any]], levels: int) -> int | None:
    """How many levels images may have that are declared with more; None where nothing says so.

    They use every value up to the greatest, at most `FEW` of them, and the greatest often, as white is used:
    of dark photographs only a few pixels are the lightest.
    """
    most = int(images.max())
    if not 0 < most < min(FEW, levels - 1) or images.size < LEAST_PIXELS:
        return None
    counts = np.bincount(images.ravel(), minlength=most + 1)
    is_dense = bool((counts > 0).all())
    return most + 1 if is_dense and counts[most] > WHITE * images.size else None


def _array(values: npt.NDArray[np.generic] | Tensor) -> np.ndarray[Any, Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16; a DataError names what can be done about either.
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _ids(ids: npt.ArrayLike | None, n: int) -> Integers:
    found = _column(np.arange(n) if ids is None else ids, n, "ids")
    if found is None or found.min() < 0:
        raise UsageError(f"ids hold {None if found is None else found.min()}, but start at 0")
    values, counts = np.unique(found, return_counts=True)
    if len(values) < n:
        raise UsageError(
            f"id {values[counts > 1][0]} names {counts.max()} images",
            hint="an id names an image's noise and record: give each its own",
        )
    return found


def _column(values: npt.ArrayLike | None, n: int, name: str) -> Integers | None:
    if values is None:
        return None
    column = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if column.shape != (n,) or column.dtype.kind not in "iu":
        raise UsageError(
            f"{name} are {column.dtype} {list(column.shape)}, where {n} whole numbers are needed, one per "
            "image"
        )
    return in_order(column.astype(np.int64))


def _check_shape(shape: tuple[int, ...], model: MergedModel, name: str) -> None:
    expected = model.image_shape
    if not takes_shape(expected, shape):
        raise DataError(
            f"{name} has images of shape {list(shape)}, but the experts model {list(expected)}",
            hint="the axes are channels, height, width",
            expected=list(expected),
            found=list(shape),
        )
