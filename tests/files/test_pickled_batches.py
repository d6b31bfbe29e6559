"""Pickled batches are walked, not run: what they may hold, and what is refused with its offset."""

import os
import pickle
import struct

import numpy as np
import pytest
from tests.data.makers import cifar_records, python2_batch

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files import inert
from merged_diffusion.files.pickled_batches import read_pickled_batch

RECORDS = cifar_records(3, 0)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_orders_and_protocols(order, protocol):
    rows = np.asarray(RECORDS[:, 1:], order=order)
    content = pickle.dumps({"data": rows, "labels": RECORDS[:, 0].tolist()}, protocol=protocol)
    batch = read_pickled_batch(content, "batch")
    assert np.array_equal(batch.pixels, RECORDS[:, 1:])
    assert np.array_equal(batch.labels, RECORDS[:, 0])


def test_batch_of_python_2():
    assert np.array_equal(read_pickled_batch(python2_batch(RECORDS), "batch").pixels, RECORDS[:, 1:])


class Touch:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_call_is_refused_and_not_run(tmp_path, protocol):
    content = pickle.dumps({"data": Touch(tmp_path / "canary"), "labels": []}, protocol=protocol)
    with pytest.raises(UnsafeFileError, match=r"the global (posix|nt)\.system at offset \d+"):
        read_pickled_batch(content, "batch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"cbuiltins\neval\n.", "the global builtins.eval"),
        (b"(ios\nsystem\n.", "the opcode INST"),
        (b"\x82\x01.", "the opcode EXT1"),
        (b"Pid\n.", "the opcode PERSID"),
        (b"NQ.", "a persistent id"),
        (b"(o.", "the opcode OBJ"),
        (b"N)\x81.", "a call of a NoneType"),
        (b"\x92.", "the opcode NEWOBJ_EX"),
        (b"\x8b\x01\x00\x00\x00\x01.", "the opcode LONG4"),
        (b"\x97.", "the opcode NEXT_BUFFER"),
        (b"N2.", "the opcode DUP"),
    ],
)
def test_opcodes_and_names_that_have_no_place(content, what):
    with pytest.raises(UnsafeFileError, match=what):
        read_pickled_batch(b"\x80\x02" + content, "batch")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b".",
        b"\x80\x02e.",
        b"\x80\x02h\x07.",
        b"\x80\x02NR.",
        b"\x80\x02Nb.",
        b"\x80\x02](Ne",
        b"\x80\x02}(Nu.",
        b"\x80\x02}(NNu.",
        b"\x80\x02N(NNu.",
        b"\xff" * 20,
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00utf-7tR.",
    ],
)
def test_unsound_pickles(content):
    with pytest.raises(DataIntegrityError, match="batch"):
        read_pickled_batch(content, "batch")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"U\x02u1", b"U\x02i1"),
        (b"U\x02u1", b"U\x02O8"),
        (b"M\x00\x0c", b"M\x01\x0c"),
        (b"K\x02K", b"K\x02N"),
        (b"U\x04data", b"U\x04dato"),
        (b"U\x06labels", b"U\x06labelz"),
        (b"J\x03\x00", b"J\x04\x00"),
    ],
)
def test_batches_of_another_layout(old, new):
    content = python2_batch(RECORDS)
    assert old in content
    with pytest.raises(DataIntegrityError, match="batch"):
        read_pickled_batch(content.replace(old, new), "batch")


def test_pixels_as_text_that_is_no_bytes():
    """Python 2's byte strings are read as Latin-1; this text has other characters."""
    content, greek = python2_batch(RECORDS), "Δ".encode() * (RECORDS[:, 1:].size // 2)
    begin = content.index(b"T" + struct.pack("<I", len(greek)))
    text = content[:begin] + b"X" + content[begin + 1 : begin + 5] + greek
    with pytest.raises(DataIntegrityError, match="data, uint8"):
        read_pickled_batch(text + content[begin + 5 + len(greek) :], "batch")


def test_opcodes_over_the_limit():
    with pytest.raises(UnsafeFileError, match=f"more than {inert.MAX_STEPS} opcodes"):
        read_pickled_batch(b"\x80\x04N" + b"\x94" * inert.MAX_STEPS + b".", "batch")


def test_text_encoded_again_and_again():
    text = b"X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x01X\x06\x00\x00\x00latin1q\x020"
    again = b"c_codecs\nencode\nh\x01h\x02\x86R0" * 50
    with pytest.raises(UnsafeFileError, match="opcode POP"):
        read_pickled_batch(b"\x80\x02" + text + again + b"N.", "batch")
    with pytest.raises(UnsafeFileError, match="bytes that the file holds"):
        read_pickled_batch(b"\x80\x02" + text[:-1] + again.replace(b"R0", b"R") + b"N.", "batch")
