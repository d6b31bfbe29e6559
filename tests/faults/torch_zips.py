"""Zips in the place of torch's: with another pickle in them, other members, or tensors that lie."""

import io
import pickle
import stat
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import yaml
from tests.checkpoints import writers
from tests.faults.case import Case
from tests.faults.pickles import Run, doubled, imported, text
from tests.faults.states import vdm_reference

REFUSED = 4


def honest_zip(**options):
    """Members of an honest model.pt."""
    stream = io.BytesIO()
    torch.save(writers.addtt_state(*vdm_reference(), **options), stream)
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def member(members, tensor):
    """The name of what holds a tensor."""
    return next(name for name, content in members.items() if content == tensor.numpy().tobytes())


def zipped(members, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice, on purpose
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return stream.getvalue()


def storage(numel=4, key="0", kind="FloatStorage"):
    """A storage as a persistent id names it, in opcodes."""
    return (
        b"(" + text("storage") + imported("torch", kind) + text(key) + text("cpu")
        + b"\x8a\x08" + numel.to_bytes(8, "little", signed=True) + b"tQ"
    )  # fmt: skip


def integers(*values):
    return b"(" + b"".join(b"\x8a\x09" + v.to_bytes(9, "little", signed=True) for v in values) + b"t"


def tensor(offset=0, shape=(2, 2), strides=(2, 1), **of):
    """A tensor with any claims, in opcodes."""
    return (
        imported("torch._utils", "_rebuild_tensor_v2") + b"(" + storage(**of) + b"\x8a\x09"
        + offset.to_bytes(9, "little", signed=True) + integers(*shape) + integers(*strides) + b"\x89"
        + imported("collections", "OrderedDict") + b")Rt" + b"R"
    )  # fmt: skip


def state_of(value):
    """The pickle of a state whose EMA has one tensor, given in opcodes."""
    return b"\x80\x04}" + text("ema") + b"}" + text("ema_model.model.conv_in.bias") + value + b"ss."


def attacks(canary):
    whole = honest_zip()
    root = next(iter(whole)).split("/")[0]
    first = member(whole, vdm_reference()[1]["model.conv_in.weight"])
    numbers = {f"{root}/data/0": torch.ones(4).numpy().tobytes()}

    def with_pickle(content):
        return zipped(whole | {f"{root}/data.pkl": content})

    def with_tensor(value, **members):
        return zipped({f"{root}/data.pkl": state_of(value)} | numbers | members)

    source = f"open({str(canary)!r}, 'w')"
    evil = pickle.dumps({"ema": Run(exec, source)}, 2)
    claims = {
        "shape-too-large": tensor(shape=(1 << 40, 1), strides=(1, 1)),
        "shape-whose-product-wraps": tensor(shape=(1 << 32, 1 << 32), strides=(0, 0)),
        "shape-negative": tensor(shape=(-2, -2)),
        "strides-of-zero-blow-up": tensor(shape=(1 << 20, 1 << 20), strides=(0, 0)),
        "strides-behind-the-end": tensor(strides=(100, 1)),
        "strides-negative": tensor(offset=3, strides=(-2, -1)),
        "strides-too-few": tensor(strides=(1,)),
        "offset-behind-the-end": tensor(offset=3),
        "offset-negative": tensor(offset=-1),
        "offset-of-2-to-the-62": tensor(offset=1 << 62),
        "axes-without-end": tensor(shape=(1,) * 200, strides=(1,) * 200),
        "storage-larger-than-its-member": tensor(numel=1 << 40, shape=(1 << 39, 2)),
        "storage-smaller-than-its-member": tensor(numel=3, shape=(3,), strides=(1,)),
        "storage-negative": tensor(numel=-4),
        "storage-that-is-not-there": tensor(key="7"),
        "storage-outside": tensor(key="../../../etc/passwd"),
        "storage-of-objects": tensor(kind="ObjectStorage"),
        "storage-of-quantised-numbers": tensor(kind="QUInt8Storage"),
        "storage-id-of-a-text": imported("torch._utils", "_rebuild_tensor_v2") + b"(" + text("x") + b"Q"
        + b"K\x00" + integers(1) + integers(1) + b"\x89NtR",
        "storage-id-of-a-bomb": doubled(60) + b"Q",
        "a-text": text("tensor"), "nothing": b"N", "a-bomb": doubled(100),
    }  # fmt: skip
    bomb = zipfile.ZIP_DEFLATED
    return {
        **{f"tensor-{name}": with_tensor(value) for name, value in claims.items()},
        "exec": with_pickle(evil),
        "exec-in-a-tensor": with_tensor(imported("builtins", "exec") + text(source) + b"\x85R"),
        "second-pickle": zipped([*whole.items(), (f"{root}/data.pkl", evil)]),
        "pickle-in-two-folders": zipped([*whole.items(), ("other/data.pkl", evil)]),
        "no-pickle": zipped({k: v for k, v in whole.items() if not k.endswith("data.pkl")}),
        "empty-zip": zipped({}),
        "empty-pickle": with_pickle(b""),
        "pickle-of-nothing": with_pickle(b"\x80\x02N."),
        "ema-of-a-bomb": with_pickle(b"\x80\x04}" + text("ema") + doubled(100) + b"s."),
        "keys-of-a-bomb": with_pickle(b"\x80\x04}" + text("ema") + b"}" + doubled(60) + b"Nss."),
        "big-endian": zipped(whole | {f"{root}/byteorder": b"big"}),
        "bomb": zipped(whole | {f"{root}/data/0": bytes(1 << 28)}, bomb),
        "pickle-bomb": zipped(whole | {f"{root}/data.pkl": b"\x80\x04" + b"N" * (1 << 27)}, bomb),
        "storage-bomb-under-the-ratio": zipped(whole | {first: packable(1 << 28)}, bomb),
        "storage-bomb-declared-as-it-is": zipped(
            {f"{root}/data.pkl": state_of(tensor(numel=1 << 26, shape=(1,), strides=(1,))),
             f"{root}/data/0": packable(1 << 28)}, bomb),
        "start-of-a-storage-bomb": beside("embed_conditioning.0.weight", "initted"),
        "step-of-a-storage-bomb": beside("downs.0.0.block1.proj.weight", "step"),
        "byteorder-bomb": zipped(whole | {f"{root}/byteorder": packable(1 << 28)}, bomb),
        "pickle-of-64-megabytes": zipped(whole | {f"{root}/data.pkl": b"\x80\x04" + packable(1 << 25)}, bomb),
        "storages-made-again": hungry(root),
        "storage-in-two-ways": with_pickle(b"\x80\x04}" + text("ema") + b"}(" + text("ema_model.model.a")
            + tensor() + text("ema_model.model.b") + tensor(kind="IntStorage") + b"us."),
        "ids-read-again": with_pickle(b"\x80\x04](" + storage()[:-1] + b"\x94" + b"h\x00Q" * 99_000 + b"e."),
        "byteorder-without-letters": zipped(whole | {f"{root}/byteorder": b""}),
        "link": linked(whole, first, str(canary)),
        "device": linked(whole, first, "", stat.S_IFCHR),
        "bzip2": zipped(whole, zipfile.ZIP_BZIP2),
        "lzma": zipped(whole, zipfile.ZIP_LZMA),
        **{name: entry_with(zipped(whole), *change) for name, change in ENTRIES.items()},
        "members-of-the-same-bytes": overlapping(zipped(whole)),
        "directory-of-zeros": zipped(whole)[:-22 - 60] + bytes(60) + zipped(whole)[-22:],
        "zip-before-text": zipped(whole) + b"x" * 70_000,
        "drive-name": zipped(whole | {"C:/x": b"x"}),
        "name-of-nul": zipped(whole | {"a?b": b"x"}).replace(b"a?b", b"a\0b"),
        "root-that-is-empty": zipped({k.replace(root, "", 1): v for k, v in whole.items()}),
        "no-root": zipped({k.replace(root + "/", "", 1): v for k, v in whole.items()}),
        "storage-missing": zipped({k: v for k, v in whole.items() if k != first}),
        "absolute-name": zipped(whole | {"/etc/passwd": b"x"}),
        "name-that-climbs": zipped(whole | {f"{root}/../../x": b"x"}),
        "flood": zipped({**whole, **{f"{root}/x{i}": b"" for i in range(30_000)}}),
        "torchscript": zipped(
            whole | {f"{root}/code/__torch__.py": b"import os", f"{root}/data.pkl": evil}
        ),
        **{f"cut-off-{i:02d}": zipped(whole)[: 4 + len(zipped(whole)) * i // 12] for i in range(11)},
        "before-zips": legacy(),
        "raw-weights": saved({"step": 1, "model": vdm_reference()[1]}),
        "a-state-alone": saved(OrderedDict(vdm_reference()[1])),
        "a-tensor": saved(torch.ones(3)),
        "ema-of-numbers": saved({"ema": {"ema_model.model.conv_in.bias": 3}}),
    }  # fmt: skip


# Bytes of a directory's entry: where, what.
ENTRIES = {
    "encrypted": (8, "<H", 1),
    "unknown-method": (10, "<H", 99),
    "wrong-checksum": (16, "<I", 17),
    "packed-beyond-the-file": (20, "<I", 1 << 30),
    "declares-less": (24, "<I", 10),
    "declares-more": (24, "<I", 1 << 20),
    "declares-gigabytes": (24, "<I", 0xFFFFFFF0),
    "offset-beyond-the-file": (42, "<I", 1 << 30),
    "offset-into-another": (42, "<I", 900),
}


def entry_with(content, at, form, value):
    """The first entry of the directory with other bytes at an offset."""
    at += content.index(b"PK\1\2")
    changed = struct.pack(form, value)
    return content[:at] + changed + content[at + len(changed) :]


def overlapping(content):
    """The last entry of the directory begins where the first does."""
    at = content.rindex(b"PK\1\2") + 42
    return content[:at] + bytes(4) + content[at + 4 :]


def linked(members, name, target, mode=stat.S_IFLNK):
    """A zip in which one member is a link."""
    stream = io.BytesIO(zipped({k: v for k, v in members.items() if k != name}))
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(entry, target)
    return stream.getvalue()


def packable(size):
    """Bytes that deflate to a hundredth: below the ratio of bombs."""
    return (np.random.RandomState(0).bytes(size // 128) + bytes(size // 128 * 127))[:size]


def hungry(root):
    """A storage of 4 MB, named anew for each of 400 tensors that take one number of it."""
    views = b"".join(
        text(f"ema_model.model.a{i}") + tensor(numel=1 << 20, shape=(1,), strides=(1,), key=str(i % 2))
        for i in range(400)
    )
    state = b"\x80\x04}" + text("ema") + b"}(" + views + b"us."
    whole = {f"{root}/data.pkl": state} | {f"{root}/data/{i}": bytes(1 << 22) for i in range(2)}
    return zipped(whole)


def beside(weight, key):
    """A running mean with a weight that tells the family, and one number of a storage that was compressed."""
    number = tensor(numel=1 << 26, shape=(1,), strides=(1,), key="1")
    views = text(f"ema_model.model.{weight}") + tensor() + text(key) + number
    state = b"\x80\x02}" + text("ema") + b"}(" + views + b"us."
    members = {"a/data.pkl": state, "a/data/0": bytes(16), "a/data/1": packable(1 << 28)}
    return zipped(members, zipfile.ZIP_DEFLATED)


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def legacy():
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every file as ``model.pt`` beside a sound ``config.yaml``."""
    config, _ = vdm_reference()
    stated = {k: v for k, v in config.items() if k not in ("resolution", "vocab_size", "fourier_exponents")}
    made = []
    for name, content in attacks(canary).items():
        place = folder / name
        place.mkdir(parents=True)
        (place / "config.yaml").write_text(yaml.safe_dump(stated))
        (place / "model.pt").write_bytes(content)
        made.append(Case(f"torch_zips/{name}", place / "model.pt", "expert", REFUSED))
    return made
