"""Grey levels from points: the nearest, or one drawn from p(v | z)."""

import numpy as np
import pytest
from scipy.special import softmax

from merged_diffusion import _core
from merged_diffusion.data.images import pixel_values
from merged_diffusion.sampling import decode


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_nearest_level_of_a_level_is_itself(levels):
    v = np.unique(np.linspace(0, levels - 1, 300).astype(np.int64))[None]
    found = decode.argmax(pixel_values(v, levels), levels)
    assert found.dtype == (np.uint16 if levels > 256 else np.uint8)
    np.testing.assert_array_equal(found, v)
    np.testing.assert_array_equal(
        decode.sampled(pixel_values(v, levels), 0.0, levels, np.full(v.shape, 0.5)), v
    )


def test_points_beyond_the_ends_are_clipped():
    np.testing.assert_array_equal(decode.argmax(np.array([-9.0, 1.0, 9.0]), 256), [0, 255, 255])


@pytest.mark.parametrize(("levels", "s"), [(17, 0.02), (17, 0.3), (256, _core.edm_sigma(-13.3)), (256, 0.05)])
def test_drawn_levels_follow_the_decoder(levels, s):
    # Equally spaced uniform numbers: the counts are the probabilities, to one number.
    n = 4001
    for x in (-1.2, 0.0, 0.123, 0.999):
        law = softmax(-0.5 * ((pixel_values(np.arange(levels), levels) - x) / s) ** 2)
        found = decode.sampled(np.full((1, n), x), s, levels, (np.arange(n)[None] + 0.5) / n)[0]
        counts = np.bincount(found, minlength=levels)
        np.testing.assert_allclose(counts / n, law, rtol=0, atol=1.5 / n)
