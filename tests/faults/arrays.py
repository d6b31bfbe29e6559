"""npy and npz: object arrays, headers that are more than literals, wrong dtypes, shapes and values."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
from tests.data.makers import imagenet_batch, npy, pixels, saved, zip_of
from tests.faults.case import Case

IMAGES = pixels(4, (3, 8, 8))
CONTENT = IMAGES.tobytes()
HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 8, 8), }"
REFUSED, UNSAFE, USAGE = 3, 4, 2


class Touch:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every array, as ``.npy`` and within an ``.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (content, code) in (objects(canary) | headers(canary) | kinds() | flips()).items():
        (folder / f"{name}.npy").write_bytes(content)
        made.append((folder / f"{name}.npy", code, {}))
        made.append((zip_of(folder / f"{name}.npz", {"images.npy": content}), code, {}))
    made += columns(folder) + honest(folder)
    return [Case(f"arrays/{path.name}", path, "data", code, options) for path, code, options in made]


def objects(canary):
    def descr(text):
        return HEADER.replace("'|u1'", text)

    call = pickle.dumps(Touch(canary))
    return {
        "object": (saved_with(np.array([Touch(canary), None], dtype=object)), UNSAFE),
        "object-by-header": (npy(header=descr("'|O'"), content=call), UNSAFE),
        "object-of-eight": (npy(header=descr("'O8'"), content=call), UNSAFE),
        "object-in-a-record": (npy(header=descr("[('a', '|O')]"), content=call), UNSAFE),
        "object-in-a-nested-record": (npy(header=descr("[('a', [('b', 'O')])]"), content=call), UNSAFE),
        "pickle-for-an-array": (call, REFUSED),
    }


def headers(canary):
    def header(old, new):
        return npy(header=HEADER.replace(old, new), content=CONTENT), REFUSED

    touch = f"__import__('os').system('touch {canary}')"
    return {
        "header-calls": header("False", touch),
        "header-calls-in-its-shape": header("(4, 3, 8, 8)", touch),
        "header-of-a-set": header(HEADER, "{1, 2}"),
        "header-without-shape": header(", 'shape': (4, 3, 8, 8)", ""),
        "header-with-more": header("}", "'more': 1}"),
        "header-deep": header(HEADER, "(" * 3000),
        "header-deep-minus": header(HEADER, "-" * 3500 + "1"),
        "header-long-number": header("8, 8", "8, " + "8" * 3000),
        "header-escape": header("|u1", "\\x7cu1"),
        "header-negative": header("4, 3", "-4, -3"),
        "header-float": header("4, 3", "4.0, 3"),
        "header-bool": header("4, 3", "True, 3"),
        "header-many-axes": header("4, 3", "1, 1, 1, 1, 1, 1, 4, 3"),
        "header-empty": (npy(header=""), REFUSED),
        "header-power": header("4, 3", "9**9**9, 3"),
        "header-repeats": header("(4, 3, 8, 8)", "(4,) * 9999999999"),
        "header-of-megabytes": (npy(header=HEADER + " " * (1 << 22), version=b"\2\0"), UNSAFE),
        "header-of-gigabytes": (b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(100), UNSAFE),
        "version-4": (b"\x93NUMPY\4\0" + bytes(100), REFUSED),
        "magic-alone": (b"\x93NUMPY", REFUSED),
        "shape-of-terabytes": header("4, 3", "1099511627776, 3"),
        "shape-that-overflows": header("(4, 3, 8, 8)", f"({1 << 62}, {1 << 62}, 16)"),
        "type-of-megabytes": (npy(header=HEADER.replace("|u1", "S99999999"), content=CONTENT), REFUSED),
        "type-void": (npy(header=HEADER.replace("|u1", "V8"), content=CONTENT), REFUSED),
        "type-unknown": (npy(header=HEADER.replace("|u1", "q99"), content=CONTENT), REFUSED),
        "type-by-commas": (npy(header=HEADER.replace("|u1", "u1,u1"), content=CONTENT), REFUSED),
    }


def kinds():
    nan = IMAGES.astype(np.float32)
    nan[1, 2, 3, 4] = np.nan
    return {
        name: (saved(array), code)
        for name, array, code in (
            ("floats", (IMAGES / 255).astype(np.float32), REFUSED),
            ("floats-of-255", IMAGES.astype(float), REFUSED),
            ("int64", IMAGES.astype(np.int64), REFUSED),
            ("uint16", IMAGES.astype(np.uint16) * 257, REFUSED),
            ("negative", -IMAGES.astype(np.int16), REFUSED),
            ("nan", nan, REFUSED),
            ("bool", IMAGES > 9, REFUSED),
            ("complex", IMAGES.astype(np.complex64), REFUSED),
            ("text", np.array(["a", "b"]), REFUSED),
            ("dates", np.array(["2020-01-01"], "M8[D]"), REFUSED),
            ("channels-last", IMAGES.transpose(0, 2, 3, 1).copy(), REFUSED),
            ("no-channels", IMAGES[:, 0], REFUSED),
            ("one-image", IMAGES[0], REFUSED),
            ("scalar", np.uint8(3), REFUSED),
            ("alpha", pixels(2, (4, 8, 8)), REFUSED),
            ("rows", IMAGES.reshape(4, -1), REFUSED),
            ("empty", IMAGES[:0], USAGE),
            ("no-pixels", IMAGES[:, :, :0], USAGE),
        )
    }


def flips():
    """Each of the first bytes of a header changed, where that makes it another header."""
    whole = npy(IMAGES)
    at = {
        "magic": 1,
        "version": 6,
        "length": 8,
        "quote": 11,
        "descr": whole.index(b"|u1") + 1,
        "order": whole.index(b"False"),
        "shape": whole.index(b"(4"),
    }
    found = {
        f"flip-{k}": (whole[:i] + bytes([whole[i] ^ 0x40]) + whole[i + 1 :], REFUSED) for k, i in at.items()
    }
    cuts = {f"truncated-{n}": (whole[:n], REFUSED) for n in (0, 3, 9, 40, len(whole) - 1)}
    return found | cuts | {"followed": (whole + b"x", REFUSED)}


def columns(folder):
    """npz files whose other columns are wrong."""

    def made(name, code, **arrays):
        np.savez(folder / f"columns-{name}.npz", **arrays)
        return folder / f"columns-{name}.npz", code, {}

    batch = imagenet_batch(folder / "val_data.npz", pixels(3), [1, 2, 3])
    zero = imagenet_batch(folder / "zero-labels.npz", pixels(3), [0, 1, 2])
    return [
        made("without-images", REFUSED, labels=np.arange(4)),
        made("levels-17", REFUSED, images=IMAGES, levels=17),
        made("levels-0", USAGE, images=IMAGES, levels=0),
        made("levels-two", REFUSED, images=IMAGES, levels=[1, 2]),
        made("levels-float", REFUSED, images=IMAGES, levels=256.0),
        made("labels-float", REFUSED, images=IMAGES, labels=np.ones(4)),
        made("labels-short", REFUSED, images=IMAGES, labels=np.arange(3)),
        made("ids-text", REFUSED, images=IMAGES, ids=np.array(list("abcd"))),
        (batch, REFUSED, {}),
        (zero, REFUSED, {"variant": "new"}),
        (batch, 0, {"variant": "new"}),
    ]


def honest(folder):
    (folder / "plain.npy").write_bytes(npy(IMAGES))
    np.save(folder / "fortran.npy", np.asfortranarray(IMAGES))
    (folder / "version-2.npy").write_bytes(npy(header=HEADER, content=CONTENT, version=b"\2\0"))
    np.savez(
        folder / "all.npz",
        images=IMAGES % 7,
        levels=7,
        ids=np.arange(4),
        labels=np.arange(4),
        clusters=[1, 1, 2, 2],
    )
    np.savez_compressed(folder / "compressed.npz", images=IMAGES)
    (folder / "deep.npy").write_bytes(npy(IMAGES.astype(np.uint16) * 257))
    names = ("plain.npy", "fortran.npy", "version-2.npy", "all.npz", "compressed.npz")
    return [(folder / name, 0, {}) for name in names] + [(folder / "deep.npy", 0, {"levels": 65536})]


def saved_with(array):
    """What ``numpy.save`` writes of objects."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()
