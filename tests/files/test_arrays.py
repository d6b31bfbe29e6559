"""npy headers: literals that are read, and what is refused before memory is taken."""

import io

import numpy as np
import pytest
from tests.data.makers import npy, saved

from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError
from merged_diffusion.files.arrays import MAX_BYTES, MAX_HEADER, read_array

HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }"


def read(content):
    return read_array(io.BytesIO(content), "a.npy", len(content))


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">i4", "int64", "float32", "bool", "U3", "complex64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saves_comes_back(dtype, order):
    array = np.asarray(np.arange(24).reshape(2, 3, 4).astype(dtype), order=order)
    found = read(saved(array))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
def test_versions_of_the_header(version):
    assert np.array_equal(
        read(npy(header=HEADER, content=b"abcdef", version=version)).ravel(), list(b"abcdef")
    )


def test_scalar_is_an_array_without_axes():
    assert read(saved(np.array(17))).item() == 17


@pytest.mark.parametrize(
    "header",
    [
        "", "{}", "[]", "{'descr': '|u1'}", HEADER.replace("False", "0"), HEADER.replace("(2, 3)", "[2, 3]"),
        HEADER.replace("(2, 3)", "(2, -3)"), HEADER.replace("(2, 3)", "(2.0, 3)"),
        HEADER.replace("(2, 3)", "(True, 3)"), HEADER.replace("(2, 3)", "(1,) * 9"),
        HEADER.replace("(2, 3)", str((1,) * 9)), HEADER.replace("}", "'more': 1}"),
        HEADER.replace("False", "__import__('os').system('true')"), HEADER.replace("|u1", "\\x7cu1"),
        "(" * 2000, "-" * 3000 + "1", HEADER.replace("2, 3", "9" * 100 + ", 1"), "{'descr': {[]: 1}}",
    ],
)  # fmt: skip
def test_header_that_is_none(header):
    with pytest.raises(DataIntegrityError, match="not an npy array"):
        read(npy(header=header, content=b"abcdef"))


def test_header_over_the_limit():
    with pytest.raises(UnsafeFileError, match=f"limit is {MAX_HEADER}"):
        read(npy(header=HEADER + " " * MAX_HEADER, content=b"abcdef"))


@pytest.mark.parametrize("descr", ["'|O'", "'O'", "[('a', '|O')]", "[('a', [('b', 'O8')])]"])
def test_object_array_is_refused_before_its_content(descr):
    with pytest.raises(UnsafeFileError, match="unpickled"):
        read(npy(header=HEADER.replace("'|u1'", descr)))


@pytest.mark.parametrize(
    "descr", ["'V8'", "'M8[ns]'", "[('a', '<u2')]", "17", "'u3'", "'|u1,|u1'", "'S9999999'"]
)
def test_type_that_is_no_number(descr):
    with pytest.raises(DataError, match="whole numbers"):
        read(npy(header=HEADER.replace("'|u1'", descr), content=b"abcdef"))


@pytest.mark.parametrize("shape", ["(3, 3)", "(1 << 40,)", f"({1 << 40}, 1)", f"({1 << 62}, {1 << 62})"])
def test_shape_beyond_the_content(shape):
    with pytest.raises(DataIntegrityError, match=r"truncated|not an npy"):
        read(npy(header=HEADER.replace("(2, 3)", shape), content=b"abcdef"))


def test_bytes_behind_the_values():
    with pytest.raises(DataIntegrityError, match="1 bytes follow"):
        read(npy(header=HEADER, content=b"abcdefg"))


def test_size_over_the_limit():
    with pytest.raises(UnsafeFileError, match="exceed"):
        read_array(io.BytesIO(), "a.npy", MAX_BYTES + 1)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\4\0", b"\x93NUMPY\1\0\xff", b"\x80\x04."])
def test_what_is_no_npy(content):
    with pytest.raises(DataIntegrityError, match="not an npy array"):
        read(content)
