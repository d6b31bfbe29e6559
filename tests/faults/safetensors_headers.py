"""Headers of safetensors files that lie about where tensors are and how large."""

import json
import struct
from pathlib import Path

import numpy as np
from tests.faults.case import Case
from tests.faults.states import CARD

REFUSED = 4
A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}
BODY = np.arange(3, dtype=np.float32).tobytes()


def file(header, body=BODY, length=None):
    """A file of a header (bytes, or what becomes JSON) and a body."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def attacks():
    deep = b"[" * 200_000
    doubled = b'{"a":' + json.dumps(A).encode() + b',"a":' + json.dumps(B).encode() + b"}"
    return {
        "overlap": file({"a": A, "b": {**B, "data_offsets": [4, 8]}}),
        "the-same-bytes": file({"a": A, "b": {**A}}),
        "gap": file({"a": A, "b": {**B, "data_offsets": [9, 13]}}, BODY + b"x"),
        "gap-in-front": file({"a": {**A, "data_offsets": [4, 12]}}),
        "bytes-left-over": file({"a": A}),
        "behind-the-end": file({"a": A, "b": {**B, "data_offsets": [8, 1 << 40]}}),
        "negative-offset": file({"a": {**A, "data_offsets": [-8, 0]}}),
        "reversed-offsets": file({"a": {**A, "data_offsets": [8, 0]}}),
        "three-offsets": file({"a": {**A, "data_offsets": [0, 4, 8]}}),
        "offsets-as-text": file({"a": {**A, "data_offsets": ["0", "8"]}}),
        "offsets-as-fractions": file({"a": {**A, "data_offsets": [0.5, 8.5]}}),
        "huge-shape": file({"a": {**A, "shape": [1 << 62, 4]}, "b": B}),
        "shape-whose-product-wraps": file({"a": {**A, "shape": [1 << 32, 1 << 32, 2]}, "b": B}),
        "negative-shape": file({"a": {**A, "shape": [-1, -2]}, "b": B}),
        "shape-of-zero": file({"a": {**A, "shape": [0]}, "b": B}),
        "shape-of-a-thousand-axes": file({"a": {**A, "shape": [1] * 1000 + [3]}, "b": B}),
        "shape-as-text": file({"a": {**A, "shape": "2"}, "b": B}),
        "shape-of-lists": file({"a": {**A, "shape": [[2]]}, "b": B}),
        "shape-that-multiplies-a-text": file({"a": {**A, "shape": ["a" * 1000, 1 << 22]}, "b": B}),
        "shape-that-multiplies-a-list": file({"a": {**A, "shape": [[0] * 1000, 1 << 22]}, "b": B}),
        "shape-of-flags": file({"a": {**A, "shape": [True, 2]}, "b": B}),
        "shape-of-fractions": file({"a": {**A, "shape": [2.0]}, "b": B}),
        "shape-as-object": file({"a": {**A, "shape": {"2": 2}}, "b": B}),
        "shape-of-huge-numbers": file({"a": {**A, "shape": [10**4000] * 200}, "b": B}),
        "offset-of-infinity": file(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, Infinity]}}'),
        "offset-over-any-float": file(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e999]}}'),
        "offset-of-2-to-the-64": file({"a": {**A, "data_offsets": [0, (1 << 64) + 8]}, "b": B}),
        "shape-too-small": file({"a": {**A, "shape": [1]}, "b": B}),
        "unknown-dtype": file({"a": {**A, "dtype": "OBJECT"}, "b": B}),
        "dtype-as-number": file({"a": {**A, "dtype": 32}, "b": B}),
        "dtypes-mixed": file({"a": {**A, "dtype": "I32"}, "b": B}),
        "no-dtype": file({"a": {"shape": [2], "data_offsets": [0, 8]}, "b": B}),
        "no-tensors": file({}, b""),
        "metadata-alone": file({"__metadata__": {"a": "b"}}, b""),
        "metadata-of-numbers": file({"__metadata__": {"a": 1}, "a": A, "b": B}),
        "entry-as-list": file({"a": [1, 2], "b": B}),
        "header-as-list": file([A, B]),
        "header-as-text": file(b'"tensors"'),
        "header-empty": file(b""),
        "header-of-spaces": file(b" " * 4096),
        "header-not-json": file(b"{'a': 1}"),
        "header-not-utf8": file(b'{"\xff\xfe": 1}'),
        "header-deep": file(deep),
        "header-nested-objects": file(b'{"a":' * 100_000),
        "header-with-names-twice": file(doubled),
        "header-of-huge-number": file(b'{"a": ' + b"9" * 100_000 + b"}"),
        "header-longer-than-the-file": file({"a": A}, length=1 << 30),
        "header-of-2-to-the-63": file({"a": A}, length=(1 << 63) + 5),
        "header-over-the-cap": file(json.dumps({"a": A}).encode() + b" " * (200 << 20)),
        "header-of-nan": file(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}'),
        "name-of-the-empty-text": file({"": {**A, "shape": [3], "data_offsets": [0, 12]}}),
        "name-as-path": file({"../../etc/passwd": {**A, "shape": [3], "data_offsets": [0, 12]}}),
        "seven-bytes": b"\x01\x00\x00\x00\x00\x00\x00",
        "no-bytes": b"",
        "a-pickle": b"\x80\x04cos\nsystem\n.",
        **{f"turned-bit-{at:02d}": turned(at) for at in range(0, 60, 4)},
    }


def turned(at):
    """A sound file with a bit of its header turned over."""
    whole = bytearray(file({"a": A, "b": B}))
    whole[at] ^= 0x10
    return bytes(whole)


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file in a folder of its own with a sound card."""
    made = []
    for name, content in attacks().items():
        place = folder / name
        place.mkdir(parents=True)
        (place / "card.toml").write_text(CARD)
        (place / "model.safetensors").write_bytes(content)
        made.append(Case(f"safetensors_headers/{name}", place, "expert", REFUSED))
    return made
