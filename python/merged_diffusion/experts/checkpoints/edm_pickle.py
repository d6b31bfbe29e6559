"""Snapshots of EDM and EDM2, ``network-snapshot-*.pkl``: modules pickled with the text of their classes.

The source is kept by nobody: an object is its class's name and its attributes, from which the card and the
state dict follow (`edm_cards`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, check_interval
from merged_diffusion.experts.checkpoints import edm_cards
from merged_diffusion.experts.checkpoints.module_records import modules
from merged_diffusion.experts.checkpoints.read_as import ReadAs
from merged_diffusion.files import inert, pickles, tensors
from merged_diffusion.files.tensors import View
from merged_diffusion.files.torch_legacy import read_legacy

VERSIONS: Final = range(1, 7)
MAX_PARTS: Final = 20_000
MAX_DEPTH: Final = 32


def _persistent(meta: Any) -> inert.Record:
    """What ``_reconstruct_persistent_obj`` stands for."""
    if type(meta) is not dict or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise TypeError("a persistent object that is no class")
    if meta.get("version") not in VERSIONS or not isinstance(meta.get("state"), dict):
        raise ValueError(f"a persistent object of version {inert.shown(meta.get('version'))}")
    return inert.Record(meta["class_name"], state=meta["state"])


def _scalar(dtype: Any, content: Any) -> float:
    """What ``numpy.core.multiarray.scalar`` stands for."""
    name = dtype.arguments[0] if isinstance(dtype, inert.Record) and dtype.arguments else None
    kind = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}.get(
        name if isinstance(name, str) else ""
    )
    if kind is None:
        raise ValueError(f"a number of type {inert.shown(name)}")
    value: float = struct.unpack(kind, bytes(content))[0]
    return value


def _record(kind: str) -> inert.Builder:
    def build(*arguments: Any) -> inert.Record:
        return inert.Record(kind, arguments)

    return build


def _dict(*pairs: Any) -> dict[Any, Any]:
    return inert.ordered_dict(*pairs)


def _globals(where: str, size: int, steps: inert.Steps) -> dict[inert.Global, inert.Builder]:
    def storage(content: Any) -> tensors.Storage:
        held = read_legacy(memoryview(content), where, steps)
        if not isinstance(held, tensors.Storage):
            raise CheckpointError(f"{where}: not exactly one storage where one was pickled", file=where)
        return held

    scalar: dict[inert.Global, inert.Builder] = {
        (f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")
    }
    return {
        **tensors.GLOBALS,
        **scalar,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
        ("torch.storage", "_load_from_bytes"): storage,
        ("torch.nn.modules.container", "ModuleDict"): _record("ModuleDict"),
        ("numpy", "dtype"): _record("dtype"),
        ("builtins", "set"): inert.plain_set,
        ("__builtin__", "set"): inert.plain_set,
        ("_codecs", "encode"): inert.latin1(size),
        ("dnnlib.util", "EasyDict"): _dict,
        ("torch", "Size"): _record("Size"),
        ("torch", "device"): _record("device"),
        ("torch", "float32"): _record("float32"),
    }


def read(
    content: memoryview, where: str, name: str, said: ReadAs | None = None
) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of the EMA network in a snapshot."""
    steps = inert.Steps()
    top = pickles.read(content, _globals(where, len(content), steps), where, steps=steps).value
    if not isinstance(top, dict) or not isinstance(top.get("ema"), inert.Record):
        found = sorted(map(str, top))[:8] if isinstance(top, dict) else type(top).__name__
        raise UnsupportedCheckpointError(
            f"{where}: holds {found}, but no network called ema",
            hint="a snapshot of EDM's training holds ema, loss_fn, augment_pipe, dataset_kwargs",
            file=where,
        )
    ema: inert.Record = top["ema"]
    held = tensors.tensors_of(dict(_views(ema, where)), len(content), where)
    card, state = edm_cards.read(ema, held, said, where, name)
    check_interval(*card.gamma_range, where)
    return card, state


def _count(count: list[int], depth: int, where: str) -> None:
    count[0] += 1
    if count[0] > MAX_PARTS or depth > MAX_DEPTH:
        raise UnsafeFileError(
            f"{where}: more than {MAX_PARTS} modules and tensors, or nested deeper than {MAX_DEPTH}",
            file=where,
        )


def _views(
    record: inert.Record, where: str, prefix: str = "", count: list[int] | None = None, depth: int = 0
) -> Iterator[tuple[str, View]]:
    """Parameters and buffers under their dotted names."""
    count = [0] if count is None else count
    _count(count, depth, where)
    state = record.state if isinstance(record.state, dict) else {}
    skipped = state.get("_non_persistent_buffers_set")
    skipped = skipped if isinstance(skipped, set | frozenset) else set()
    for group in ("_parameters", "_buffers"):
        values = state.get(group)
        for key, value in (values if isinstance(values, dict) else {}).items():
            if isinstance(value, View) and not (group == "_buffers" and key in skipped):
                _count(count, depth, where)
                yield f"{prefix}{key}", value
    for key, module in modules(state).items():
        if isinstance(module, inert.Record):
            yield from _views(module, where, f"{prefix}{key}.", count, depth + 1)
