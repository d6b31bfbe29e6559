"""Blocks for the workers of a crew, by their speed (`block_sizes`): handed out, heard of, handed out again.

One process hands out all and keeps all. While it asks for the next mask, what the workers have done is kept
as it comes; a mask is given once a worker is free for it. A first pass hands out all of every work, so that
no worker waits for the end of one; the second waits, and hands out again what a worker that is gone, or that
is far behind its own speed, has left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import MergedDiffusionError, ResourceError, RunMismatchError
from merged_diffusion.jobs.block_sizes import least_units, next_units
from merged_diffusion.jobs.blocks import Mask, Work
from merged_diffusion.jobs.crew import (
    Ended,
    Failed,
    Items,
    Keep,
    Key,
    Lost,
    Message,
    Pool,
    Ready,
    Remark,
    Spent,
    Task,
)
from merged_diffusion.jobs.crew_worker import CrewWorker, WorkerBlock
from merged_diffusion.jobs.told_images import ToldImages
from merged_diffusion.runs.environment import PACKAGE, Versions
from merged_diffusion.runs.settings_file import listed

POLL_SECONDS: Final = 0.5
HEAR_SECONDS: Final = 5.0  # of listening, after which those that are free get something to do
PATIENCE_SECONDS: Final = 60.0  # after which it is told that no worker is there
MOST_LOST: Final = 10  # workers, each hired after the last was lost, before anybody has done an image


@dataclass
class CrewShares:
    """The blocks of a crew of workers, out of a ``pool``; it is `Blocks`, and the `Crew` that computes them.

    ``versions`` are those of this process; with ``strict_env`` a worker of others is refused, with
    ``same_package`` one of another version of this package, where what is kept does not say its own.
    ``tell`` is told of workers that come and go.
    """

    pool: Pool
    versions: Versions
    strict_env: bool = False
    tell: Callable[[str], object] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    same_package: bool = False
    shard: tuple[int, int] = field(default=(0, 1), init=False)
    answers_for: tuple[int, int] = field(default=(0, 1), init=False)
    _workers: dict[int, CrewWorker] = field(default_factory=dict, init=False)
    _given: tuple[CrewWorker, Work, frozenset[int], int] | None = field(default=None, init=False)
    _spoilt: dict[str, Exception] = field(default_factory=dict, init=False)  # by work
    _done: ToldImages = field(default_factory=ToldImages, init=False)
    _refused: dict[int, Exception] = field(default_factory=dict, init=False)  # workers that keep their place
    _nodes: frozenset[str] = field(default=frozenset(), init=False)  # where they do
    _n_lost: int = field(default=0, init=False)  # one after the other, since an image was done
    _last_lost: float = field(default=-math.inf, init=False)  # when the last of them was
    _listened: float = field(default=0.0, init=False)  # seconds so far
    _told: set[str] = field(default_factory=set, init=False)

    @property
    def crew(self) -> Self:
        """Itself."""
        return self

    @property
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """All of every work once, then what is missing."""
        return self.first, self.rest

    def first(self, work: Work) -> Iterator[Mask]:
        """Every unit without a record, once; it does not wait for the last of them."""
        yield from self._handed_out(work, sorted(work.open_units() - self._busy(work)))

    def rest(self, work: Work) -> Iterator[Mask]:
        """What workers that are gone or late have left, until all images have a record."""
        while True:
            self._attend(0.0)
            self._check(work)
            busy = self._busy(work)
            orphans = sorted(work.open_units() - busy)
            if orphans:
                yield from self._handed_out(work, orphans)
            elif not busy:
                return
            else:
                while self._busy(work) == busy:
                    self._attend(POLL_SECONDS)

    def begin(self, task: Task, keep: Keep, ended: Callable[[Spent], object]) -> None:
        """Begin the task of the mask that was given last."""
        if self._given is None:
            raise RuntimeError("a task without a mask")
        (worker, work, units, n), self._given = self._given, None
        speed = worker.speeds.get(work.pace)
        expected = None if speed is None else n / speed
        worker.block = WorkerBlock(work.name, work.pace, units, n, self._listened, expected, keep, ended)
        worker.heard = self._listened
        self.pool.give(worker.number, task)

    def _handed_out(self, work: Work, units: Sequence[int]) -> Iterator[Mask]:
        at = 0
        while at < len(units):
            worker, size = self._free(work, len(units) - at)
            block = frozenset(units[at : at + size])
            mask = work.mask(sorted(block))
            at += size
            self._given = worker, work, block, int(mask.sum())
            yield mask
            self._given = None

    def _free(self, work: Work, left: int) -> tuple[CrewWorker, int]:
        """A worker that has nothing to do, the fastest first, and how many units it takes."""
        begin = self.clock()
        while True:
            self._attend(0.0)
            self._check(work)
            self._recruit(math.ceil(left / least_units(work)))
            ready = [worker for worker in self._workers.values() if worker.is_ready]
            free = [worker for worker in ready if worker.block is None]
            for worker in sorted(free, key=lambda one: -one.speeds.get(work.pace, math.inf)):
                # Those that load their networks will be there, too.
                everyone = self._workers.values()
                others = [o for o in everyone if o is not worker and not (o.block and o.block.is_late)]
                known = [o.speeds[work.pace] for o in others if work.pace in o.speeds]
                # Those that are free and faster were asked before, and the others are at work.
                own, n_unknown = worker.speeds.get(work.pace), len(others) - len(known)
                size = next_units(work, left, own, known, n_unknown, lambda _: True)
                if size:
                    return worker, min(size, left)
            if not ready and self.clock() - begin > PATIENCE_SECONDS:
                self._say("no worker has begun yet: the cluster has no room for one, or loads its networks")
            self._attend(POLL_SECONDS)

    def _recruit(self, n_blocks: int) -> None:
        """Have as many workers as there is room, and work, for.

        One that was refused keeps its place, for the next would be hired there, until nodes come or go.
        """
        nodes = self.pool.nodes()
        if nodes != self._nodes:
            for number in self._refused:
                self.pool.dismiss(number)
            self._nodes, self._refused = nodes, {}
        n_busy = sum(worker.block is not None for worker in self._workers.values())
        wanted = min(self.pool.room() - len(self._refused), n_busy + n_blocks)
        if self._refused and wanted < 1 and not self._workers:
            raise list(self._refused.values())[-1]
        while len(self._workers) < wanted:
            number = self.pool.hire()
            self._workers[number] = CrewWorker(number, self.clock())

    def _busy(self, work: Work) -> frozenset[int]:
        """Units of a work that are in a block which is not late."""
        blocks = [worker.block for worker in self._workers.values() if worker.block is not None]
        punctual = [block for block in blocks if not block.is_late]
        return frozenset().union(*(block.units for block in punctual if block.work == work.name))

    def _check(self, work: Work) -> None:
        """Raise what a worker found wrong with a work."""
        if work.name in self._spoilt:
            raise self._spoilt[work.name]

    def _attend(self, seconds: float) -> None:
        """Take in all that workers have said; who is late shows where nothing more comes."""
        begin, before = self.clock(), self._listened
        while said := self.pool.hear(seconds):
            seconds = 0.0
            self._listened = before + self.clock() - begin
            for number, message in said:
                worker = self._workers.get(number)
                if worker is not None:
                    worker.heard = self._listened
                    self._take_in(worker, message)
            if self._listened - before > HEAR_SECONDS:
                return
        self._listened = before + self.clock() - begin
        for worker in list(self._workers.values()):
            silent = worker.hangs(self._listened, self._n_lost)
            if silent is not None:
                self._lose(worker, f"it has said nothing for {silent:.0f} s")

    def _take_in(self, worker: CrewWorker, message: Message) -> None:
        block = worker.block
        match message:
            case Ready():
                self._welcome(worker, message)
            case Items(items):
                self._keep(worker, items)
            case Ended(spent, seconds) if block is not None:
                worker.speeds[block.pace], worker.block = block.n_images / max(seconds, 1e-9), None
                if not block.is_late:  # others did it again, and whoever asked may be gone
                    block.ended(spent)
            case Failed(error) if block is None:
                self._refuse(worker, error)
            case Failed(ResourceError() as error) if block is not None:
                self._refuse(worker, error)  # others may have more memory
            case Failed(error) if block is not None:
                worker.block = None
                self._spoilt.setdefault(block.work, error)
            case Lost(reason):
                self._lose(worker, reason)
            case Remark(warning):
                warn_caller(warning)

    def _keep(self, worker: CrewWorker, items: Sequence[tuple[Key, Sequence[int], object]]) -> None:
        for key, ids, item in items:
            # A block that was late, or a row that is done without the others, may bring an image again.
            if worker.block is not None and self._done.add(key, ids):
                self._n_lost, worker.has_done = 0, True
                worker.block.keep(key, item, worker.versions)

    def _welcome(self, worker: CrewWorker, ready: Ready) -> None:
        worker.where, worker.is_ready = ready.where, True
        names = sorted({*self.versions, *ready.versions})
        pairs = {name: (ready.versions.get(name), self.versions.get(name)) for name in names}
        found = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        text = f"a worker on {ready.where} has another environment: {listed(found)}"
        if found and self.strict_env:
            self._refuse(worker, RunMismatchError(text, hint="--strict-env was given"))
        elif PACKAGE in found and self.same_package:
            hint = "what it measures bears no version: install the same one there"
            self._refuse(worker, RunMismatchError(text, hint=hint))
        elif found:
            worker.versions = ready.versions
            self._say(f"workers on {ready.where} have another environment: {listed(found)}")

    def _refuse(self, worker: CrewWorker, error: Exception) -> None:
        """Go on without a worker that cannot do it; `_recruit` raises its error where there is no other."""
        del self._workers[worker.number]
        self._refused[worker.number] = error
        if self._workers:
            reason = error.message if isinstance(error, MergedDiffusionError) else error
            where = f"on {worker.where} cannot go on" if worker.where else "cannot begin"
            self._say(f"a worker {where}: {reason}")

    def _lose(self, worker: CrewWorker, reason: str) -> None:
        self._drop(worker)
        # Those that are lost together, with their node, were hired before the first of them was lost.
        if not worker.has_done and worker.hired >= self._last_lost:
            self._n_lost, self._last_lost = self._n_lost + 1, self.clock()
        if self._n_lost >= MOST_LOST:
            raise ResourceError(
                f"{self._n_lost} workers were lost one after the other, and nobody did an image: {reason}",
                hint="where their memory does not suffice, a smaller --batch-size may help",
            )
        self._say(f"lost a worker{f' on {worker.where}' if worker.where else ''}: {reason}", again=True)

    def _drop(self, worker: CrewWorker) -> None:
        self.pool.dismiss(worker.number)
        del self._workers[worker.number]

    def _say(self, text: str, *, again: bool = False) -> None:
        if again or text not in self._told:
            self._told.add(text)
            self.tell(text)
