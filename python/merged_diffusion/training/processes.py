"""The processes of one training: each has a share of every batch, and all hold the same weights.

A launcher starts them (``torchrun -m merged_diffusion train ...``) and says by RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT who is who. The first one reads, writes and tells. Gradients are summed once a
step, in buckets of a fixed order, so that every process gets the same bits. Where one fails, one message says
why, and all end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from merged_diffusion.errors import MergedDiffusionError, RunError, UsageError
from merged_diffusion.ode.devices import resolve_device
from merged_diffusion.training.stopping import TerminatedError

T = TypeVar("T")
BUCKET: Final = 1 << 24  # numbers summed by one call
PATIENCE: Final = timedelta(hours=2)  # the first one may draw samples meanwhile
MEETING: Final = timedelta(minutes=10)  # until all are started
VARIABLES: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILED: Final = "failed"
LOST: Final = 1  # the exit code where a process was lost without a word


class ToldElsewhereError(RunError):
    """Another process of the training failed and says why; this one ends without a word."""

    def __init__(self, code: int) -> None:
        super().__init__("another process of this training failed, and said why")
        self.code = code


class Team:
    """The processes of a training, seen by one of them; alone, every call is trivial."""

    def __init__(
        self, rank: int, size: int, device: torch.device, store: Store | None = None, local: int = 0
    ) -> None:
        self.rank, self.size, self.device, self.local = rank, size, device, local
        self._store = store

    @property
    def is_first(self) -> bool:
        """Whether this one reads, writes and tells."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over the processes; all are of one dtype."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for number, tensor in enumerate(tensors):
            bucket.append(tensor)
            if sum(t.numel() for t in bucket) >= BUCKET or number == len(tensors) - 1:
                flat = torch.cat([t.reshape(-1) for t in bucket])
                dist.all_reduce(flat)
                for t, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                    t.copy_(part.view_as(t))
                bucket = []

    def share_(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes that of the first process."""
        if self.size > 1:
            for tensor in tensors:
                flat = tensor.detach().contiguous()
                dist.broadcast(flat, 0)
                tensor.detach().copy_(flat)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all; its failure ends all, and it says why."""
        if self.size == 1:
            return make()
        answer: list[Any] = [None, None]
        error: BaseException | None = None
        if self.is_first:
            try:
                answer[0] = make()
            except MergedDiffusionError as failure:
                error = failure
                answer[1] = failure.exit_code
        dist.broadcast_object_list(answer, 0)
        if error is not None:
            raise error
        if answer[1] is not None:
            raise ToldElsewhereError(answer[1])
        return cast(T, answer[0])

    def each(self, make: Callable[[], T]) -> T:
        """What each process makes for itself; the first failure ends all, and the first process says it."""
        if self.size == 1:
            return make()
        found: list[Any] = [None] * self.size
        made, error = None, None
        try:
            made = make()
        except MergedDiffusionError as failure:
            error = failure
        dist.all_gather_object(found, error)
        failures = [failure for failure in found if failure is not None]
        if failures:
            raise failures[0] if self.is_first else ToldElsewhereError(failures[0].exit_code)
        return cast(T, made)

    def require_equal(self, weights: Sequence[Tensor]) -> None:
        """`RunError` where the processes do not hold the same weights, which is a fault of a machine."""
        if self.size == 1:
            return
        own = [float(torch.stack([w.detach().double().sum() for w in weights]).sum())]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, own)
        if any(other != found[0] for other in found):
            message = f"the processes hold different weights (sums {[f'{v[0]!r}' for v in found]})"
            raise (
                RunError(message, hint="go on from the last snapshot; a device may be faulty")
                if self.is_first
                else ToldElsewhereError(RunError.exit_code)
            )

    @contextmanager
    def told_once(self) -> Iterator[None]:
        """What fails inside fails in all: the first to fail says why, the others end without a word."""
        try:
            yield
        except ToldElsewhereError:
            raise
        except BaseException as error:
            if self.size == 1 or isinstance(error, KeyboardInterrupt | TerminatedError):
                raise
            code = getattr(error, "exit_code", LOST)
            before = self._announce(code)
            if before is not None:
                raise ToldElsewhereError(before) from error
            if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _is_of_peer(error)):
                raise RunError(
                    f"another process of this training is gone ({str(error).splitlines()[0][:200]})",
                    hint="the last snapshot stays, and the same command goes on from it",
                ) from error
            raise

    def _announce(self, code: int) -> int | None:
        """Claim the word; the exit code of the one that has it, or None where it is this one's."""
        if self._store is None:
            return None
        with suppress(RuntimeError):
            if self._store.add(FAILED, 1) == 1:
                self._store.set("code", str(code))
                return None
            with suppress(RuntimeError):
                self._store.wait(["code"], timedelta(seconds=10))
                return int(self._store.get("code"))
            return LOST
        return None if self.is_first else LOST  # the store is gone with the process that kept it


def _is_of_peer(error: RuntimeError) -> bool:
    """Whether gloo, which raises plain errors, lost a peer."""
    return any(word in str(error) for word in ("gloo", "Connection", "peer", "NCCL", "ProcessGroup"))


@contextmanager
def joined(device: str, environment: Mapping[str, str] | None = None) -> Iterator[Team]:
    """The team of this process, on ``device`` (``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``).

    Raises
    ------
    UsageError
        The variables of the launcher contradict each other, or two processes would share a device.
    """
    found = dict(os.environ if environment is None else environment)
    rank, size = (_number(found, name) for name in ("RANK", "WORLD_SIZE"))
    if size in (None, 1):
        name, _ = resolve_device(device)
        yield Team(0, 1, torch.device(name))
        return
    missing = [name for name in VARIABLES if name not in found]
    if missing or rank is None or size is None or rank >= size:
        raise UsageError(
            f"{', '.join(f'{name} = {found.get(name)}' for name in VARIABLES)}: no place among the processes",
            hint="launch by torchrun, or unset RANK and WORLD_SIZE",
        )
    local = _number(found, "LOCAL_RANK")
    place = _own_device(device, local)
    store = _met(found)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    team = Team(rank, size, place, PrefixStore("words", store), local or 0)
    with team.told_once():
        dist.init_process_group(
            backend, store=PrefixStore("training", store), rank=rank, world_size=size, timeout=PATIENCE
        )
        dist.barrier()  # nobody fails, and takes the store with it, while another still looks for its peers
        store.set_timeout(PATIENCE)
        yield team
        dist.barrier()
    dist.destroy_process_group()


def _met(environment: Mapping[str, str]) -> Store:
    """The store at which the processes find each other."""
    try:
        return cast(Store, next(rendezvous("env://", timeout=MEETING))[0])
    except dist.DistError as error:
        place = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
        raise RunError(
            f"the processes of this training did not meet at {place} ({str(error).splitlines()[0][:200]})",
            hint="another MASTER_PORT, if a program has this one; else look why the first process ended",
        ) from error


def _own_device(device: str, local: int | None) -> torch.device:
    name, _ = resolve_device(device)
    kind, _, number = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or number or local is None or local >= torch.cuda.device_count():
        raise UsageError(
            f"LOCAL_RANK = {local} with device {device!r}: {torch.cuda.device_count()} GPUs are here, and "
            "each process needs one of its own",
            hint="torchrun --nproc-per-node N with --device cuda and N GPUs, or --device cpu",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} = {text!r} is no number", hint="launch by torchrun")
    return int(text)
