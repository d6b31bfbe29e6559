"""Devices by name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; and how many threads work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from merged_diffusion import _core
from merged_diffusion.errors import UsageError

NO_DRIVER = "Found no NVIDIA driver"  # torch's words where there is no GPU


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
