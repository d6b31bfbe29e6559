"""Files of flax that lie about their sizes, nest without end, or hold what no checkpoint holds."""

import struct
from pathlib import Path

import msgpack
import numpy as np
from tests.checkpoints import writers
from tests.faults.case import Case
from tests.faults.states import vdm_reference

REFUSED = 4
NOTHING = writers.packed(np.zeros(0, np.uint8))


def array(shape, dtype, content, code=1):
    """An array as flax packs it, with any claims."""
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, content)))


def state(**changes):
    """An honest state with other entries at its top."""
    return writers.flax_state(vdm_reference()[1]) | changes


def network():
    """The layers of an honest state."""
    return state()["ema_params"]["score_model"]


def with_kernel(value):
    """An honest state whose first kernel is another."""
    found = state()
    found["ema_params"]["score_model"]["conv_in"]["kernel"] = value
    return writers.packed(found)


def attacks():
    eight = np.ones(2, np.float32).tobytes()
    whole = writers.packed(state())
    mean = whole.index(b"ema_params") - 1  # what the other keys hold is passed over
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
        "empty-maps-without-end": b"\x81\xa1a\x9c" + 12 * (b"\xdc\xff\xff" + b"\x80" * 0xFFFF),
        "empty-lists-in-a-million-lists": b"\x81\xa1a\x9c" + 12 * (b"\xdc\xff\xff" + b"\x90" * 0xFFFF),
        "texts-without-end": b"\x81\xa1a\x9c" + 12 * (b"\xdc\xff\xff" + b"\xa3\xc3\xa9x" * 0xFFFF),
        "fractions-without-end": b"\x81\xa1a\x9c" + 12 * (b"\xdc\xff\xff" + b"\xca\x3f\x80\0\0" * 0xFFFF),
        "empty-arrays-without-end": b"\x81\xa1a\x9c" + 12 * (b"\xdc\xff\xff" + NOTHING * 0xFFFF),
        "array-of-2-to-the-32": b"\x81\xa1a\xdd\xff\xff\xff\xff",
        "text-of-2-to-the-32": b"\x81\xa1a\xdb\xff\xff\xff\xff",
        "bytes-of-2-to-the-32": b"\x81\xa1a\xc6\xff\xff\xff\xff",
        "extension-of-2-to-the-32": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        "keys-of-numbers": msgpack.packb({1: 2, 3: 4}),
        "keys-of-nothing": b"\x81\xc0\x01",
        "key-twice": b"\x82\xaaema_params\x80\xaaema_params\x80",
        "key-twice-in-an-honest-file": b"\xdf" + struct.pack(">I", len(state()) + 1) + b"".join(
            msgpack.packb(key) + writers.packed(value)
            for key, value in [("ema_params", {}), *state().items()]),
        "keys-of-bytes": msgpack.packb({b"ema_params": {b"score_model": {}}}),
        "layers-of-bytes": writers.packed(state(ema_params={"score_model": {b"conv_in": {}}})),
        "layer-called-by-a-number-without-end": writers.packed(
            state(ema_params={"score_model": {**network(), "down.block_" + "9" * 4000: {}}})),
        "layer-called-by-another-digit": writers.packed(
            state(ema_params={"score_model": {**network(), "down.block_\u0663": {}}})),
        "layers-without-end": writers.packed(
            state(ema_params={"score_model": network() | {f"down.block_{i}": {} for i in range(50_000)}})),
        "gamma-of-bytes": writers.packed(state(ema_params={"score_model": network(), "gamma": b"w"})),
        "gamma-of-lists": writers.packed(state(ema_params={"score_model": network(), "gamma": [[], []]})),
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
        **{f"turned-bit-{at:02d}": whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :]
           for at in (1, 2, 7)},
        **{f"turned-bit-of-ema-{at - mean:02d}": whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :]
           for at in (mean, *range(mean + 10, mean + 14))},
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
