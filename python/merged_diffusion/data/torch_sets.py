"""Data sets of others as ours: any torch `Dataset` or `DataLoader`, or what is indexed like one.

An item is an image, or an image with its label, as torchvision (``image, label``) and Hugging Face
(``{"image": ..., "label": ...}``) give them. An image is uint8 [C, H, W], or a picture of PIL.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError, UsageError

IMAGE_KEYS: Final = ("image", "img", "images", "pixel_values")
LABEL_KEYS: Final = ("label", "labels", "fine_label")
WHOLE: Final = "give its data set instead, or a loader with shuffle=False and drop_last=False"


@runtime_checkable
class Indexed(Protocol):
    """A data set of torch's map style."""

    def __len__(self) -> int:
        """How many items it has."""

    def __getitem__(self, position: int, /) -> Any:
        """An item."""


def is_torch_set(source: object) -> bool:
    """Whether it is a `Dataset`, a `DataLoader`, or indexed like one; arrays, tensors and lists are not."""
    if isinstance(source, Data | str | bytes | list | tuple | Mapping) or hasattr(source, "__array__"):
        return False
    return isinstance(source, Indexed) or _is_loader(source) or _is_iterable_set(source)


def from_torch_set(source: object, levels: int, split: str = "test") -> Data:
    """All images of a `Dataset` or `DataLoader`, whose ids are their positions in it.

    Raises
    ------
    UsageError
        A loader's order is not that of its data set, so that an id would name another image each time.
    DataError
        Items are no uint8 images of one shape, or only some of them have labels.
    """
    name = type(source).__name__
    items = _batches(source) if _is_loader(source) else _items(source)
    images: list[npt.NDArray[Any]] = []
    labels: list[int] = []
    for position, item in enumerate(items):
        image, label = _parts(item, name)
        pixels = _pixels(image, f"{name}: image {position}")
        if images and (pixels.shape, pixels.dtype) != (images[0].shape, images[0].dtype):
            raise DataError(
                f"{name}: image {position} is {pixels.dtype} {list(pixels.shape)}, but the first is "
                f"{images[0].dtype} {list(images[0].shape)}",
                hint="images of one set have one shape [C, H, W]: resize or crop them in the data set",
                image=position,
            )
        images.append(pixels)
        labels += [] if label is None else [label]
    if not images:
        raise UsageError(f"{name}: no images", hint="give at least one image")
    if labels and len(labels) != len(images):
        raise DataError(f"{name}: {len(labels)} of {len(images)} images have a label")
    known = np.array(labels, dtype=np.int64) if labels else None
    return make_data(name, split, np.stack(images), levels, labels=known, files=_files(source, len(images)))


def _is_loader(source: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.utils.data.DataLoader)


def _is_iterable_set(source: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.utils.data.IterableDataset)


def _items(source: object) -> Iterator[Any]:
    if isinstance(source, Indexed) and not _is_iterable_set(source):
        # Not iter(): a data set without __iter__ would have to raise IndexError at its end, and not all do.
        yield from (source[position] for position in range(len(source)))
    else:
        yield from cast(Any, source)


def _batches(loader: Any) -> Iterator[Any]:
    """The items of a loader's batches, in the order of its data set."""
    from torch.utils.data import BatchSampler, IterableDataset, SequentialSampler

    if not isinstance(loader.dataset, IterableDataset):
        batches = loader.batch_sampler
        sampler = loader.sampler if batches is None else getattr(batches, "sampler", None)
        if type(batches) not in (NoneType, BatchSampler) or type(sampler) is not SequentialSampler:
            raise UsageError(
                "the loader shuffles or samples its data set, so that an id would not name the same image "
                "in two calls",
                hint=WHOLE,
            )
    if loader.drop_last or getattr(loader.batch_sampler, "drop_last", False):
        raise UsageError("the loader leaves out the last images (drop_last)", hint=WHOLE)
    for batch in loader:
        if loader.batch_sampler is None:
            yield batch
        elif isinstance(batch, Mapping):
            columns = {key: values for key, values in batch.items() if key in IMAGE_KEYS + LABEL_KEYS}
            if not set(columns) & set(IMAGE_KEYS):
                columns = dict(batch)  # for the message, which names them
            yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        elif isinstance(batch, list | tuple):
            yield from zip(*batch[:2], strict=True)
        else:
            yield from batch


def _parts(item: Any, name: str) -> tuple[Any, int | None]:
    """The image and the label of an item."""
    label = None
    if isinstance(item, Mapping):
        held = [key for key in IMAGE_KEYS if key in item]
        if not held:
            raise DataError(
                f"{name}: items hold {', '.join(map(str, item))[:200]}, and none of {', '.join(IMAGE_KEYS)}",
                hint="name the column of images so",
            )
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        item = item[held[0]]
    elif isinstance(item, list | tuple):
        label = item[1] if len(item) > 1 else None
        item = item[0]
    return item, _class(label)


def _class(label: Any) -> int | None:
    """A whole number, or an array or tensor of a single one; masks, names and targets are no classes."""
    if hasattr(label, "dtype") and math.prod(label.shape) == 1:
        label = label.item()
    return int(label) if isinstance(label, int) and not isinstance(label, bool) else None


def _pixels(image: Any, where: str) -> npt.NDArray[Any]:
    """[C, H, W] of a tensor, an array or a picture of PIL."""
    if hasattr(image, "getbands"):
        pixels = np.asarray(image)
        if image.mode not in ("L", "RGB"):
            raise DataError(
                f"{where} is a picture of mode {image.mode}, where L (grey) or RGB is read",
                hint='convert it in the data set: image.convert("RGB")',
            )
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        raise DataError(
            f"{where} is {pixels.dtype}, but pixels are uint8 (the scale is never guessed)",
            hint="use the data set without ToTensor() and Normalize(): transforms.PILToTensor() keeps uint8",
            expected="uint8",
            found=str(pixels.dtype),
        )
    if pixels.ndim != 3:
        raise DataError(
            f"{where} has shape {list(pixels.shape)}, expected [C, H, W]", found=list(pixels.shape)
        )
    return pixels


def _files(source: object, n: int) -> list[str] | None:
    """The files of torchvision's folders of images, within their root."""
    dataset = source.dataset if _is_loader(source) else source  # type: ignore[attr-defined]
    samples, root = getattr(dataset, "samples", None), getattr(dataset, "root", None)
    if not isinstance(samples, list) or len(samples) != n or not isinstance(root, str | Path):
        return None
    if not all(isinstance(one, tuple) and isinstance(one[0], str) for one in samples):
        return None
    files = [Path(path) for path, *_ in samples]
    inside = [file.relative_to(root) if file.is_relative_to(root) else file for file in files]
    return [file.as_posix() for file in inside]
