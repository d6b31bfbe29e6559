"""PNG files: every chunk's checksum, and nothing dropped silently."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.data.makers import chunk, ihdr, pixels, png

from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError, UsageError
from merged_diffusion.files.pngs import ADAM7, MAX_PIXELS, check_png, decode_png

RGB, GREY = pixels(1)[0], pixels(1, (1, 7, 5))[0]
DEEP = np.random.RandomState(0).randint(65536, size=(3, 6, 5)).astype(np.uint16)


def read(content, levels=None):
    return decode_png(content, check_png(content, "a.png", levels), "a.png")


@pytest.mark.parametrize("image", [RGB, GREY])
@pytest.mark.parametrize("filters", [(0,), (1, 2, 3, 4)])
def test_eight_bits(image, filters):
    assert np.array_equal(read(png(image, filters=filters)), image)


@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("image", [DEEP, DEEP[:1]])
def test_sixteen_bits_with_their_levels(image, filters):
    found = read(png(image, filters=filters), 65536)
    assert found.dtype == np.uint16
    assert np.array_equal(found, image)


def test_sixteen_bits_as_pillow_writes_them():
    stream = io.BytesIO()
    Image.fromarray(DEEP[0]).save(stream, format="PNG")
    assert np.array_equal(read(stream.getvalue(), 65536), DEEP[:1])


@pytest.mark.parametrize("levels", [None, 256, 17])
def test_sixteen_bits_without_their_levels(levels):
    with pytest.raises(DataError, match="state --levels 65536"):
        read(png(DEEP), levels)


def test_sixteen_bits_by_levels_alone_are_refused():
    with pytest.raises(UsageError, match="PNG of 8 bits"):
        read(png(RGB), 65536)


@pytest.mark.parametrize("shape", [(3, 9, 11), (1, 1, 1), (1, 5, 3), (3, 2, 17)])
def test_interlaced(shape):
    image = pixels(1, shape)[0]
    passes = [image[:, y::dy, x::dx].transpose(1, 2, 0) for x, y, dx, dy in ADAM7]
    raw = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    size = shape[2], shape[1], 8, {1: 0, 3: 2}[shape[0]]
    content = png(image, raw=raw).replace(ihdr(*size), ihdr(*size, interlace=1))
    assert np.array_equal(read(content), image)


def test_interlaced_with_sixteen_bits():
    with pytest.raises(DataError, match="interlace"):
        read(png(DEEP).replace(ihdr(5, 6, 16), ihdr(5, 6, 16, interlace=1)), 65536)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (png(RGB, colour=6), "RGB with alpha"), (png(GREY, colour=4), "grey with alpha"),
        (png(GREY, colour=3), "a palette"),
        (png(RGB, extra=chunk(b"tRNS", bytes(6))), "a transparent colour"),
        (png(RGB, extra=chunk(b"acTL", struct.pack(">2I", 2, 0))), "an animation"),
        (png(GREY).replace(ihdr(5, 7, 8, 0), ihdr(5, 7, 1, 0)), "1 bits"),
    ],
)  # fmt: skip
def test_what_would_lose_something(content, what):
    with pytest.raises(DataError, match=f"a PNG with {what}.*never dropped silently"):
        read(content)


def test_flip_of_a_pixel_that_pillow_would_accept():
    content = bytearray(png(RGB, raw=b"".join(b"\0" + bytes(96) for _ in range(32))))
    content[-16] ^= 1
    with pytest.raises(DataIntegrityError, match=r"checksum of the chunk b'IDAT'"):
        read(bytes(content))


@pytest.mark.parametrize("at", [9, 17, 25, 30, -3, -20])
def test_flips(at):
    content = bytearray(png(RGB))
    content[at] ^= 0x10
    with pytest.raises(DataIntegrityError, match="not a sound PNG"):
        read(bytes(content))


@pytest.mark.parametrize("keep", [0, 4, 8, 20, 33, 60, -12, -4])
def test_truncated(keep):
    with pytest.raises(DataIntegrityError, match="not a sound PNG" if keep else "is empty"):
        read(png(RGB)[:keep])


@pytest.mark.parametrize("size", [(1 << 31, 1), (MAX_PIXELS + 1, 1), (0, 5)])
def test_sizes(size):
    with pytest.raises(UnsafeFileError, match="pixels, the limit"):
        read(png(RGB).replace(ihdr(32, 32), ihdr(*size)))


@pytest.mark.parametrize("n_bytes", [0, 90, 3103, 3105, 3200])
def test_pixels_that_are_too_few_or_too_many(n_bytes):
    with pytest.raises(DataIntegrityError, match=r"bytes of pixels instead of 3104"):
        read(png(RGB, raw=bytes(n_bytes)))
    with pytest.raises(DataIntegrityError, match="bytes of pixels instead of 186"):
        read(png(DEEP, raw=bytes(n_bytes)), 65536)


def test_unknown_filter():
    with pytest.raises(DataIntegrityError, match="filter 5"):
        read(png(DEEP, raw=(b"\5" + bytes(30)) * 6), 65536)


def test_text_that_would_inflate_is_never_unpacked():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26)))
    assert np.array_equal(read(png(RGB, extra=text)), RGB)


def test_two_headers():
    with pytest.raises(DataIntegrityError, match="without pixels"):
        read(png(RGB, extra=ihdr(4, 4)))
