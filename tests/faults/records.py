"""TFRecord shards and their protobuf: lengths, checksums, fields out of bounds."""

import struct
from pathlib import Path

from tests.data.makers import example, feature, field, pixels, png, record, varint, write_folder
from tests.faults.case import Case

IMAGES = [png(image) for image in pixels(3)]
OLD = {"variant": "old"}
REFUSED, UNSAFE, USAGE = 3, 4, 2


def cases(folder: Path, canary: Path) -> list[Case]:
    """A folder with one shard for each."""
    made = {
        name: (content, code, OLD) for name, (content, code) in (frames() | messages()).items()
    } | honest()
    made["without-variant"] = record(example(IMAGES[0])), REFUSED, {}
    return [
        Case(
            f"records/{name}",
            write_folder(folder / name, {"a.tfrecord-00000-of-00001": content}),
            "data",
            code,
            options,
        )
        for name, (content, code, options) in made.items()
    ]


def frames():
    one = record(example(IMAGES[0]))
    return {
        "empty": (b"", USAGE),
        "length-truncated": (one[:5], REFUSED),
        "content-truncated": (one[:-9], REFUSED),
        "checksum-truncated": (one[:-2], REFUSED),
        "second-truncated": (one + one[:40], REFUSED),
        "length-checksum": (record(example(IMAGES[0]), length_crc=0), REFUSED),
        "content-checksum": (record(example(IMAGES[0]), crc=0), REFUSED),
        "flip-in-length": (b"\xff" + one[1:], REFUSED),
        "flip-in-content": (one[:50] + b"?" + one[51:], REFUSED),
        "of-gigabytes": (record(b"", length=1 << 32), UNSAFE),
        "of-all-bytes": (record(b"", length=(1 << 64) - 1), UNSAFE),
        "of-64-megabytes-that-are-missing": (record(b"", length=1 << 26), REFUSED),
        "followed": (one + b"xyz", REFUSED),
        "gzip": (b"\x1f\x8b\x08" + bytes(50), REFUSED),
    }


def messages():
    png_feature = feature(b"image", field(1, field(1, IMAGES[0])))
    contents = {
        "no-message": b"\xff" * 40,
        "empty-message": b"",
        "no-features": field(2, b"x"),
        "no-image": field(1, feature(b"label", field(3, field(1, varint(1))))),
        "two-images": field(1, feature(b"image", field(1, field(1, IMAGES[0]) + field(1, IMAGES[1])))),
        "image-of-numbers": field(1, feature(b"image", field(3, field(1, varint(1))))),
        "length-out-of-bounds": b"\x0a\xff\x7f" + png_feature,
        "length-of-exabytes": b"\x0a" + b"\xff" * 8 + b"\x7f",
        "varint-without-end": b"\x08" + b"\xff" * 30,
        "varint-of-70-bits": b"\x08" + b"\xff" * 9 + b"\x7f",
        "group": b"\x0b" + png_feature + b"\x0c",
        "field-0": b"\x02\x01x",
        "fixed-truncated": b"\x09" + bytes(4),
        "deep": nested(500),
        "two-labels": field(1, png_feature + feature(b"label", field(3, field(1, varint(1) + varint(2))))),
        "label-over-999": field(1, png_feature + feature(b"label", field(3, field(1, varint(1000))))),
        "label-negative": field(
            1, png_feature + feature(b"label", field(3, field(1, varint((1 << 64) - 1))))
        ),
        "image-that-is-none": example(b"not a png"),
        "image-truncated": example(IMAGES[0][:-30]),
        "image-of-another-shape": example(png(pixels(1, (1, 32, 32))[0])),
        "image-of-another-size": example(png(pixels(1, (3, 64, 64))[0])),
        "image-as-pickle": example(b"\x80\x04cos\nsystem\n."),
        "many-empty-fields": b"\x12\x00" * 50000,
    }
    found = {name: (record(content), REFUSED) for name, content in contents.items()}
    mixed = record(example(IMAGES[0], 1)) + record(example(IMAGES[1]))
    return found | {"labels-of-some": (mixed, REFUSED)}


def honest():
    plain, labelled = (b"".join(record(example(x, n)) for x in IMAGES) for n in (None, 7))
    weight = feature(b"weight", field(2, field(1, struct.pack("<f", 1.0))))
    more = record(field(1, weight + feature(b"image", field(1, field(1, IMAGES[0])))))
    return {"plain": (plain, 0, OLD), "labelled": (labelled, 0, OLD), "other-features": (more, 0, OLD)}


def nested(depth):
    content = b"x"
    for _ in range(depth):
        content = field(1, content)
    return content
