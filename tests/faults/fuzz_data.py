"""Zip, tar and TFRecord readers under mutations: they return images or refuse, quickly and within memory.

MERGED_DIFFUSION_FUZZ_SECONDS=600 python -m pytest -m slow tests/faults/fuzz_data.py
"""

import gzip
import io
import os
import time
import tracemalloc
import zipfile
from itertools import count

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.data.makers import (
    cifar_binary,
    cifar_python,
    cifar_records,
    example,
    pixels,
    png,
    python3_batch,
    record,
    saved,
    tar,
    tar_member,
    zip_of,
)

from merged_diffusion.data import load_data
from merged_diffusion.errors import MergedDiffusionError

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("MERGED_DIFFUSION_FUZZ_SECONDS", "20"))
SLOWEST, MEMORY = 2.0, 256 << 20
IMAGES = pixels(3, (3, 8, 8))


def zipped(members, method):
    stream = io.BytesIO()
    return zip_of(stream, members, method) and stream.getvalue()


TEST, BATCH = "test_batch", python3_batch(cifar_records(1, 0))
PNGS = {f"{i}.png": png(image) for i, image in enumerate(IMAGES)}
SEEDS = {
    "zip": ("a.zip", [zipped(PNGS, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]),
    "npz": (
        "a.npz",
        [zipped({"images.npy": saved(IMAGES)}, m) for m in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)],
    ),
    "tar": (
        "a.tar",
        [tar(cifar_binary(1)), tar_member("x", b"12 path=a.b\n", kind=b"x") + tar(cifar_binary(1))],
    ),
    "batch": ("a.tar", [tar(cifar_python(1)), tar({f"cifar-10-batches-py/{TEST}": BATCH})]),
    "gzip": ("a.tar.gz", [gzip.compress(tar(cifar_binary(1)), mtime=0)]),
    "tfrecord": ("a.tfrecord", [b"".join(record(example(png(x), 3)) for x in pixels(2))]),
    "example": ("a.tfrecord", [example(png(pixels(1)[0]), 3)]),
}
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]


@st.composite
def mutations(draw, content):
    """Some bytes set, cut out, repeated or inserted, mostly near the ends, where headers lie."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        size = max(len(changed), 1)
        near = st.integers(0, min(600, size - 1))
        at = draw(st.one_of(near, near.map(lambda n, s=size: s - 1 - n), st.integers(0, size - 1)))
        kind = draw(st.sampled_from(("set", "flip", "word", "cut", "repeat", "insert", "truncate")))
        if kind == "set":
            changed[at : at + 1] = bytes([draw(st.sampled_from(INTERESTING))])
        elif kind == "flip":
            changed[at : at + 1] = bytes([b ^ (1 << draw(st.integers(0, 7))) for b in changed[at : at + 1]])
        elif kind == "word":
            number = draw(st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 30)))
            changed[at : at + 4] = number.to_bytes(4, "little")
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 200))]
        elif kind == "repeat":
            piece = changed[at : at + draw(st.integers(1, 600))]
            changed[at:at] = piece * draw(st.integers(1, 50))
        elif kind == "insert":
            changed[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("name", SEEDS)
def test_reader_survives(name, tmp_path):
    file, contents = SEEDS[name]
    path, outcomes, slowest = tmp_path / file, {}, 0.0

    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(contents).flatmap(mutations))
    def attempt(content):
        nonlocal slowest
        # The message is wrapped anew: a mutation of a record would only ever meet its checksum.
        path.write_bytes(record(content) if name == "example" else content)
        begun = time.perf_counter()
        try:
            load_data(path, variant="old" if file.endswith("tfrecord") else None)
            outcome = "read"
        except MergedDiffusionError as error:
            outcome = type(error).__name__
        slowest = max(slowest, time.perf_counter() - begun)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    tracemalloc.start()
    end = time.monotonic() + SECONDS
    try:
        for number in count():
            seed(number)(attempt)()
            if time.monotonic() > end:
                break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(
        f"{name}: {sum(outcomes.values())} files {outcomes}, slowest {slowest:.2f} s, peak {peak >> 20} MiB"
    )
    assert slowest < SLOWEST
    assert peak < MEMORY
