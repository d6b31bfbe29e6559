"""Feature networks by name.

``digits``, ``photos`` and ``scenes`` come with the package, ``inception`` is torch-fidelity's (`inception`),
``pixels`` are the images themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.fence import fenced
from merged_diffusion.files.weights import check_keys, read_weights
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.inception import load_inception
from merged_diffusion.quality.networks import PHOTOS, SCENES, Classifier, RandomConvolutions

BUNDLED: Final = Path(__file__).parent / "bundled"
NAMES: Final = ("inception", "digits", "photos", "scenes", "pixels")
CIFAR_SIZE: Final = 32


class Small(NamedTuple):
    """A small network: how it is made, and of which images its features are."""

    make: Callable[[], torch.nn.Module]
    shape: tuple[int, int, int]
    levels: int


SMALL: Final = {
    "digits": Small(Classifier, (1, 8, 8), 17),
    "photos": Small(partial(RandomConvolutions, PHOTOS), (3, 8, 8), 256),
    "scenes": Small(partial(RandomConvolutions, SCENES), (3, 32, 32), 256),
}


def by_kind(data: Data) -> str:
    """The features for images of this kind where nothing else says.

    Of images that are no smaller than CIFAR-10's these are Inception's, but for scenes themselves.
    """
    kind = (tuple(data.images.shape[1:]), data.levels)
    fitting = [
        name
        for name, small in SMALL.items()
        if (small.shape, small.levels) == kind and (max(kind[0]) < CIFAR_SIZE or name == data.name)
    ]
    return fitting[0] if fitting else "inception"


@fenced()
def extractor(
    name: str,
    *,
    device: str = "cpu",
    cache: str | Path | None = None,
    rows: int | None = None,
    like: Data | None = None,
) -> Extractor:
    """The feature network ``name``; ``pixels`` are those of images ``like`` the given ones.

    Raises
    ------
    CheckpointError
        Inception's weights are not in the cache, or are not the published ones.
    """
    if name == "inception":
        found = load_inception(cache, device)
    elif name in SMALL:
        found = _small(name, device)
    elif name == "pixels" and like is not None:
        found = pixels(like.images.shape[1:], like.levels)
    else:
        raise UsageError(f"no features are called {name!r}", hint=f"known: {', '.join(NAMES)}")
    return found if rows is None else replace(found, rows=rows)


def _small(name: str, device: str) -> Extractor:
    make, shape, levels = SMALL[name]
    path = BUNDLED / f"{name}.safetensors"
    tensors, _, sha256 = read_weights(path, None)
    network = make()
    check_keys(tensors, network.state_dict(), str(path))
    network.load_state_dict(tensors)
    return of_network(name, network.eval().to(device), sha256, shape, levels, device)


@fenced()
def of_network(
    name: str, network: torch.nn.Module, sha256: str, shape: tuple[int, ...], levels: int, device: str = "cpu"
) -> Extractor:
    """The extractor of a network that takes pixel values in [-1, 1]."""

    def features(images: Tensor) -> Tensor:
        found: Tensor = network(2 * (images.float() + 0.5) / levels - 1)
        return found

    dim = len(features(torch.zeros((1, *shape), dtype=torch.uint8, device=device))[0])
    return Extractor(name, dim, sha256, levels, shape, features, device=device)


def pixels(shape: tuple[int, ...], levels: int) -> Extractor:
    """The pixel values 2(v + 1/2)/L - 1 themselves."""
    rule = f"2(v+1/2)/{levels}-1 of {','.join(map(str, shape))}"

    def features(images: Tensor) -> Tensor:
        return torch.from_numpy(pixel_values(images.numpy(), levels)).flatten(1)

    sha256 = hashlib.sha256(rule.encode()).hexdigest()
    return Extractor("pixels", int(np.prod(shape)), sha256, levels, shape, features)
