"""Sets of images: what is refused, and with which advice."""

import hashlib

import numpy as np
import pytest

from merged_diffusion.data.images import check_images, chosen_positions, make_data, pixel_values
from merged_diffusion.errors import DataError, UsageError


def some(n=10, shape=(1, 2, 3), levels=17):
    images = np.random.RandomState(0).randint(levels, size=(n, *shape)).astype(np.uint8)
    return make_data("some", "test", images, levels, clusters=np.arange(n) // 2)


def test_hash_is_of_decimal_sizes_and_bytes_in_c_order():
    data = some()
    expected = hashlib.sha256(b"10,1,2,3,17\n" + data.images.tobytes()).hexdigest()
    fortran = make_data("f", "test", np.asfortranarray(data.images), 17)
    assert data.sha256 == fortran.sha256 == expected


def test_hash_depends_on_levels():
    assert make_data("a", "test", some().images, 18).sha256 != some().sha256


def test_limit_is_nested_and_keeps_ids_ascending():
    data = some(50)
    few, more = data.select(limit=5), data.select(limit=20)
    assert set(few.ids) <= set(more.ids)
    assert list(few.ids) == sorted(np.random.RandomState(0).permutation(50)[:5])
    assert (data.images[few.ids] == few.images).all()
    assert (data.clusters[few.ids] == few.clusters).all()
    assert few.sha256 == data.sha256


def test_ids_are_half_open_positions():
    assert list(some().select(ids=(3, 6)).ids) == [3, 4, 5]


@pytest.mark.parametrize("ids", [(3, 3), (-1, 2), (0, 11), (6, 3)])
def test_ids_outside_are_refused(ids):
    with pytest.raises(UsageError, match="half open"):
        some().select(ids=ids)


@pytest.mark.parametrize("ids", [[3, 6], [1, 2, 3], range(3, 6), 5, "3:6", (3.0, 6.0), np.array([3, 6])])
def test_ids_that_are_no_pair_are_refused_and_not_taken_for_one(ids):
    with pytest.raises(UsageError, match="no pair A, B") as caught:
        some().select(ids=ids)
    assert "data[[3, 9]]" in caught.value.hint


@pytest.mark.parametrize("limit", [0, -1, 11, "5", 2.0])
def test_limit_outside_is_refused(limit):
    with pytest.raises(UsageError, match=r"1\.\.10"):
        some().select(limit=limit)


def test_limit_and_ids_at_once_are_refused():
    with pytest.raises(UsageError, match="both"):
        some().select(limit=1, ids=(0, 1))


def test_select_without_choice_is_all():
    data = some()
    assert data.select() is data
    assert len(chosen_positions(10, 10)) == 10


def test_centred_pixels_are_the_middles_of_bins_and_ends_reach_one():
    v = np.arange(17, dtype=np.uint8).reshape(1, 1, 1, 17)
    centred, ends = pixel_values(v, 17).ravel(), pixel_values(v, 17, "ends").ravel()
    assert np.allclose(np.diff(centred), 2 / 17)
    assert np.allclose(centred, -centred[::-1])
    assert ends[0] == -1
    assert ends[-1] == 1


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (np.zeros((2, 1, 2, 2), np.float32) + 0.5, r"images \* 255"),
        (np.full((2, 1, 2, 2), 7.0), "images.round"),
        (np.full((2, 1, 2, 2), np.nan, np.float32), r"nan at \[0, 0, 0, 0\] lies outside"),
        (np.full((2, 1, 2, 2), 300), r"300 at \[0, 0, 0, 0\] lies outside 0\.\.255"),
        (np.full((2, 1, 2, 2), 3), "astype"),
        (np.full((2, 1, 2, 2), 3000, np.uint16), ">> 8"),
        (np.ones((2, 1, 2, 2), bool), "levels = 2"),
        (np.ones((2, 1, 2, 2), complex), "array of uint8"),
    ],
)
def test_wrong_dtype_names_the_conversion(images, advice):
    with pytest.raises(DataError, match=advice) as error:
        check_images(images, 256, "mine")
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((5, 28, 28, 3), "last axis looks like channels"),
        ((5, 28, 28), "no channel axis"),
        ((28, 28, 3), "one image"),
        ((5, 4, 8, 8), "alpha"),
        ((5, 8, 8, 4), "alpha"),
        ((5,), "four axes|axes images"),
        ((5, 2, 8, 8), "axes images"),
    ],
)
def test_wrong_shape_names_both_shapes(shape, advice):
    with pytest.raises(DataError, match=advice) as error:
        check_images(np.zeros(shape, np.uint8), 256, "mine")
    assert str(list(shape)) in str(error.value)
    assert "[N, C, H, W]" in str(error.value)


def test_empty_set_is_a_usage_error():
    with pytest.raises(UsageError, match="no images"):
        check_images(np.zeros((0, 1, 8, 8), np.uint8), 256, "mine")


def test_value_over_the_levels_gives_its_place():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    images[1, 0, 1, 0] = 17
    with pytest.raises(DataError, match=r"17 at \[1, 0, 1, 0\] exceeds 16"):
        check_images(images, 17, "mine")


@pytest.mark.parametrize("levels", [0, 1, 257, 65536])
def test_levels_outside_uint8_are_refused(levels):
    with pytest.raises(UsageError, match=r"2\.\.256"):
        check_images(np.zeros((1, 1, 2, 2), np.uint8), levels, "mine")


def test_columns_of_another_length_are_refused():
    with pytest.raises(DataError, match="one entry of labels per image"):
        make_data("mine", "test", np.zeros((3, 1, 2, 2), np.uint8), 256, labels=np.zeros(2, np.int64))


def test_repr_is_one_line():
    assert repr(some()) == "Data(some/test, 10 images 1x2x3, 17 levels)"
