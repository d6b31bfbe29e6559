"""Worker processes of a Ray cluster: where they run is Ray's affair.

Each is an actor that holds the networks; a task is a call of it whose results stream back. Nothing is retried
by Ray, which would begin a block anew: what is missing of one that was lost is handed out again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.crew import Ended, Failed, Lost, Message, Recipe, Task
from merged_diffusion.jobs.ray_process import RayProcess
from merged_diffusion.jobs.threads import all_cores

LOCAL: Final = "local"
# Read when ray is loaded, or begins: nothing is sent home, and no GPU is hidden.
SWITCHES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
OBJECT_BYTES: Final = 100_000_000  # of a local Ray, which carries ids and records alone
ANSWER_SECONDS: Final = 10.0  # within which a cluster takes a connection
ROOM_SECONDS: Final = 5.0  # after which the nodes are counted again


class RayPool:
    """Workers on the cluster at ``address``, or on a Ray of this machine's own (``local``).

    A worker takes a GPU where the networks run on one, else as many processors as it has threads.
    """

    def __init__(self, address: str, recipe: Recipe) -> None:
        """Connect.

        Raises
        ------
        UsageError
            No cluster answers there, or it is of another version.
        """
        self._kind, self._need = ("GPU", 1) if recipe.device == "cuda" else ("CPU", recipe.threads)
        self._ray = _connected(address)
        self._recipe = self._ray.put(recipe)
        self._directory = str(Path.cwd())
        self._actors: dict[int, Any] = {}
        self._waited: dict[int, Any] = {}  # what a worker answers next
        self._n_hired = 0
        self._counted: tuple[float, int, frozenset[str]] | None = None

    @property
    def words(self) -> str:
        """How many workers of which size there is room for."""
        unit, n = self._kind if self._need == 1 else f"{self._kind}s", self._n_places()
        return f"room for {n or 'no'} worker{'s' * (n != 1)} of {self._need} {unit}{'' if n else ' yet'}"

    def room(self) -> int:
        """By the resources of the nodes that are there; at least 1, so that a cluster that grows does."""
        return max(1, self._n_places())

    def nodes(self) -> frozenset[str]:
        """Those that are alive, by Ray's names."""
        return self._count()[1]

    def _n_places(self) -> int:
        return self._count()[0]

    def _count(self) -> tuple[int, frozenset[str]]:
        now = time.monotonic()
        if self._counted is None or now - self._counted[0] > ROOM_SECONDS:
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            n = sum(int(node["Resources"].get(self._kind, 0) // self._need) for node in nodes)
            self._counted = now, n, frozenset(node["NodeID"] for node in nodes)
        return self._counted[1:]

    def hire(self) -> int:
        """Begin an actor where Ray finds the resources; its number."""
        needs = {"num_gpus": 1} if self._kind == "GPU" else {"num_cpus": self._need}
        number, self._n_hired = self._n_hired, self._n_hired + 1
        made = self._ray.remote(**needs, max_restarts=0, max_task_retries=0)(RayProcess)
        self._actors[number] = actor = made.remote(self._directory)
        self._waited[number] = actor.prepare.remote(self._recipe)
        return number

    def give(self, number: int, task: Task) -> None:
        """Have a worker begin a task."""
        call = self._actors[number].compute.options(num_returns="streaming")
        self._waited[number] = call.remote(task)

    def hear(self, seconds: float) -> Sequence[tuple[int, Message]]:
        """What workers say; waits so long where they say nothing."""
        numbers = {waited: number for number, waited in self._waited.items()}
        if not numbers:
            time.sleep(seconds)
            return []
        with _terminated_afterwards():
            ready, _ = self._ray.wait(list(numbers), num_returns=1, timeout=seconds)
            if ready:
                ready, _ = self._ray.wait(list(numbers), num_returns=len(numbers), timeout=0)
            return [(numbers[one], message) for one in ready for message in self._said(numbers[one], one)]

    def _said(self, number: int, waited: Any) -> Sequence[Message]:
        is_stream = not isinstance(waited, self._ray.ObjectRef)
        try:
            found = self._ray.get(next(waited) if is_stream else waited)
        except (StopIteration, self._ray.exceptions.RayError) as error:
            return [Lost(_reason(error))]
        messages: Sequence[Message] = found if is_stream else [found]
        if not is_stream or isinstance(messages[-1], Ended | Failed):
            del self._waited[number]
        return messages

    def dismiss(self, number: int) -> None:
        """End a worker, whatever it does."""
        self._waited.pop(number, None)
        actor = self._actors.pop(number, None)
        if actor is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in list(self._actors):
            self.dismiss(number)
        self._ray.shutdown()


@contextmanager
def _terminated_afterwards() -> Iterator[None]:
    """SIGTERM once a call of Ray is over, which turns what a handler raises in it into something else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _connected(address: str) -> Any:
    """The package, connected and quiet."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    import ray

    is_local = address == LOCAL
    own: dict[str, object] = {"include_dashboard": False, "object_store_memory": OBJECT_BYTES}
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _require_answer(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(own | {"num_cpus": all_cores()} if is_local else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"--ray {address}: {_reason(error)}",
            hint="start Ray on this machine first, ray start --head or --address, or give --ray local"
            + _of_a_token(),
        ) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, handler)  # which ray takes for itself
    # Its words on each process that is lost, forty lines, have no switch; ours is one.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    return ray


def _of_a_token() -> str:
    """What may be missing where Ray has kept a token, which it shows to no address that was named."""
    if "RAY_AUTH_MODE" in os.environ or not (Path.home() / ".ray" / "auth_token").exists():
        return ""
    return "; of a cluster that asks for its token, export RAY_AUTH_MODE=token"


def _require_answer(address: str) -> None:
    """OSError where nobody takes a connection at HOST:PORT, for which Ray would wait minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _reason(error: BaseException) -> str:
    """The sentence of a long text that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("The actor is dead because")), None)
    return (told or (lines[0] if lines else type(error).__name__))[:200]
