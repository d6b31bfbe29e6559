"""Processes of one training, without the seconds that each would need to load torch: they are forked."""

import multiprocessing
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["merged_diffusion.training", "merged_diffusion.plots.look", "sklearn.datasets", "torch._dynamo"]
)
# This file by its place: another package's `tests` may be installed, and is what a new process would find.
CHILD = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("two_processes", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.work(*arguments)
"""


def free_port() -> int:
    """One that no system takes for a connection that goes out: between here and the first process's start
    nobody but another test could take it."""
    while True:
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", random.SystemRandom().randrange(10_000, 30_000)))
            return int(taken.getsockname()[1])


def work(rank: int, size: int, port: int, said: Path, prepare: str | None, how: Any) -> None:
    """What a launcher would start; what it raises is told in a file."""
    import torch

    from merged_diffusion import training
    from merged_diffusion.training import pace

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    # Kills come often here, and so have snapshots to.
    pace.SAVE_SECONDS, pace.SAVE_SHARE = 0.01, 1e9
    if prepare is not None:
        globals()[prepare](rank)
    try:
        training.train(progress=False, threads=1, **how)
    except BaseException as error:  # noqa: BLE001
        said.write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
    said.write_text("done")


def started(size: int, folder: Path, prepare: Callable[..., None] | None = None, **how: Any) -> list[Any]:
    port = free_port()
    return [begun(rank, size, port, folder, prepare, **how) for rank in range(size)]


def begun(
    rank: int, size: int, port: int, folder: Path, prepare: Callable[..., None] | None, **how: Any
) -> Any:
    said = folder / f"said-{rank}"
    said.unlink(missing_ok=True)
    arguments = rank, size, port, said, prepare and prepare.__name__, how
    process = CONTEXT.Process(target=exec, args=(CHILD, {"arguments": arguments}), daemon=True)
    process.start()
    return process


def said(size: int, folder: Path) -> list[str]:
    """What each said at its end; nothing, if it was killed."""
    return [
        (folder / f"said-{rank}").read_text() if (folder / f"said-{rank}").exists() else ""
        for rank in range(size)
    ]


def train(size: int, folder: Path, prepare: Callable[..., None] | None = None, **how: Any) -> list[str]:
    """A whole training; what each process said at its end."""
    processes = started(size, folder, prepare, **how)
    for process in processes:
        process.join(120)
        assert process.exitcode is not None, "a process of the training hangs"
    return said(size, folder)


def impatient(rank: int) -> None:
    """Waits for the others no longer than this."""
    from datetime import timedelta

    from merged_diffusion.training import processes

    processes.MEETING = timedelta(seconds=2)


def failing_step(rank: int) -> None:
    """The second process has a fault at step 5."""
    from merged_diffusion.errors import ExpertError
    from merged_diffusion.training import fitting

    plain = fitting.loss_of_rows

    def broken(expert: Any, recipe: Any, images: Any, batch: Any, *rest: Any) -> Any:
        if rank == 1 and batch.step == 5:
            raise ExpertError("a fault of the second process")
        return plain(expert, recipe, images, batch, *rest)

    fitting.loss_of_rows = broken


def full_disk(rank: int) -> None:
    """The third snapshot finds no room, halfway."""
    import errno

    from merged_diffusion.runs import directory

    plain, count = directory.write_all, [0]

    def write_all(fd: int, content: Any) -> None:
        count[0] += len(content) > 20_000
        if count[0] == 3:
            plain(fd, bytes(content)[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(fd, content)

    directory.write_all = write_all


def told_to_end(rank: int) -> None:
    """The second process gets SIGTERM at step 5; no snapshot is due."""
    import signal

    from merged_diffusion.training import fitting, pace

    pace.SAVE_SECONDS = 1e9
    plain = fitting.draw_batch

    def told(expert: Any, recipe: Any, images: Any, step: int, *rest: Any) -> Any:
        if rank == 1 and step == 5:
            signal.raise_signal(signal.SIGTERM)
        return plain(expert, recipe, images, step, *rest)

    fitting.draw_batch = told
