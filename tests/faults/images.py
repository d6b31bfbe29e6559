"""PNG files and folders of them: damage, sizes, depths, and what a decoder would drop silently."""

import struct
import zlib
from pathlib import Path

import numpy as np
from tests.data.makers import chunk, ihdr, pixels, png, write_folder
from tests.faults.case import Case

RGB, GREY = pixels(2, (3, 8, 8)), pixels(2, (1, 8, 8))
DEEP = RGB.astype(np.uint16) * 257
REFUSED, UNSAFE, USAGE = 3, 4, 2


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every folder; a file alone is the second image beside a sound one."""
    sets = {
        name: ({"a.png": png(RGB[0]), "b.png": content}, code, {})
        for name, (content, code) in files().items()
    }
    sets |= folders() | honest()
    return [
        Case(f"images/{name}", write_folder(folder / name, content), "data", code, options)
        for name, (content, code, options) in sets.items()
    ]


def files():
    whole = png(RGB[1])
    body = whole[8:]
    text = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1 << 25)))
    return {
        "empty": (b"", REFUSED),
        "signature-alone": (whole[:8], REFUSED),
        "header-alone": (whole[:33], REFUSED),
        "truncated": (whole[:-20], REFUSED),
        "without-end": (whole[:-12], REFUSED),
        "followed": (whole + b"x", REFUSED),
        "flip-in-header": (flipped(whole, 20), REFUSED),
        "flip-in-pixels": (flipped(whole, -30), REFUSED),
        "flip-in-length": (flipped(whole, 34), REFUSED),
        "flip-in-checksum": (flipped(whole, -1), REFUSED),
        "another-signature": (b"\x89PNX\r\n\x1a\n" + body, REFUSED),
        "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), REFUSED),
        "gif": (b"GIF89a" + bytes(100), REFUSED),
        "pickle": (b"\x80\x04cos\nsystem\n.", REFUSED),
        "header-twice": (png(RGB[1], extra=ihdr(9, 9)), REFUSED),
        "header-last": (whole[:8] + body[25:] + body[:25], REFUSED),
        "of-gigapixels": (whole.replace(ihdr(8, 8), ihdr(1 << 31, 1 << 31)), UNSAFE),
        "of-16-megapixels-and-one": (whole.replace(ihdr(8, 8), ihdr((1 << 24) + 1, 1)), UNSAFE),
        "without-width": (whole.replace(ihdr(8, 8), ihdr(0, 8)), UNSAFE),
        "too-few-rows": (png(RGB[1], raw=(b"\0" + bytes(24)) * 3), REFUSED),
        "too-many-rows": (png(RGB[1], raw=(b"\0" + bytes(24)) * 3000), REFUSED),
        "pixel-bomb": (png(RGB[1], raw=bytes(1 << 26)), REFUSED),
        "filter-9": (png(RGB[1], raw=(b"\x09" + bytes(24)) * 8), REFUSED),
        "no-zlib": (whole[:33] + chunk(b"IDAT", b"garbage" * 9) + chunk(b"IEND", b""), REFUSED),
        "colour-type-7": (png(RGB[1], colour=7), REFUSED),
        "palette": (png(GREY[1], colour=3), REFUSED),
        "alpha": (png(RGB[1], colour=6), REFUSED),
        "grey-alpha": (png(GREY[1], colour=4), REFUSED),
        "transparent-colour": (png(RGB[1], extra=chunk(b"tRNS", bytes(6))), REFUSED),
        "animation": (png(RGB[1], extra=chunk(b"acTL", struct.pack(">2I", 2, 0))), REFUSED),
        "one-bit": (png(GREY[1]).replace(ihdr(8, 8, 8, 0), ihdr(8, 8, 1, 0)), REFUSED),
        "packing-1": (
            whole.replace(ihdr(8, 8), chunk(b"IHDR", struct.pack(">2I5B", 8, 8, 8, 2, 1, 0, 0))),
            REFUSED,
        ),
        "interlace-2": (whole.replace(ihdr(8, 8), ihdr(8, 8, interlace=2)), REFUSED),
        "interlaced-in-name": (whole.replace(ihdr(8, 8), ihdr(8, 8, interlace=1)), REFUSED),
        "sixteen-bits": (png(DEEP[1]), REFUSED),
        "grey-among-colours": (png(GREY[1]), REFUSED),
        "another-size": (png(pixels(1, (3, 8, 9))[0]), REFUSED),
        "profile-bomb": (png(RGB[1], extra=text), 0),
    }


def folders():
    one = {"a.png": png(RGB[0])}
    blank = png(np.zeros((3, 2000, 2000), np.uint8))
    return {
        "no-images": ({"notes.txt": b"x"}, USAGE, {}),
        "jpeg-beside": (one | {"b.jpg": b"x"}, REFUSED, {}),
        "two-splits": ({"train/a.png": png(RGB[0]), "test/a.png": png(RGB[1])}, USAGE, {}),
        "bomb-of-blank-images": ({f"{i}.png": blank for i in range(9)}, UNSAFE, {}),
        "labels-broken": (one | {"dataset.json": b'{"labels": [["a.png"'}, REFUSED, {}),
        "labels-deep": (one | {"dataset.json": b"[" * 4000}, REFUSED, {}),
        "labels-missing": (one | {"dataset.json": b'{"labels": [["b.png", 1]]}'}, REFUSED, {}),
        "labels-of-megabytes": (one | {"dataset.json": b"[" + b"[]," * (1 << 20)}, UNSAFE, {}),
        "labels-of-many-digits": (one | {"dataset.json": b"9" * 4100}, REFUSED, {}),
        "labels-that-are-text": (one | {"dataset.json": b'{"labels": [["a.png", "cat"]]}'}, REFUSED, {}),
        "deep-without-levels": ({"a.png": png(DEEP[0])}, REFUSED, {}),
        "levels-over-the-depth": (one, USAGE, {"levels": 65536}),
        "levels-below-the-values": (one, REFUSED, {"levels": 17}),
        "levels-1": (one, USAGE, {"levels": 1}),
    }


def honest():
    two = {f"{i}.png": png(x) for i, x in enumerate(RGB)}
    table = b'{"labels": [["0.png", 3], ["1.png", 5]]}'
    return {
        "colours": (two, 0, {}),
        "greys": ({f"{i}.png": png(x) for i, x in enumerate(GREY)}, 0, {}),
        "in-subfolders": ({f"0000{i}/{i}.png": png(x) for i, x in enumerate(RGB)}, 0, {}),
        "with-labels": (two | {"dataset.json": table}, 0, {}),
        "of-sixteen-bits": ({f"{i}.png": png(x) for i, x in enumerate(DEEP)}, 0, {"levels": 65536}),
        "filtered": ({"a.png": png(RGB[0], filters=(1, 2, 3, 4))}, 0, {}),
    }


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 0x08
    return bytes(changed)
