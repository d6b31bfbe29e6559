"""Zips in the place of torch's: with another pickle in them, other members, or tensors that lie."""

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

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
