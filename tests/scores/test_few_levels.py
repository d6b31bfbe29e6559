"""Images of fewer levels than they are declared with."""

import numpy as np
import pytest

from merged_diffusion import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.scores.inputs import examples, fewer_levels

DIGITS = np.asarray(load_data("digits").images[:8])
PHOTOS = np.asarray(load_data("photos").images)


def test_digits_of_17_levels_under_256_are_remarked() -> None:
    with pytest.warns(UserWarning, match="above 16, of 256 grey levels: is it 17 levels.*--levels 17 "):
        examples(make_data("mine", "test", DIGITS, 256))
    examples(make_data("mine", "test", DIGITS, 17))  # a warning is an error here


@pytest.mark.parametrize(("images", "levels"), [(DIGITS // 16, 2), (DIGITS // 2, 9), (PHOTOS // 8, 32)])
def test_other_counts_of_levels_are_told(images: np.ndarray, levels: int) -> None:
    assert fewer_levels(images, 256) == levels


@pytest.mark.parametrize(
    "images",
    [
        PHOTOS,
        PHOTOS // 2,
        np.random.default_rng(0).poisson(4.0, (64, 1, 8, 8)).astype(np.uint8),  # a dark photograph
        np.random.default_rng(0).exponential(3.0, (64, 1, 8, 8)).astype(np.uint8).clip(0, 40),
        np.zeros((8, 1, 8, 8), np.uint8),
        np.full((8, 1, 8, 8), 16, np.uint8),
        DIGITS[:1],  # too few pixels
    ],
)
def test_dark_images_and_constant_ones_are_not(images: np.ndarray) -> None:
    assert fewer_levels(images, 256) is None
