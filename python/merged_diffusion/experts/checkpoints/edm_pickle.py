"""EDM's ``network-snapshot-*.pkl``: modules pickled with the text of their classes (Karras et al. 2022).

The source is kept by nobody: an object is its class's name and its attributes, from which the card and the
state dict follow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.files import inert, pickles, tensors
from merged_diffusion.files.tensors import View

GAMMA_RANGE: Final = (-12.43, 8.764)  # 2 ln 0.002, 2 ln 80: where EDM samples, and the paper evaluates
LICENCE: Final = "CC BY-NC-SA 4.0 (non-commercial) where NVIDIA published it"
VERSIONS: Final = range(1, 7)
MAX_PARTS: Final = 20_000
MAX_DEPTH: Final = 32
# Arguments of the network that say nothing about the weights, or stand elsewhere in the card.
ELSEWHERE: Final = frozenset(("img_resolution", "in_channels", "out_channels", "label_dropout"))
# Arguments of the preconditioning that are not the network's.
OUTER: Final = frozenset(("img_channels", "use_fp16", "sigma_min", "sigma_max", "sigma_data", "model_type"))
POSITIONAL: Final = ("img_resolution", "in_channels", "out_channels")
# What SongUNet takes where its arguments do not say.
DEFAULTS: Final[Mapping[str, object]] = {
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "channel_mult_emb": 4,
    "num_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.10,
}


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
        return tensors.legacy_storage(memoryview(content), where, steps)

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


def read(content: memoryview, where: str, name: str) -> tuple[Card, dict[str, Tensor]]:
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
    card = _card(ema, where, name)
    views = dict(_views(ema, where))
    return card, tensors.tensors_of(views, len(content), where)


def _card(ema: inert.Record, where: str, name: str) -> Card:
    state = _attributes(ema, where)
    if ema.kind != "EDMPrecond":
        raise _unknown(where, "preconditioning", ema.kind, "EDMPrecond")
    network = _modules(state).get("model")
    if not isinstance(network, inert.Record) or network.kind != "SongUNet":
        kind = network.kind if isinstance(network, inert.Record) else type(network).__name__
        raise _unknown(where, "network", kind, "SongUNet in its DDPM++ form")
    arguments = _arguments(state, _attributes(network, where), where)
    size, channels = arguments.get("img_resolution"), arguments.get("in_channels")
    std = state.get("sigma_data", 0.5)
    if type(size) is not int or type(channels) is not int or not isinstance(std, int | float):
        raise CheckpointError(
            f"{where}: the network's arguments name no img_resolution and in_channels", file=where
        )
    if (
        arguments.get("out_channels") not in (None, channels)
        or not 0 < size < 1 << 16
        or not 0 < channels < 1024
    ):
        out = inert.shown(arguments.get("out_channels"))
        raise _unknown(where, "shape", f"{channels} x {size} in, {out} out", "alike")
    if not math.isfinite(std) or std <= 0:
        raise CheckpointError(f"{where}: sigma_data = {std} is not positive and finite", file=where)
    table = {key: _plain(value) for key, value in arguments.items() if key not in ELSEWHERE}
    return Card(
        name=name,
        kind="edm",
        predicts="x0",
        time="log_edm_sigma_over_4",
        input="edm",
        pixels="ends",
        levels=256,
        image_shape=(channels, size, size),
        gamma_range=GAMMA_RANGE,
        network={"architecture": "ddpmpp", **DEFAULTS, **table},
        labels=bool(table.get("label_dim", 0)),
        licence=LICENCE,
        source="EDM snapshot",
        data_std=float(std),
        precision="float32",
    )


def _arguments(outer: Mapping[str, object], inner: Mapping[str, object], where: str) -> dict[str, object]:
    """What the network was made with: its own record, else the preconditioning's, which passed it on."""
    keywords, places = inner.get("_init_kwargs"), inner.get("_init_args", ())
    if not keywords and not places:
        given = outer.get("_init_kwargs")
        keywords = {k: v for k, v in given.items() if k not in OUTER} if type(given) is dict else None
        places = tuple(outer.get(key) for key in ("img_resolution", "img_channels", "img_channels"))
    if type(keywords) is not dict or type(places) is not tuple:
        raise CheckpointError(f"{where}: a network without the arguments it was made with", file=where)
    return keywords | dict(zip(POSITIONAL, places, strict=False))


def _unknown(where: str, what: str, found: str, known: str) -> UnsupportedCheckpointError:
    return UnsupportedCheckpointError(
        f"{where}: the {what} is {found[:60]}, known: {known}",
        hint="any other network can be passed as a callable, from Python (CallableExpert)",
        file=where,
        expected=known,
        found=found[:60],
    )


def _attributes(record: inert.Record, where: str) -> dict[str, object]:
    if not isinstance(record.state, dict):
        raise CheckpointError(f"{where}: a {record.kind[:60]} without attributes", file=where)
    return record.state


def _modules(state: Mapping[str, object]) -> Mapping[str, object]:
    modules = state.get("_modules")
    return modules if isinstance(modules, dict) else {}


def _plain(value: Any) -> Any:
    """An argument as TOML's values."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value[:64] if isinstance(item, int | float | str)]
    return value if isinstance(value, int | float | str) else str(type(value).__name__)


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
    for key, module in _modules(state).items():
        if isinstance(module, inert.Record):
            yield from _views(module, where, f"{prefix}{key}.", count, depth + 1)
