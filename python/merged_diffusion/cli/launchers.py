"""What a launcher says of this process: torchrun's variables, and Slurm's.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; ``srun`` sets SLURM_PROCID, SLURM_NTASKS,
SLURM_LOCALID and the tasks of each node. They mean the same. Where both say something they must agree, unless
torchrun itself runs in a task of Slurm, whose variables are then those of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from merged_diffusion.errors import UsageError

Environment = Mapping[str, str]

UNSET: Final = "launch by torchrun, or unset RANK and WORLD_SIZE and give --shard I/N"
UNSET_SLURM: Final = "launch by srun, or unset SLURM_PROCID and SLURM_NTASKS and give --shard I/N"
TORCHRUN: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
TASKS: Final = re.compile(r"([0-9]+)(?:\(x([0-9]+)\))?")


@dataclass(frozen=True)
class Rank:
    """Process ``index`` of ``count``; number ``local`` of ``n_local`` on its machine, where that is said.

    ``n_gpus``: how many GPUs Slurm says that the job has there, however many of them each task sees.
    """

    index: int
    count: int
    local: int | None
    n_local: int
    variables: str
    n_gpus: int = 0


def rank_of(environment: Environment) -> Rank | None:
    """The rank that a launcher's variables say; None where there is none, or only one process.

    Raises
    ------
    UsageError
        The variables contradict each other.
    """
    by_torchrun, by_slurm = _torchrun(environment), _slurm(environment)
    if by_torchrun is None or "TORCHELASTIC_RUN_ID" in environment:
        found = by_torchrun or by_slurm
    elif by_slurm is None:
        found = by_torchrun
    else:
        same = (by_torchrun.index, by_torchrun.count) == (by_slurm.index, by_slurm.count)
        if not same or by_torchrun.local not in (None, by_slurm.local):
            raise _contradiction(environment, UNSET, "RANK", "WORLD_SIZE", "LOCAL_RANK", *_SLURM)
        found = by_slurm if by_torchrun.local is None else replace(by_torchrun, n_gpus=by_slurm.n_gpus)
    return None if found is None or found.count == 1 else found


def _torchrun(environment: Environment) -> Rank | None:
    rank, size, local, n_local = (_number(environment, name, UNSET) for name in TORCHRUN)
    if rank is None and size is None:
        return None
    if rank is None or size is None or rank >= size:
        raise _contradiction(environment, UNSET, "RANK", "WORLD_SIZE")
    if local is None:
        return Rank(rank, size, None, 1, "RANK and WORLD_SIZE")
    n_local = local + 1 if n_local is None else n_local
    if size > 1 and (not local < n_local <= size or local > rank):
        raise _contradiction(environment, UNSET, *TORCHRUN)
    return Rank(rank, size, local, n_local, "RANK and WORLD_SIZE")


_SLURM: Final = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


def _slurm(environment: Environment) -> Rank | None:
    if "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment:
        return (
            None  # the script of sbatch itself: one process, though it sees how many tasks srun would begin
        )
    rank, size, local = (_number(environment, name, UNSET_SLURM) for name in _SLURM)
    if rank is None and local is None:
        return None
    if rank is None or size is None or rank >= size:
        raise _contradiction(environment, UNSET_SLURM, *_SLURM)
    said = f"{_SLURM[0]} and {_SLURM[1]}"
    if local is None:
        return Rank(rank, size, None, 1, said)
    if environment.get("SLURM_GPUS_PER_TASK"):
        return Rank(rank, size, 0, 1, said)  # Slurm shows each task its own GPUs alone
    n_local = _tasks_of_node(environment) or local + 1
    if size > 1 and (not local < n_local <= size or local > rank):
        raise _contradiction(
            environment, UNSET_SLURM, *_SLURM, "SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"
        )
    gpus = environment.get("SLURM_GPUS_ON_NODE", "")
    return Rank(rank, size, local, n_local, said, int(gpus) if gpus.isascii() and gpus.isdecimal() else 0)


def _tasks_of_node(environment: Environment) -> int | None:
    """Tasks on this node: of ``2(x3),1``, a number for each node, that at SLURM_NODEID."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE")
    if text is not None:
        parts = [TASKS.fullmatch(part) for part in text.split(",")]
        if None in parts:
            raise UsageError(f"the tasks per node are {text!r}, not as 2(x3),1", hint=UNSET_SLURM)
        nodes = [int(p[1]) for p in parts if p is not None for _ in range(int(p[2] or 1))]
        node = _number(environment, "SLURM_NODEID", UNSET_SLURM) or 0
        return nodes[node] if node < len(nodes) else None
    return _number(environment, "SLURM_NTASKS_PER_NODE", UNSET_SLURM)


def _number(environment: Environment, name: str, hint: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} = {text!r} is no number", hint=hint)
    return int(text)


def _contradiction(environment: Environment, hint: str, *names: str) -> UsageError:
    found = ", ".join(f"{name} = {environment.get(name, 'unset')}" for name in names)
    return UsageError(f"{found}: inconsistent", hint=hint)
