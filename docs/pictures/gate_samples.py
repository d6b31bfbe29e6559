"""Samples from the same noise under a threshold and under gates, a row each, as in docs/beyond.md.

``python docs/pictures/gate_samples.py OUT.png SWITCH.npz LOW-NOISE.npz FULL.npz``, each of ``merged-diffusion
sample`` with the same ids. It prints how far each row is from the first: the root of the mean square over
pixels in [-1, 1].
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCALE, GAP = 2, 2


def main(out: Path, *files: Path) -> None:
    """One row of images for each file."""
    rows = []
    for file in files:
        with np.load(file) as columns:
            order = np.argsort(columns["ids"])
            rows.append(columns["images"][order])
    for file, row in zip(files, rows, strict=True):
        away = (row.astype(float) - rows[0].astype(float)) / 127.5
        print(f"{file.stem}: {np.sqrt(np.square(away).mean()):.4f} away from {files[0].stem}")
    n, channels, height, width = rows[0].shape
    page = np.full((len(rows) * (height + GAP), n * (width + GAP), channels), 255, np.uint8)
    for down, row in enumerate(rows):
        for across, image in enumerate(row):
            top, left = down * (height + GAP), across * (width + GAP)
            page[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(page)
    picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST).save(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
