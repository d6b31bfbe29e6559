"""Zip, tar and TFRecord readers under mutations: they return images or refuse, quickly and within memory.

MERGED_DIFFUSION_FUZZ_SECONDS=600 python -m pytest -m slow tests/faults/fuzz_data.py
"""

import gzip
import io
import zipfile

import pytest
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
from tests.faults.fuzz import survive

from merged_diffusion.data import load_data

pytestmark = pytest.mark.slow
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


@pytest.mark.parametrize("name", SEEDS)
def test_reader_survives(name, tmp_path):
    file, contents = SEEDS[name]
    path = tmp_path / file

    def read(content):
        # The message is wrapped anew: a mutation of a record would only ever meet its checksum.
        path.write_bytes(record(content) if name == "example" else content)
        load_data(path, variant="old" if file.endswith("tfrecord") else None)

    survive(name, contents, read)
