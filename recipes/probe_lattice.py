"""The lattices of coloured probes again: (a, b) for each number of colours, by a closed form; seconds.

    python recipes/probe_lattice.py

A value at column x, row y of channel c has the colour (x + a y + b c) mod k. What a lattice leaves of the
noise of one probe is the sum of the squares of the Jacobian between values of one colour. Here it is the
Jacobian of the exact denoiser of Gaussian images with a spectrum of 1/f in amplitude and a quarter of the
luminance's standard deviation in each of two chroma channels, added up over gamma from -13 to 5. The best of
all (a, b) is printed, the least a, then the least b, among those within a thousandth of it.
"""

from __future__ import annotations

import numpy as np

SIZE = 32
MOST = 64
GAMMAS = np.arange(-13.0, 5.1, 0.5)
VARIANCE = 0.25  # of a value of an image in [-1, 1]
CHROMA = 1 / 16  # of the luminance's variance


def squares() -> np.ndarray:
    """Squares of the Jacobian [5, SIZE, SIZE] by the difference of channel (-2..2), row and column."""
    f = np.fft.fftfreq(SIZE)
    power = 1 / np.maximum(f[:, None] ** 2 + f[None, :] ** 2, (0.5 / SIZE) ** 2)
    power *= VARIANCE * 3 / (1 + 2 * CHROMA) / power.mean()
    axes = np.linalg.qr(np.array([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]]).T)[0]
    total = np.zeros((5, SIZE, SIZE))
    for snr in np.exp(-GAMMAS):
        filters = [np.fft.ifft2(1 / (1 + snr * share * power)).real for share in (1, CHROMA, CHROMA)]
        for c in range(3):
            for other in range(3):
                kernel = sum(axes[c, i] * axes[other, i] * filters[i] for i in range(3))
                total[other - c + 2] += kernel**2
    total[2, 0, 0] = 0.0  # a value with itself is the trace
    return total


def best(k: int, noise: np.ndarray) -> tuple[int, int, float]:
    """(a, b) of ``k`` colours, and what they leave of the noise of one probe."""
    at = np.where(np.arange(SIZE) < SIZE // 2, np.arange(SIZE), np.arange(SIZE) - SIZE)
    left = np.empty((k, k))
    for a in range(k):
        colour = (at[None, :] + a * at[:, None]) % k
        by = [np.bincount(colour.ravel(), noise[dc + 2].ravel(), minlength=k) for dc in range(-2, 3)]
        for b in range(k):
            left[a, b] = sum(by[dc + 2][(-b * dc) % k] for dc in range(-2, 3))
    a, b = np.argwhere(left <= 1.001 * left.min())[0]
    return int(a), int(b), float(left[a, b] / noise.sum())


def main() -> None:
    """Print the table."""
    noise = squares()
    for k in range(2, MOST + 1):
        a, b, share = best(k, noise)
        print(f"{k}: ({a}, {b}),  # 1/{1 / share:.3g}")


if __name__ == "__main__":
    main()
