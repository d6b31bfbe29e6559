"""Where the arithmetic runs: device, threads and torch's global switches.

Only the command line calls `configured`: a library does not change its host's switches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.experts.fence import fenced
from merged_diffusion.ode.devices import resolve_device

MOST_THREADS: Final = 1024  # a run of a larger machine goes on here with its own number

__all__ = ["all_cores", "configured", "resolve_device"]

OFF, WARN, ERROR = 0, 1, 2  # torch.get_deterministic_debug_mode


def all_cores() -> int:
    """Cores this process may use (its affinity); OMP_NUM_THREADS is not asked."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def configured(*, threads: int, deterministic: bool) -> Iterator[None]:
    """Threads of torch and the core, determinism, and the fence's settings; restored at the end.

    An expert is looked at once inside.
    """
    torch_threads, core_threads = torch.get_num_threads(), _core.threads()
    determinism = torch.get_deterministic_debug_mode()
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS asks for it, before its first call
    _set_determinism(ERROR if deterministic else OFF)
    _set_threads(threads, threads)
    try:
        with fenced(grad=torch.is_grad_enabled()), checked_once():
            yield
    finally:
        _set_determinism(determinism)
        _set_threads(torch_threads, core_threads)


def _set_determinism(mode: int) -> None:
    # `use_deterministic_algorithms` loads torch's compiler to tell it too, 3 s: only where something changes.
    if torch.get_deterministic_debug_mode() != mode:
        torch.use_deterministic_algorithms(mode != OFF, warn_only=mode == WARN)


def _set_threads(torch_threads: int, core_threads: int) -> None:
    if not 1 <= torch_threads <= MOST_THREADS:
        raise UsageError(f"threads = {torch_threads}, possible are 1 to {MOST_THREADS}")
    torch.set_num_threads(torch_threads)
    _core.set_threads(core_threads)
