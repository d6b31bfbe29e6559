"""In which numbers layers compute: in full, with TF32's factors, or in bfloat16 under autocast.

What stands between layers, states and all that is added up stay as they are. `in_precision` says how networks
are asked behind the fence (`experts/fence.py`) until it ends; a caller's own autocast is kept off there all
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch

from merged_diffusion.errors import UsageError

FULL: Final = "float32"
HALF: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}

_asked: ContextVar[str] = ContextVar("precision of networks", default=FULL)


def check_numbers(precision: str, device: torch.device) -> None:
    """`UsageError` where the device has no such numbers."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(
            f"precision 'tf32' on {device}: those are numbers of NVIDIA's GPUs", hint="use float32, or bf16"
        )
    if precision == "float64" and device.type == "mps":
        raise UsageError("precision 'float64' on mps, which has none", hint="use float32, or --device cpu")
    if precision in HALF and device.type == "mps":
        raise UsageError(f"precision {precision!r} on mps is not offered", hint="use float32")


@contextmanager
def in_precision(precision: str) -> Iterator[None]:
    """Networks compute in ``precision`` wherever they are asked, until the end."""
    token = _asked.set(precision)
    try:
        yield
    finally:
        _asked.reset(token)


def precision_here() -> str:
    """The precision that networks are asked in."""
    return _asked.get()


def layers(precision: str, device: torch.device, *, keeps: bool = True) -> AbstractContextManager[object]:
    """Autocast, for ``bf16`` and ``fp16``; ``keeps`` the casts of weights that are trained until it ends."""
    if precision not in HALF:
        return nullcontext()
    return torch.autocast(device.type, HALF[precision], cache_enabled=keeps)


def products(precision: str) -> AbstractContextManager[object]:
    """Products of float32 as ``tf32``, where that is the precision."""
    return products_in_tf32() if precision == "tf32" else nullcontext()


# Precision of float32: torch inherits "none" from the operation to the library to all of them, and keeps two
# older switches beside, which refuse to be read where they disagree with these.
PARENTS: Final = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
LEAVES: Final = tuple((library, of) for library in ("cuda", "mkldnn") for of in ("matmul", "conv", "rnn"))
IN_FULL: Final = ("none", "ieee")

_precision_of = torch._C._get_fp32_precision_getter
_set_precision_of = torch._C._set_fp32_precision_setter


@dataclass(frozen=True)
class Float32:
    """What was set itself, of parents and leaves; and the older switches where they could be read."""

    own: tuple[str, ...] = ("none",) * (len(PARENTS) + len(LEAVES))
    matmul: str | None = "highest"
    cudnn: bool | None = False


IN_FULL_ALL: Final = Float32()


def float32_switches() -> Float32:
    """As they are; `IN_FULL_ALL` where every operation's is."""
    for library, of in LEAVES:
        if _precision_of(library, of) not in IN_FULL:
            break
    else:
        return IN_FULL_ALL
    matmul = _older(torch.get_float32_matmul_precision)
    cudnn = _older(torch._C._get_cudnn_allow_tf32)
    own = []
    for switch in (*PARENTS, *LEAVES):
        own.append(_precision_of(*switch))
        if switch in PARENTS:
            _set_precision_of(*switch, "none")  # so that what is read below is not inherited
    for switch, value in zip(PARENTS, own, strict=False):
        _set_precision_of(*switch, value)
    return Float32(tuple(own), matmul, cudnn)


def set_float32_switches(value: Float32) -> None:
    """As they were read."""
    if value.matmul is not None:
        torch.set_float32_matmul_precision(value.matmul)
    if value.cudnn is not None:
        torch.backends.cudnn.allow_tf32 = value.cudnn
    for switch, own in zip((*PARENTS, *LEAVES), value.own, strict=True):
        _set_precision_of(*switch, own)


def _older(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


@contextmanager
def products_in_tf32() -> Iterator[None]:
    """Products of float32 with factors of 10 bits on NVIDIA's GPUs; restored."""
    before = float32_switches()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        set_float32_switches(before)
