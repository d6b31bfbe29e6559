"""``runs show --watch``: the workers of a run, a sweep or ``--work``, again and again until all is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from merged_diffusion.cli.output import emit, emit_json
from merged_diffusion.cli.progress import LINE_SECONDS, duration
from merged_diffusion.errors import IncompleteError

if TYPE_CHECKING:
    from merged_diffusion.reports.worker_progress import Look

LOOK_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 60.0  # after which nobody is expected any more


def watch(folder: Path, *, quiet: bool) -> None:
    """Print all workers on standard error until the images are there, or nobody has worked for a minute."""
    from merged_diffusion.reports.worker_progress import Watch

    watched = Watch(folder)
    rewrites = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    printed, height, seen = -LINE_SECONDS, 0, time.monotonic()
    while True:
        look, now = watched.look(), time.monotonic()
        if look.is_at_work:
            seen = now
        over = look.is_over or now - seen > GRACE_SECONDS
        if not quiet and (rewrites or over or now - printed >= LINE_SECONDS):
            text = list(lines(look))
            back = f"\x1b[{height}A\x1b[J" if rewrites and height else ""
            sys.stderr.write(back + "\n".join(text) + "\n")
            sys.stderr.flush()
            printed, height = now, len(text)
        if over:
            return
        time.sleep(LOOK_SECONDS)


def show_work(folder: Path, *, as_json: bool) -> int:
    """How far the command is whose ``--work`` it is.

    Raises
    ------
    IncompleteError
        Its result is not told yet.
    """
    from merged_diffusion.reports.worker_progress import Watch

    watched = Watch(folder)
    look = watched.look()
    if not look.is_over:
        raise IncompleteError(
            f"{folder}: {watched.command} has {look.done} of {look.wanted} images that it has come to, and "
            "its result is not told",
            hint="--watch waits for its workers; the same command goes on where they have ended",
            file=str(folder),
        )
    if as_json:
        emit_json({"command": "runs show", "of": watched.command, "done": look.done, "wanted": look.wanted})
    else:
        emit("\n".join([*lines(look), f"the result of {watched.command} is told"]))
    return 0


def lines(look: Look) -> Iterator[str]:
    """A line for all, and one for each worker."""
    left = "" if look.left is None or look.is_over else f"  {duration(look.left)} left"
    speed = sum(worker.speed or 0.0 for worker in look.workers)
    pace = f"  {60 * speed:.3g} a minute" if speed else ""
    yield f"{look.done} of {look.wanted} images{pace}{left}"
    for worker in look.workers:
        state = "at work" if worker.is_at_work else "ended"
        own = "" if worker.speed is None else f"  {60 * worker.speed:.3g} a minute"
        yield f"  worker {worker.shard[0]} of {worker.shard[1]}  {worker.n} images{own}  {state}"
