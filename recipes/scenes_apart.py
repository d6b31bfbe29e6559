"""Is anything of scenes' test split in train, and what do a Gaussian and PNG make of the test images?

    python recipes/scenes_apart.py

Distances are root mean squares over the 3,072 values, in grey levels. No test view may be nearer to a train
view than views of different photographs of train are to each other. The Gaussian has a full covariance,
fitted to train; PNG is Pillow's with ``optimize``, image by image and as one picture of all. Ten minutes on
two cores.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import merged_diffusion as md
from merged_diffusion.training.baseline import gaussian_bits_per_dim

CHUNK = 2048


def flat(data: md.Data) -> torch.Tensor:
    """Pixels [N, d] in units of 255 grey levels, centred."""
    return torch.from_numpy(data.images).flatten(1).float() / 255 - 0.5


def nearest(of: md.Data, among: md.Data, *, apart: bool) -> npt.NDArray[np.float64]:
    """The distance [N] of each image from the nearest one of ``among``; ``apart``: of another photograph."""
    x, y = flat(of), flat(among)
    squares = y.square().sum(dim=1)
    labels = torch.from_numpy(np.asarray(among.labels))
    found = []
    for first in range(0, len(x), CHUNK):
        part = x[first : first + CHUNK]
        least = torch.full((len(part),), torch.inf)
        own = torch.from_numpy(np.asarray(of.labels))[first : first + CHUNK]
        for begin in range(0, len(y), CHUNK):
            other = slice(begin, begin + CHUNK)
            distances = part.square().sum(dim=1)[:, None] + squares[other] - 2 * part @ y[other].T
            if apart:
                distances[own[:, None] == labels[other]] = torch.inf
            least = torch.minimum(least, distances.min(dim=1).values)
        found.append(least)
    return 255 * np.sqrt(np.maximum(torch.cat(found).double().numpy(), 0) / x.shape[1])


def png_bits(pixels: npt.NDArray[np.uint8]) -> float:
    """Bits of a picture [H, W, 3] as PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return 8.0 * len(buffer.getvalue())


def main() -> None:
    """Print both answers."""
    test, train = md.load_data("scenes"), md.load_data("scenes", split="train")
    leak, within = nearest(test, train, apart=False), nearest(train, train, apart=True)
    for name, found in (("test to train", leak), ("train, another photograph", within)):
        quantiles = ", ".join(f"{v:.2f}" for v in np.quantile(found, [0, 0.01, 0.1, 0.5, 1]))
        print(f"nearest, {name}: least, 1 %, 10 %, half, most {quantiles} grey levels")
    print("nothing leaked" if leak.min() >= within.min() else "a test view is nearer than that")
    gaussian = gaussian_bits_per_dim(train, test)
    by_photograph = gaussian.reshape(12, 30).mean(axis=1)
    se = by_photograph.std(ddof=1) / np.sqrt(len(by_photograph))
    print(f"Gaussian with full covariance {gaussian.mean():.3f} ± {se:.3f} bits/dim (by photograph)")
    images = test.images.transpose(0, 2, 3, 1)
    alone = np.array([png_bits(image) for image in images]) / images[0].size
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in images.reshape(12, 30, 32, 32, 3)])
    print(
        f"PNG image by image {alone.mean():.3f}, as one picture {png_bits(sheet) / sheet.size:.3f} bits/dim"
    )


if __name__ == "__main__":
    main()
