"""Where the arithmetic of a command runs: device, threads and torch's global switches.

Only the command line calls `configured`: a library does not change its host's switches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, cast

import torch

from merged_diffusion.experts.checks import checked_once
from merged_diffusion.experts.fence import fenced
from merged_diffusion.ode.devices import on_threads, resolve_device
from merged_diffusion.ode.machine import DTYPE, Dtype, Machine, Precision
from merged_diffusion.runs.settings_file import RecordedMachine

__all__ = ["all_cores", "configured", "resolve_device", "settled"]

OFF, WARN, ERROR = 0, 1, 2  # torch.get_deterministic_debug_mode
CUDA_UNUSABLE: Final = "cuda is not usable, going on with the CPU"


def all_cores() -> int:
    """Cores this process may use (its affinity); OMP_NUM_THREADS is not asked."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settled(
    asked: Machine,
    recorded: RecordedMachine,
    usual_rows: Callable[[torch.device], int],
    threads: int | None = None,
) -> tuple[Machine, str | None]:
    """A machine that leaves nothing open: as asked, else as ``recorded`` by a run, else as suits it.

    ``threads``: all cores unless the caller has some of its own.

    And a note where cuda was looked for and is not usable.
    """
    device, reason = resolve_device(asked.device or recorded.device or "auto")
    machine = replace(
        asked,
        device=device,
        dtype=asked.dtype or cast(Dtype | None, recorded.dtype) or DTYPE,
        precision=asked.precision or cast(Precision | None, recorded.precision),
        batch_size=asked.batch_size or recorded.batch_size,
        threads=asked.threads or recorded.threads or threads or all_cores(),
    )
    note = None if reason is None else f"{CUDA_UNUSABLE}: {reason}"
    return replace(machine, batch_size=machine.here(usual_rows).rows), note


@contextmanager
def configured(*, threads: int, deterministic: bool) -> Iterator[None]:
    """Threads of torch and the core, determinism, and the fence's settings; restored at the end.

    An expert is looked at once inside.
    """
    determinism = torch.get_deterministic_debug_mode()
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS asks for it, before its first call
    _set_determinism(ERROR if deterministic else OFF)
    try:
        with on_threads(threads), fenced(grad=torch.is_grad_enabled()), checked_once():
            yield
    finally:
        _set_determinism(determinism)


def _set_determinism(mode: int) -> None:
    # `use_deterministic_algorithms` loads torch's compiler to tell it too, 3 s: only where something changes.
    if torch.get_deterministic_debug_mode() != mode:
        torch.use_deterministic_algorithms(mode != OFF, warn_only=mode == WARN)
