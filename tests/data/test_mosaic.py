"""Images in one picture: every pixel is there, in its place and at its level."""

import base64
import io
import re

import numpy as np
from PIL import Image

from merged_diffusion.data.images import make_data
from merged_diffusion.data.mosaic import SHOWN, mosaic, picture


def test_mosaic_keeps_pixels():
    images = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)
    sheet = mosaic(images, levels=18, columns=2)
    assert sheet.shape == (2, 5, 4)
    assert sheet[..., 0].tolist() == [[0, 15, 255, 60, 75], [30, 45, 255, 90, 105]]
    assert sheet[..., 3].tolist() == [[255, 255, 0, 255, 255]] * 2


def test_small_images_are_enlarged_pixel_by_pixel():
    images = np.array([[[[0, 16], [8, 4]]]], dtype=np.uint8)
    page = picture(images, 17)
    assert page.shape == (64, 64, 3)
    assert page[::32, ::32, 0].tolist() == [[0, 255], [128, 64]]
    assert (page[:32, 32:] == 255).all()


def test_notebook_shows_the_first_images_and_says_how_many_there_are():
    images = np.random.RandomState(0).randint(0, 256, (SHOWN + 6, 3, 8, 8)).astype(np.uint8)
    data = make_data("<b>mine", "test", images, 256)
    found = data._repr_html_()
    assert f"{SHOWN + 6} images" in found
    assert f"the first {SHOWN} are shown" in found
    assert "<b>" not in found
    content = base64.b64decode(re.search(r"base64,([^\"]+)", found)[1])
    with Image.open(io.BytesIO(content)) as shown:
        assert np.array_equal(np.asarray(shown), picture(images[:SHOWN], 256))
