"""What pixels tell of an image, by hand."""

import numpy as np
import pytest

from merged_diffusion.data.images import make_data
from merged_diffusion.data.pixel_features import pixel_features


def features(images, levels=256):
    found = pixel_features(make_data("own", "test", np.array(images, dtype=np.uint8), levels))
    assert found.values.shape == (len(images), len(found.names))
    return [dict(zip(found.names, row, strict=True)) for row in found.values.tolist()]


def test_features_of_a_grey_image_by_hand():
    (found,) = features([[[[0, 3], [1, 4]]]], levels=5)  # across 3, 3; down 1, 1
    assert found == pytest.approx(
        {
            "roughness": np.log2(1 + 3 + 1),
            "log differences": (2 * np.log2(4) + 2 * np.log2(2)) / 4,
            "saturated": 0.5,
            "contrast": np.log2(1 + np.std([0, 3, 1, 4])),
            "flat": 0.0,
        }
    )


def test_chroma_is_what_colours_differ_in():
    grey = np.random.default_rng(0).integers(0, 200, (1, 1, 8, 8))
    same, shifted, red = np.repeat(grey, 3, axis=1), np.repeat(grey, 3, axis=1), np.repeat(grey, 3, axis=1)
    shifted[:, 0] += 20  # of the same differences
    red[:, 0] = 7
    told = features(np.concatenate([same, shifted, red]))
    assert [each["chroma roughness"] > 0 for each in told] == [False, False, True]
    # Half of the values of both chromas are those of the red one, which here is a constant less the green.
    (plain,) = features(grey)
    assert 2 ** told[2]["chroma roughness"] - 1 == pytest.approx((2 ** plain["roughness"] - 1) / 2)


def test_a_flat_image_is_flat_and_one_row_has_no_vertical_differences():
    (flat,) = features(np.full((1, 3, 4, 4), 255))
    assert (flat["flat"], flat["saturated"], flat["roughness"], flat["contrast"]) == (1, 1, 0, 0)
    (row,) = features([[[[1, 3, 5]]]])
    assert row["roughness"] == pytest.approx(np.log2(3))
    (pixel,) = features([[[[1]]]])
    assert pixel["roughness"] == 0


def test_deep_images_and_many_of_them():
    deep = np.array([[[[0, 65535], [65535, 0]]]] * 1500, dtype=np.uint16)
    found = pixel_features(make_data("deep", "test", deep, 65536))
    assert found.values.shape == (1500, 5)
    assert (found.values[:, 0] == np.log2(1 + 2 * 65535)).all()
