"""Devices by name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; and how many threads work.

A forked process has the thread alone that forked it. The core makes new threads there; GNU's OpenMP, by which
torch computes on Linux, would wait for ever for those that are not there. So they end before each fork by
Python, and parent and child begin new ones, as many, when they compute again.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

import torch

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

NO_DRIVER = "Found no NVIDIA driver"  # torch's words where there is no GPU
PAUSE: Final = "omp_pause_resource_all"  # OpenMP 5.0, section 3.2.44
SOFT: Final = 1  # omp_pause_soft: what threads keep for themselves is kept


def resolve_device(name: str) -> tuple[str, str | None]:
    """The device for ``auto`` or a name, and torch's reason where ``auto`` could not take cuda.

    That a machine has no GPU is no reason worth telling.
    """
    if name == "auto":
        try:
            torch.zeros(1, device="cuda")
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            return "cpu", None if NO_DRIVER in reason else reason
        return "cuda", None
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"device {name!r} is not usable here: {str(error).splitlines()[0]}",
            hint="use cpu; a run that was begun elsewhere goes on with --device cpu --allow-rebatch",
        ) from error
    return name, None


@contextmanager
def on_threads(number: int | None) -> Iterator[None]:
    """Torch and the core on as many threads, restored at the end; None leaves them as they are."""
    before = torch.get_num_threads(), _core.threads()
    if number is None or before == (number, number):
        yield
        return
    _set_threads(number, number)
    try:
        yield
    finally:
        _set_threads(*before)


def _set_threads(of_torch: int, of_core: int) -> None:
    torch.set_num_threads(of_torch)
    _core.set_threads(of_core)


@cache
def _pause() -> Callable[[int], int] | None:
    """What ends the calling thread's OpenMP threads; nothing where torch's runtime is older than that."""
    try:
        pause: Callable[[int], int] = getattr(ctypes.CDLL(torch._C.__file__), PAUSE)
    except (OSError, AttributeError):
        return None
    return pause


def _end_threads() -> None:
    if pause := _pause():
        pause(SOFT)


if sys.platform == "linux":  # elsewhere torch has LLVM's OpenMP, which looks after its forks
    os.register_at_fork(before=_end_threads)
