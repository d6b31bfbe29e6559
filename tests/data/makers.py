"""Small files of the true formats, byte by byte, so that each can also be made wrong in one place."""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from merged_diffusion.files.tfrecords import crc32c, masked

BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def pixels(n=4, shape=(3, 32, 32), seed=0, high=256):
    return np.random.RandomState(seed).randint(high, size=(n, *shape)).astype(np.uint8)


# PNG


def chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def ihdr(width, height, bits=8, colour=2, interlace=0):
    return chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, colour, 0, 0, interlace))


def png(image, *, filters=(0,), extra=b"", colour=None, raw=None):
    """``image`` [C, H, W], uint8 or uint16; ``filters``: the rows' filters, in turn."""
    channels, height, width = image.shape
    bits = 8 * image.dtype.itemsize
    rows = image.transpose(1, 2, 0).astype(f">u{image.dtype.itemsize}").reshape(height, -1)
    if raw is None:
        raw = filtered([row.tobytes() for row in rows], filters, channels * image.dtype.itemsize)
    head = ihdr(width, height, bits, {1: 0, 3: 2}[channels] if colour is None else colour)
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def filtered(rows, filters, step):
    """PNG's differences of rows of bytes."""
    if filters == (0,):
        return b"".join(b"\0" + row for row in rows)
    above, out = bytes(len(rows[0])), b""
    for i, row in enumerate(rows):
        kind = filters[i % len(filters)]
        out += bytes([kind])
        for j, value in enumerate(row):
            a, c = (row[j - step], above[j - step]) if j >= step else (0, 0)
            b = above[j]
            p = a + b - c
            nearest = min((a, b, c), key=lambda v: abs(p - v))
            out += bytes([(value - (0, a, b, (a + b) // 2, nearest)[kind]) & 0xFF])
        above = row
    return out


# zip and npz


def zip_of(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array=None, *, header=None, content=None, version=b"\1\0"):
    """An ``.npy`` file, its header or content exchanged where given."""
    if array is not None:
        header = header or repr(np.lib.format.header_data_from_array_1_0(array))
        content = np.ascontiguousarray(array).tobytes() if content is None else content
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + (content or b"")


def edm_zip(path, images, labels=None):
    """As EDM's tool writes it."""
    names = [f"{i // 1000:05d}/img{i:08d}.png" for i in range(len(images))]
    members = dict(zip(names, map(png, images), strict=True))
    pairs = None if labels is None else [[n, int(label)] for n, label in zip(names, labels, strict=True)]
    return zip_of(path, members | {"dataset.json": json.dumps({"labels": pairs})})


# tar


def tar_header(name, size, *, kind=b"0", link=b"", magic=b"ustar\x0000", prefix=b"", size_field=None):
    field = f"{size:011o}\0".encode() if size_field is None else size_field
    head = name.encode()[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field
    head += b"00000000000\0" + b" " * 8 + kind + link.ljust(100, b"\0") + magic
    head = head.ljust(345, b"\0") + prefix.ljust(155, b"\0") + bytes(12)
    return head[:148] + f"{sum(head):06o}\0 ".encode() + head[156:]


def tar_member(name, content=b"", **header):
    return tar_header(name, len(content), **header) + content + bytes(-len(content) % 512)


def tar(members, end=bytes(1024)):
    return b"".join(tar_member(name, content) for name, content in members.items()) + end


def write_tar_gz(path, content):
    path.write_bytes(gzip.compress(content, 1, mtime=0))
    return path


# CIFAR-10


def cifar_records(n, seed):
    random = np.random.RandomState(seed)
    records = random.randint(256, size=(n, 3073)).astype(np.uint8)
    records[:, 0] = random.randint(10, size=n)
    return records


def cifar_binary(n=3):
    """Members of the binary archive with ``n`` records a batch."""
    folder = "cifar-10-batches-bin"
    batches = {f"{folder}/{name}.bin": cifar_records(n, i).tobytes() for i, name in enumerate(BATCHES)}
    return {f"{folder}/batches.meta.txt": b"airplane\nautomobile\n"} | batches


def cifar_python(n=3):
    """Members of the python archive with the same images, pickled as Python 2 did."""
    folder = "cifar-10-batches-py"
    return {f"{folder}/batches.meta": b"\x80\x02}q\x01."} | {
        f"{folder}/{name}": python2_batch(cifar_records(n, i)) for i, name in enumerate(BATCHES)
    }


def python2_batch(records):
    """A batch as cPickle of Python 2 wrote it: byte strings, and an array by numpy's own state."""
    data = records[:, 1:].tobytes()
    labels = b"".join(b"K" + bytes([label]) for label in records[:, 0])
    names = b"".join(b"U\x0ea_s_%06d.png" % i for i in range(len(records)))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bR"
        b"q\x0c(K\x01J" + struct.pack("<i", len(records)) + b"M\x00\x0c\x86q\x0d"
        b"cnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11(K\x03U\x01|q\x12NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tq\x13b\x89T" + struct.pack("<i", len(data)) + data + b"q\x14tq\x15b"
    )  # fmt: skip
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + labels + b"eU\x04dataq\x06" + array + b"U\x09filenamesq\x16]q\x17(" + names + b"eu."
    )  # fmt: skip


def python3_batch(records, protocol=4):
    """The same, written by Python 3 and this numpy."""
    return pickle.dumps(
        {b"labels": [int(label) for label in records[:, 0]], b"data": records[:, 1:].copy()},
        protocol=protocol,
    )


# ImageNet32


def imagenet_batch(path, images, labels):
    """An npz batch of the box-filter release; its labels count from 1."""
    rows = images.reshape(len(images), -1)
    np.savez(path, data=rows, labels=np.asarray(labels), mean=rows.mean(0))
    return path


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def field(number, content):
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(key, value):
    """An entry of the map of features; ``value``: the content of its Feature."""
    return field(1, field(1, key) + field(2, value))


def example(image, label=None):
    """A ``tf.train.Example`` with an image and perhaps a label."""
    features = feature(b"image", field(1, field(1, image)))
    if label is not None:
        features += feature(b"label", field(3, field(1, varint(label))))
    return field(1, features)


def record(content, length=None, length_crc=None, crc=None):
    """A TFRecord, its parts exchanged where given."""
    head = struct.pack("<Q", len(content) if length is None else length)
    length_crc = masked(crc32c(head)) if length_crc is None else length_crc
    crc = masked(crc32c(content)) if crc is None else crc
    return head + struct.pack("<I", length_crc) + content + struct.pack("<I", crc)


def write_folder(folder, files):
    for name, content in files.items():
        place = Path(folder) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return Path(folder)


def saved(array):
    """What ``numpy.save`` writes."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
