"""What runs in a worker process of Ray: it loads data and networks once, and computes task after task.

The arithmetic has a thread of its own, which lives as long as the process, so that what it has done can be
handed on while it goes on. torch is loaded there, and not before.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from merged_diffusion.errors import MergedDiffusionError, ResourceError
from merged_diffusion.jobs.crew import Ended, Failed, Items, Key, Message, Ready, Recipe, Remark, Task

GATHER_SECONDS: Final = 0.02  # for which items are gathered before they are sent


class RayProcess:
    """An actor: `prepare` once, then `compute` one task after the other."""

    def __init__(self, directory: str) -> None:
        """``directory``: where relative names of files begin, as for who hands out."""
        # As the command line does it, before torch is loaded.
        os.environ["GOMP_SPINCOUNT"] = "0"
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        with suppress(OSError):  # a node without it has no files under relative names
            os.chdir(directory)
        self._asked: SimpleQueue[Any] = SimpleQueue()
        self._said: SimpleQueue[Message] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def prepare(self, recipe: Recipe) -> Message:
        """Load what a recipe says: `Ready`, or why not."""
        self._asked.put(recipe)
        return self._said.get()

    def compute(self, task: Task) -> Iterator[Sequence[Message]]:
        """What is said of a task, as it is said; the last is `Ended` or `Failed`."""
        self._asked.put(task)
        while True:
            said = [self._said.get()]
            time.sleep(GATHER_SECONDS)
            with suppress(Empty):
                while True:
                    said.append(self._said.get_nowait())
            yield said
            if isinstance(said[-1], Ended | Failed):
                return

    def _work(self) -> None:
        recipe: Recipe = self._asked.get()
        try:
            from merged_diffusion.experts.checks import checked_once
            from merged_diffusion.jobs.threads import configured
            from merged_diffusion.runs.environment import versions

            with configured(threads=recipe.threads, deterministic=recipe.deterministic), checked_once():
                plans = recipe.made()
                self._said.put(Ready(versions(), socket.gethostname()))
                while True:
                    self._said.put(self._carried_out(self._asked.get(), plans))
        except BaseException as error:  # noqa: BLE001  an expert's file may raise anything
            self._said.put(Failed(sendable(error)))

    def _carried_out(self, task: Task, plans: Mapping[str, object]) -> Ended | Failed:
        def tell(key: Key, ids: Sequence[int], item: object) -> None:
            self._said.put(Items([(key, ids, item)]))

        def warned(message: Warning | str, *_: object, **__: object) -> None:
            self._said.put(Remark(message if isinstance(message, Warning) else UserWarning(message)))

        begin = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = warned
                spent = task.run(plans, tell)
        except BaseException as error:  # noqa: BLE001  an expert may raise anything
            return Failed(sendable(error))
        return Ended(spent, time.monotonic() - begin)


def sendable(error: BaseException) -> Exception:
    """An error that can be read where the class of an expert's own is not known."""
    from merged_diffusion.experts.memory import FEWER, is_out_of_memory

    if isinstance(error, MergedDiffusionError):
        return error
    text = str(error)
    if isinstance(error, Exception) and is_out_of_memory(error):
        first = (text.splitlines() or [type(error).__name__])[0]
        return ResourceError(f"the memory of a worker does not suffice ({first})", hint=FEWER)
    if isinstance(error, Exception) and type(error).__module__ == "builtins":
        return error
    return RuntimeError(f"{type(error).__name__}: {text}")
