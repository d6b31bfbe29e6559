"""Images under affine maps, resampled with a filter that keeps their detail: doubled, mapped, halved again.

An image x is doubled by the low-pass filter h of an orthonormal wavelet, y[m] = sqrt 2 sum_n h[m - 2n] x[n],
its pixels are taken from y bilinearly where the map sends them, and the result is halved by the same filter,
x'[n] = sum_k h[k] y'[2n + k]/sqrt 2. Without a map, and for shifts by whole pixels, that returns the very
image, because the even shifts of h are orthonormal; linear ramps are mapped exactly (Daubechies 1992,
section 8.1: symlets; Karras et al. 2020, appendix B, who resample so). Beyond its edges an image goes on
mirrored.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, grid_sample

from merged_diffusion.schedules import as_input, home

# The symlet of six vanishing moments (Daubechies 1992, table 8.1), to the digits of double precision.
SYMLET: Final = (
    *(0.015404109327044606, 0.0034907120842223483, -0.11799011114851921, -0.048311742585698994),
    *(0.49105594192797175, 0.78764114102865157, 0.33792942172816759, -0.072637522786376391),
    *(-0.02106029251237131, 0.044724901770781353, 0.0017677118642541226, -0.0078007083250323612),
)
CENTRE: Final = sum(k * value for k, value in enumerate(SYMLET)) / sum(SYMLET)
BEYOND: Final = 3  # pixels beyond the edges that the halving of an unmoved image takes from
MARGIN: Final = BEYOND + 4  # mirrored pixels before the doubling, so that those are whole


def warped(x: Tensor, maps: Tensor) -> Tensor:
    """``x`` [B, C, H, W] moved by ``maps`` [B, 2, 3], each a matrix and a shift in pixels.

    A map sends the point (right, down) of an image, measured from its middle, to where it is seen. Autocast
    is left, for it would round the filters' products.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _warped(x, maps.to(home(x.device)))


def _warped(x: Tensor, maps: Tensor) -> Tensor:
    height, width = x.shape[2:]
    y = _doubled(x[:, :, _mirrored(height, x)][:, :, :, _mirrored(width, x)])
    inverse = torch.linalg.inv(maps[:, :, :2].double())
    across, down = (_positions(size, maps.device) for size in (width, height))
    seen = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
    from_where = torch.einsum("bij,bhwj->bhwi", inverse, seen - maps[:, None, None, :, 2].double())
    sizes = torch.tensor([width, height], dtype=torch.float64, device=maps.device)
    pixel = _folded(from_where + (sizes - 1) / 2, sizes)
    doubled = 2 * (pixel + MARGIN) + CENTRE
    extent = torch.tensor([y.shape[3], y.shape[2]], dtype=torch.float64, device=maps.device)
    grid = as_input(2 * doubled / (extent - 1) - 1, x)
    moved = grid_sample(y, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return _halved(moved)


def _positions(size: int, device: torch.device) -> Tensor:
    """Where the entries of a doubled row lie that its halving needs, in pixels from the middle."""
    m = torch.arange(2 * size + len(SYMLET) - 2, dtype=torch.float64, device=device)
    return (m - CENTRE) / 2 - (size - 1) / 2


def _mirrored(size: int, like: Tensor) -> Tensor:
    """Indices of an image that goes on mirrored by the margin."""
    at = torch.arange(-MARGIN, size + MARGIN, device=like.device) % (2 * size)
    return torch.minimum(at, 2 * size - 1 - at)


def _folded(pixel: Tensor, sizes: Tensor) -> Tensor:
    """The place within the image of which ``pixel`` is a mirror image; itself where the margin has it.

    The filter is not symmetric, and near the edges its mirrored image not quite that of the mirrored one.
    """
    at = (pixel + 0.5) % (2 * sizes)
    inside = (pixel >= -BEYOND) & (pixel <= sizes - 1 + BEYOND)
    return torch.where(inside, pixel, torch.minimum(at, 2 * sizes - at) - 0.5)


def _filters(like: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    taps = torch.tensor(SYMLET, dtype=like.dtype, device=like.device) * gain
    one = taps.expand(like.shape[1], 1, 1, -1)
    return one, one.transpose(2, 3)


def _doubled(x: Tensor) -> Tensor:
    across, down = _filters(x, math.sqrt(2))
    x = conv_transpose2d(x, across, stride=(1, 2), groups=x.shape[1])
    return conv_transpose2d(x, down, stride=(2, 1), groups=x.shape[1])


def _halved(y: Tensor) -> Tensor:
    across, down = _filters(y, math.sqrt(0.5))
    y = conv2d(y, across, stride=(1, 2), groups=y.shape[1])
    return conv2d(y, down, stride=(2, 1), groups=y.shape[1])
