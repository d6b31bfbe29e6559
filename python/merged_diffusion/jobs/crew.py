"""A crew: workers that compute images for one process, which hands out tasks and keeps what comes back.

What a worker says is a message; the process that hands out (`crew_shares`) is told nothing else, and so knows
neither networks nor the engine that runs the workers (`ray_pool`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.runs.environment import Versions

Key = tuple[str, str]
"""A row of a sweep ("" without one), and a model of it."""
Tell = Callable[[Key, Sequence[int], Any], object]
"""Is told the ids of images, and their record or the samples that they are."""
Keep = Callable[[Key, Any, Versions | None], object]
"""Keeps the same, and the versions of the worker where they are not those of this process."""


@dataclass(frozen=True)
class Spent:
    """What a task took: seconds, those outside of the network, evaluations of networks, calls by leg."""

    seconds: float = 0.0
    seconds_outside_network: float = 0.0
    evaluations: int = 0
    time_profile: TimeProfile | None = None
    calls: tuple[int, ...] = ()


class Task(Protocol):
    """Images to be computed; small, for it travels."""

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Compute them under the plan of their row, of those that a recipe makes."""


class Recipe(Protocol):
    """How a worker makes the plans of a command where it is; small, for it travels."""

    def made(self) -> Mapping[str, object]:
        """The plan of each row, its data and networks loaded; `RunMismatchError` where they are others."""

    @property
    def threads(self) -> int:
        """Threads of a worker."""

    @property
    def device(self) -> str:
        """What its networks run on."""

    @property
    def deterministic(self) -> bool:
        """Whether a kernel that has no deterministic form is refused."""


class Crew(Protocol):
    """Takes tasks; what comes of them is told while the process asks for the next mask."""

    def begin(self, task: Task, keep: Keep, ended: Callable[[Spent], object]) -> None:
        """Begin the task of the mask that was given last."""


@dataclass(frozen=True)
class Ready:
    """The networks are loaded."""

    versions: Versions
    where: str


@dataclass(frozen=True)
class Items:
    """Images that are done: key, ids, record or samples."""

    items: Sequence[tuple[Key, Sequence[int], Any]]


@dataclass(frozen=True)
class Remark:
    """A warning."""

    warning: Warning


@dataclass(frozen=True)
class Ended:
    """The task is done; ``seconds`` by the worker's clock."""

    spent: Spent
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The task cannot be done, or the worker cannot begin; it is there still."""

    error: Exception


@dataclass(frozen=True)
class Lost:
    """The worker is gone."""

    reason: str


Message = Ready | Items | Remark | Ended | Failed | Lost


class Pool(Protocol):
    """Workers by number, wherever they are."""

    def room(self) -> int:
        """How many workers there is room for now; at least 1, for which is waited."""

    def nodes(self) -> frozenset[str]:
        """The machines that are there."""

    def hire(self) -> int:
        """Begin one more, which says `Ready` or `Failed`; its number."""

    def give(self, number: int, task: Task) -> None:
        """Have a worker that is ready begin a task, of which it says `Items`, and `Ended` or `Failed`."""

    def hear(self, seconds: float) -> Sequence[tuple[int, Message]]:
        """What workers say; waits so long where they say nothing."""

    def dismiss(self, number: int) -> None:
        """End one."""
