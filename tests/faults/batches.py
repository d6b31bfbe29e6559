"""Python batches of CIFAR-10 that would run something, build too much, or are no batches."""

import os
import pickle
from pathlib import Path

from tests.data.makers import (
    cifar_python,
    cifar_records,
    python2_batch,
    python3_batch,
    tar,
    write_folder,
    write_tar_gz,
)
from tests.faults.case import Case

REFUSED, UNSAFE = 3, 4
RECORDS = cifar_records(2, 0)


class Touch:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def cases(folder: Path, canary: Path) -> list[Case]:
    """Each batch in torchvision's folder; some in the archive."""
    made = []
    for name, (content, code) in batches(canary).items():
        made.append((f"batches/{name}", write_folder(folder / name, {"test_batch": content}), code))
    hostile = cifar_python(2) | {"cifar-10-batches-py/test_batch": pickle.dumps(Touch(canary))}
    other = cifar_python(2) | {"cifar-10-batches-py/data_batch_1": pickle.dumps(Touch(canary))}
    made.append(("batches/in-the-archive", write_tar_gz(folder / "hostile.tar.gz", tar(hostile)), UNSAFE))
    made.append(("batches/of-the-other-split", write_tar_gz(folder / "other.tar.gz", tar(other)), 0))
    made.append(("batches/archive", write_tar_gz(folder / "honest.tar.gz", tar(cifar_python(2))), 0))
    return [Case(name, path, "data", code) for name, path, code in made]


def batches(canary):
    touch = f"touch {canary}".encode()
    whole = python2_batch(RECORDS)
    calls = {
        f"reduce-{protocol}": pickle.dumps({b"data": Touch(canary), b"labels": []}, protocol=protocol)
        for protocol in range(6)
    } | {
        "inst": b"(S'" + touch + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + touch + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\nU\x01a\x85\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02U\x01aQ.",
        "buffer": b"\x80\x05\x97.",
        "getattr": b"cbuiltins\ngetattr\n.",
        "numpy-load": b"cnumpy\nload\n.",
        "nested": b"c_pickle\nloads\n.",
        "long-integer": b"\x80\x02\x8b\x01\x00\x00\x00a.",
        "behind-a-batch": whole[:-1] + b"0cos\nsystem\nU\x01a\x85R.",
        "lists-in-lists": b"\x80\x02" + b"]" * 600_000 + b".",
    }
    broken = {
        "truncated": whole[:-500],
        "no-stop": whole[:-1],
        "text": b"not a pickle",
        "empty": b"",
        "int64": python3_batch(RECORDS.astype("int64")),
        "too-few-columns": python3_batch(RECORDS[:, :-1]),
        "size-of-gigabytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
        "label-255": python3_batch(RECORDS | 0xFF),
        "more-rows-than-bytes": whole.replace(b"J\x02\x00\x00\x00M", b"J\xff\xff\xff\x7fM"),
    }
    honest = {"python-2": whole} | {f"protocol-{n}": python3_batch(RECORDS, n) for n in (2, 3, 4, 5)}
    return (
        {name: (content, UNSAFE) for name, content in calls.items()}
        | {name: (content, REFUSED) for name, content in broken.items()}
        | {name: (content, 0) for name, content in honest.items()}
    )
