"""The fence round an expert: the same settings of torch, whatever the caller or another expert has set.

Inside there is no autocast, float32 is computed in full (no TF32, no bfloat16), nothing is autotuned, the
default dtype is float32, there is no default device and no inference mode, and gradients are as asked. Behind
it the caller's settings are back, also after an exception. An expert may use all of these in its own forward.
Where another precision is asked for (`arithmetic.in_precision`), an expert is called in that, and nothing
else is.

What an expert raises, in its forward or its backward pass, is an `ExpertError`. Memory that ran out, Ctrl-C
and what a signal's handler raised meanwhile are not the expert's, and come out unchanged.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack, _len_torch_function_stack, _pop_mode, _push_mode  # type: ignore[attr-defined]

from merged_diffusion.errors import ExpertError, MergedDiffusionError
from merged_diffusion.experts.arithmetic import (
    HALF,
    IN_FULL_ALL,
    float32_switches,
    layers,
    precision_here,
    products,
    set_float32_switches,
)
from merged_diffusion.experts.base import Expert, like_input
from merged_diffusion.experts.cures import cure
from merged_diffusion.experts.memory import Rows, is_out_of_memory

BACKWARD_HINT: Final = (
    "its gradient is taken by torch.autograd.grad: values that it needs must not be changed in place, and "
    "activation checkpointing needs use_reentrant=False"
)
UNCHANGED: Final = nullcontext()


@dataclass(frozen=True)
class Switch:
    """A setting of torch: how it is read and set, and what it is inside the fence."""

    read: Callable[[], Any]
    set: Callable[[Any], object]
    inside: Any


@contextmanager
def fenced(*, grad: bool = False) -> Iterator[None]:
    """Torch's settings inside the fence, with gradients or without; the caller's are back at the end."""
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else UNCHANGED:
        had_grad = torch.is_grad_enabled()
        before = [switch.read() for switch in SWITCHES]
        try:
            for switch, value in zip(SWITCHES, before, strict=True):
                if value is not switch.inside and value != switch.inside:
                    switch.set(switch.inside)
            if had_grad is not grad:
                torch.set_grad_enabled(grad)
            yield
        finally:
            if torch.is_grad_enabled() is not had_grad:
                torch.set_grad_enabled(had_grad)
            # Backwards, so that modes of torch's functions do not see the others being set.
            for at in reversed(range(len(before))):
                value, switch = before[at], SWITCHES[at]
                now = switch.read()
                if now is not value and now != value:
                    switch.set(value)


def ask(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None = None, *, grad: bool = False
) -> Tensor:
    """The expert's eps_hat [B, C, H, W] of z [B, C, H, W] at gamma [B]; with ``grad`` it can be `pull`ed.

    Raises
    ------
    ExpertError
        The expert raised something, or returned nothing like its input.
    """
    precision = precision_here()
    with fenced(grad=grad):
        try:
            with layers(precision, z.device, keeps=False), products(precision):
                out: object = expert(z, gamma, cond)
        except BaseException as error:
            if not is_of_expert(error):
                raise
            raise raised(expert.name, error, where=gammas(gamma)) from error
        if isinstance(out, Tensor) and precision in HALF and out.dtype == HALF[precision]:
            out = out.to(z.dtype)  # what its last layer returned
        return like_input(expert.name, out, z)


def ask_in_parts(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None = None, *, grad: bool = False
) -> Tensor:
    """`ask`, with part of the rows at a time where the memory does not suffice for all."""
    fewer = Rows(len(z), z.device)
    while True:
        with fewer.attempt() as rows:
            if rows == len(z):
                return ask(expert, z, gamma, cond, grad=grad)
            parts = [slice(first, first + rows) for first in range(0, len(z), rows)]
            with fenced(grad=grad):  # what joins the parts belongs to their graph
                return torch.cat(
                    [ask(expert, z[p], gamma[p], None if cond is None else cond[p], grad=grad) for p in parts]
                )


def pull(expert: Expert, eps_hat: Tensor, z: Tensor, v: Tensor, *, keep: bool = False) -> Tensor | None:
    """The vector-Jacobian product v^T d eps_hat/dz, like z; None where eps_hat does not depend on z.

    It is the gradient of the number sum v eps_hat, which pulls back v times 1: handed v itself, torch loads
    sympy to compare two shapes, 0.7 s of every start. ``keep`` leaves the graph for another product.

    Raises
    ------
    ExpertError
        The expert's backward pass raised something.
    """
    with fenced(grad=True):
        number = (eps_hat * v).sum()
        try:
            with products(precision_here()):  # of autocast the graph knows
                (pulled,) = torch.autograd.grad(number, z, retain_graph=keep, allow_unused=True)
        except BaseException as error:
            if not is_of_expert(error):
                raise
            raise raised(expert.name, error, where="its gradient", hint=BACKWARD_HINT) from error
    return pulled


def is_of_expert(error: BaseException) -> bool:
    """Whether what came out of an expert's code is its fault, and not the caller's, the machine's or ours."""
    if isinstance(error, MergedDiffusionError) or is_out_of_memory(error):
        return False
    return isinstance(error, (Exception, SystemExit, GeneratorExit)) and not _is_of_signal(error)


