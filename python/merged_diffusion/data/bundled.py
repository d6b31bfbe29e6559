"""The sets that need no download: ``digits``, ``photos`` and ``scenes``.

Their test splits lie in the package. The train split of `scenes` is made by a command; those of the other two
are cut from what scikit-learn ships, by the code below, which also wrote the test splits (``make``).

digits: ``load_digits``, 1797 images 1x8x8 of 17 grey levels; ``RandomState(0).permutation(1797)``, first 360
test.

photos: 3x8x8 patches of ``load_sample_images`` (two photographs, 427 x 640), split by tiles of 61 x 60
pixels, so that no pixel is in both splits: tile (r, c) is test where (3 r + c) % 5 == 0. Train is every
patch inside a train tile, at any offset; test is 360 patches that do not overlap, 12 or 13 per tile, at
seeded places. Both photographs are JPEG files: patches aligned to their 8 x 8 blocks would be an easier
distribution. The tile is the cluster.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data import scenes
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataNotFoundError

BUNDLED: Final = ("digits", "photos", scenes.NAME)
LEVELS: Final = {"digits": 17, "photos": 256, scenes.NAME: scenes.LEVELS}
N_TEST: Final = 360
PATCH: Final = 8
TILE: Final = (61, 60)  # 7 x 10 tiles of a photograph; the last 40 columns belong to no tile
TEST_PLACES_SEED: Final = 2024
HELD_BACK: Final = 0.2


def load_bundled(name: str, split: str = "test", *, cache: str | Path | None = None) -> Data:
    """A split of a set in the package; what the train splits need is said where it is missing."""
    if split == "test":
        return _load_test(name)
    return scenes.load_train(cache) if name == scenes.NAME else make(name, "train")


def _load_test(name: str) -> Data:
    file = resources.files("merged_diffusion.data").joinpath("bundled", f"{name}.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        columns = {key: arrays[key] for key in arrays.files}
    return make_data(
        name,
        "test",
        columns["images"],
        int(columns["levels"]),
        ids=columns["ids"],
        labels=columns.get("labels"),
        clusters=columns.get("clusters"),
    )


def make(name: str, split: str) -> Data:
    """A split of digits or photos cut anew from scikit-learn's files."""
    return _make_digits(split) if name == "digits" else _make_photos(split)


def hold_back(train: Data) -> tuple[Data, Data]:
    """Train in two parts (fit, held back); every choice (recipe, eta, stopping) looks at the second only."""
    held = is_held_back(train)
    return train.where(~held), train.where(held)


def is_held_back(train: Data) -> npt.NDArray[np.bool_]:
    """Which images of train [N] are held back.

    They are the last fifth, or of a seeded order of their clusters where there are some; of scenes the
    photographs that are there for it.
    """
    if train.name == scenes.NAME:
        return np.asarray(scenes.is_for_tuning(train))
    if train.clusters is None:
        return np.arange(len(train)) >= len(train) - round(HELD_BACK * len(train))
    clusters = np.unique(train.clusters)
    order = np.random.RandomState(0).permutation(len(clusters))
    return np.isin(train.clusters, clusters[order[-round(HELD_BACK * len(clusters)) :]])


def _make_digits(split: str) -> Data:
    digits = _sklearn_datasets().load_digits()
    order = np.random.RandomState(0).permutation(len(digits.images))
    chosen = order[:N_TEST] if split == "test" else order[N_TEST:]
    images = digits.images[chosen].astype(np.uint8)[:, None]
    labels = digits.target[chosen].astype(np.int64)
    return make_data("digits", split, images, LEVELS["digits"], labels=labels)


def _make_photos(split: str) -> Data:
    photos = np.stack(_sklearn_datasets().load_sample_images().images).transpose(0, 3, 1, 2)
    tiles = {"test": _tiles(photos, test=True), "train": _tiles(photos, test=False)}[split]
    cut = [_scattered(tiles)] if split == "test" else [_everywhere(tiles)]
    images, clusters = cut[0]
    return make_data("photos", split, images, LEVELS["photos"], clusters=clusters)


def _tiles(photos: npt.NDArray[np.uint8], *, test: bool) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    """(cluster, pixels [C, 61, 60]) of each tile of ``photos`` [P, C, H, W]."""
    height, width = TILE
    rows, columns = photos.shape[2] // height, photos.shape[3] // width
    return [
        (
            (photo * rows + r) * columns + c,
            photos[photo, :, r * height : (r + 1) * height, c * width : (c + 1) * width],
        )
        for photo in range(len(photos))
        for r in range(rows)
        for c in range(columns)
        if ((3 * r + c) % 5 == 0) == test
    ]


def _everywhere(
    tiles: list[tuple[int, npt.NDArray[np.uint8]]],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All patches of all tiles, row by row: images [N, C, 8, 8], clusters [N]."""
    patches = [
        np.lib.stride_tricks.sliding_window_view(tile, (PATCH, PATCH), axis=(1, 2))
        .transpose(1, 2, 0, 3, 4)
        .reshape(-1, len(tile), PATCH, PATCH)
        for _, tile in tiles
    ]
    clusters = np.repeat([cluster for cluster, _ in tiles], [len(p) for p in patches])
    return np.concatenate(patches), clusters.astype(np.int64)


def _scattered(
    tiles: list[tuple[int, npt.NDArray[np.uint8]]],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """``N_TEST`` patches without overlap, evenly over the tiles: images [N, C, 8, 8], clusters [N]."""
    random = np.random.RandomState(TEST_PLACES_SEED)
    images, clusters = [], []
    for i, (cluster, tile) in enumerate(tiles):
        wanted = N_TEST // len(tiles) + (i < N_TEST % len(tiles))
        places: list[tuple[int, int]] = []
        while len(places) < wanted:
            y = int(random.randint(tile.shape[1] - PATCH + 1))
            x = int(random.randint(tile.shape[2] - PATCH + 1))
            if all(abs(y - b) >= PATCH or abs(x - a) >= PATCH for b, a in places):
                places.append((y, x))
        images += [tile[:, y : y + PATCH, x : x + PATCH] for y, x in places]
        clusters += [cluster] * wanted
    return np.stack(images), np.array(clusters, dtype=np.int64)


def _sklearn_datasets() -> ModuleType:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataNotFoundError(
            "the train splits of digits and photos are made from scikit-learn's files, which are not here",
            hint="pip install 'merged-diffusion[train]'",
        ) from error
    module: ModuleType = datasets
    return module
