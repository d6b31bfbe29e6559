"""Files of flax that lie about their sizes, nest without end, or hold what no checkpoint holds."""

import struct
from pathlib import Path

import msgpack
import numpy as np
from tests.checkpoints import writers
from tests.faults.case import Case
from tests.faults.states import vdm_reference

REFUSED = 4


def array(shape, dtype, content, code=1):
    """An array as flax packs it, with any claims."""
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, content)))


def state(**changes):
    """An honest state with other entries at its top."""
    return writers.flax_state(vdm_reference()[1]) | changes


def with_kernel(value):
    """An honest state whose first kernel is another."""
    found = state()
    found["ema_params"]["score_model"]["conv_in"]["kernel"] = value
    return writers.packed(found)


def attacks():
    eight = np.ones(2, np.float32).tobytes()
    whole = writers.packed(state())
    claims = {
        "shape-too-large": array((1 << 40,), "float32", eight),
        "shape-whose-product-wraps": array((1 << 33, 1 << 33), "float32", eight),
        "shape-negative": array((-2,), "float32", eight),
        "shape-of-zero": array((0, 1 << 39), "float32", b""),
        "shape-of-100-axes": array((1,) * 100, "float32", eight),
        "shape-as-text": array("2", "float32", eight),
        "shape-of-fractions": array((2.0,), "float32", eight),
        "shape-of-flags": array((True, True), "float32", eight),
        "dtype-object": array((1,), "object", eight),
        "dtype-as-list": array((2,), ["float32"], eight),
        "dtype-of-records": array((2,), "V4", eight),
        "dtype-unknown": array((2,), "float99", eight),
        "bytes-too-few": array((3,), "float32", eight),
        "bytes-as-text": array((2,), "float32", "12345678"),
        "nested-extension": msgpack.ExtType(1, msgpack.packb(array((2,), "float32", eight))),
        "no-triple": msgpack.ExtType(1, msgpack.packb((1, 2))),
        "no-msgpack": msgpack.ExtType(1, b"\xc1"),
        "empty-extension": msgpack.ExtType(1, b""),
        "unknown-extension": array((2,), "float32", eight, code=9),
        "extension-of-a-python-object": array((2,), "float32", eight, code=127),
        "timestamp": msgpack.Timestamp(1),
        "a-number": 5, "a-text": "kernel", "nothing": None, "a-list": [1.0, 2.0],
        "a-map": {"kernel": 1}, "complex": array((), "complex64", bytes(8), code=2),
        "scalar": array((), "float32", eight[:4], code=3),
    }  # fmt: skip
    return {
        **{f"kernel-{name}": with_kernel(value) for name, value in claims.items()},
        "nested-arrays": b"\x81\xa1a" + b"\x91" * 200_000 + b"\x01",
        "nested-maps": b"\x81\xa1a" * 100_000 + b"\x01",
        "map-of-2-to-the-32": b"\xdf\xff\xff\xff\xff",
        "map-of-a-million": b"\xdf\x00\x0f\x42\x40" + b"".join(
            b"\xce" + struct.pack(">I", i) + b"\xc0" for i in range(1_000_000)),
        "array-of-2-to-the-32": b"\x81\xa1a\xdd\xff\xff\xff\xff",
        "text-of-2-to-the-32": b"\x81\xa1a\xdb\xff\xff\xff\xff",
        "bytes-of-2-to-the-32": b"\x81\xa1a\xc6\xff\xff\xff\xff",
        "extension-of-2-to-the-32": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        "keys-of-numbers": msgpack.packb({1: 2, 3: 4}),
        "keys-of-nothing": b"\x81\xc0\x01",
        "key-twice": b"\x82\xaaema_params\x80\xaaema_params\x80",
        "text-that-is-no-utf8": b"\x81\xa2\xff\xfe\x01",
        "reserved-byte": b"\x81\xa1a\xc1",
        "empty-map": b"\x80",
        "trailing-bytes": whole + b"\x00",
        "two-objects": whole + whole,
        "without-ema": writers.packed({k: v for k, v in state().items() if k != "ema_params"}),
        "ema-of-nothing": writers.packed(state(ema_params=None)),
        "ema-as-list": writers.packed(state(ema_params=[1])),
        "without-network": writers.packed(state(ema_params={"gamma": {}})),
        "network-as-number": writers.packed(state(ema_params={"score_model": 5})),
        "network-of-nothing": writers.packed(state(ema_params={"score_model": {}})),
        **{f"cut-off-{i:02d}": whole[: max(1, len(whole) * i // 12)] for i in range(12)},
    }  # fmt: skip


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file as ``ckpt-1.flax`` of a folder of its own."""
    made = []
    for name, content in attacks().items():
        place = folder / name
        place.mkdir(parents=True)
        (place / "ckpt-1.flax").write_bytes(content)
        made.append(Case(f"msgpacks/{name}", place / "ckpt-1.flax", "expert", REFUSED))
    return made