def raised(name: str, error: BaseException, *, where: str, hint: str | None = None) -> ExpertError:
    """That the expert called ``name`` raised ``error``."""
    return ExpertError(
        f"expert {name} raised {_words(error)} ({where})", hint=hint or cure(error), expert=name
    )


def gammas(gamma: Tensor) -> str:
    """The range of gamma [B], in words; a device that failed says no more."""
    try:
        return f"gamma {float(gamma.min()):.4f} to {float(gamma.max()):.4f}"
    except RuntimeError:
        return "its forward pass"


def _words(error: BaseException) -> str:
    """Type and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_of_signal(error: BaseException) -> bool:
    """Whether a handler of a signal raised it while the expert ran."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {code for handler in handlers if callable(handler) for code in _codes(handler)}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _codes(handler: Callable[..., Any]) -> Iterator[CodeType]:
    """Of a function, a method, a partial or an object that can be called."""
    inner = getattr(handler, "func", handler)
    for function in (inner, type(inner).__call__):
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


# What an expert's own autocast casts to where it names no dtype, and all types of device that have one.
CAST: Final = {"cpu": torch.bfloat16, "cuda": torch.float16, "mps": torch.float16, "xpu": torch.float16}
TYPES: Final = (*CAST, "hpu", "ipu", "maia", "mtia", "privateuseone", "xla")

Autocast = tuple[tuple[bool, ...], tuple[torch.dtype, ...]]
NO_AUTOCAST: Final[Autocast] = (False,) * len(TYPES), tuple(CAST.values())


def _autocast() -> Autocast:
    is_any = torch._C._is_any_autocast_enabled()
    enabled = tuple(map(torch.is_autocast_enabled, TYPES)) if is_any else NO_AUTOCAST[0]
    return enabled, tuple(map(torch.get_autocast_dtype, CAST))


def _set_autocast(value: Autocast) -> None:
    for kind, is_on in zip(TYPES, value[0], strict=True):
        torch.set_autocast_enabled(kind, is_on)
    for kind, dtype in zip(CAST, value[1], strict=True):
        torch.set_autocast_dtype(kind, dtype)


# Default devices are modes of torch's functions; others may cast as well.
def _modes() -> tuple[Any, ...]:
    return tuple(_get_current_function_mode_stack()) if _len_torch_function_stack() else ()  # type: ignore[no-untyped-call]


def _set_modes(modes: tuple[Any, ...]) -> None:
    for _ in range(_len_torch_function_stack()):
        _pop_mode()  # type: ignore[no-untyped-call]
    for mode in modes:
        _push_mode(mode)  # type: ignore[no-untyped-call]


def _set_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


# Modes come first: they would see the other switches being set.
SWITCHES: Final = (
    Switch(_modes, _set_modes, ()),
    Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    Switch(_autocast, _set_autocast, NO_AUTOCAST),
    Switch(float32_switches, set_float32_switches, IN_FULL_ALL),
    Switch(torch._C._get_cudnn_benchmark, _set_benchmark, False),
)
