"""TFRecord shards: checksums, bounds, and the two features that are read."""

import struct

import pytest
from tests.data.makers import example, feature, field, record, varint

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.tfrecords import BLOCK, MAX_RECORD, crc32c, masked, parse_example, read_records


def bitwise(content):
    """CRC-32C as its definition has it."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E), (b"", 0),
    ],
)  # fmt: skip
def test_crc32c_of_the_standard(content, expected):
    """RFC 3720, appendix B.4."""
    assert crc32c(content) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 3, 2 * BLOCK + 7])
def test_crc32c_by_blocks_is_the_bitwise_one(n):
    content = bytes((17 * i + i // 251) & 0xFF for i in range(n))
    assert crc32c(content) == bitwise(content)


def test_mask_of_the_format():
    assert masked(0) == 0xA282EAD8
    assert masked(1 << 15) == 0xA282EAD9


def shard(tmp_path, content):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    return [content for _, content in read_records(path)]


def test_records_come_back(tmp_path):
    assert shard(tmp_path, record(b"one") + record(b"") + record(b"x" * 5000)) == [b"one", b"", b"x" * 5000]


@pytest.mark.parametrize("cut", [1, 4, 5, 10, 18])
def test_truncated_shard(tmp_path, cut):
    with pytest.raises(DataIntegrityError, match=r"the record at offset 19.*truncated"):
        shard(tmp_path, (record(b"one") + record(b"two"))[:-cut])


def test_checksums_are_compared(tmp_path):
    with pytest.raises(DataIntegrityError, match="checksum of its length"):
        shard(tmp_path, record(b"one", length_crc=0))
    with pytest.raises(DataIntegrityError, match="checksum of its content"):
        shard(tmp_path, record(b"one", crc=0))


@pytest.mark.parametrize("length", [MAX_RECORD + 1, (1 << 64) - 1])
def test_huge_record_is_refused_before_reading(tmp_path, length):
    with pytest.raises(UnsafeFileError, match="limit"):
        shard(tmp_path, record(b"one", length=length))


@pytest.mark.parametrize("label", [None, 0, 999, 1 << 40])
def test_example_holds_an_image_and_perhaps_a_label(label):
    found = parse_example(example(b"png", label), "a", 0)
    assert (found.image, found.label) == (b"png", label)


def test_packed_and_negative_labels_and_other_features():
    floats = feature(b"weight", field(2, field(1, struct.pack("<f", 1.0))))
    minus = varint((1 << 64) - 1)
    content = field(1, feature(b"label", field(3, field(1, minus))) + floats + example(b"png")[2:])
    assert parse_example(content, "a", 0).label == -1


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff" * 11, b"\x0a\x05abc", field(1, b"\x0a\x7f"), field(1, feature(b"label", b"")),
        b"\x0b", b"\x00\x00", field(1, feature(b"image", field(1, field(1, b"a") + field(1, b"b")))),
        b"\x08" + b"\xff" * 9 + b"\x7f",
    ],
)  # fmt: skip
def test_what_is_no_example(content):
    with pytest.raises(DataIntegrityError, match="Example"):
        parse_example(content, "a", 0)
