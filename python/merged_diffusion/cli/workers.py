"""Workers: the share of the images that this process scores, on which GPU, and who tells the result.

``--shard I/N`` names a share; under a launcher (``torchrun -m merged_diffusion``) RANK and WORLD_SIZE mean
the same, and each rank of a machine takes the GPU of its LOCAL_RANK. Workers share nothing but the directory
of the run. None waits for another but rank 0, which tells the result of all once their records are there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    from merged_diffusion.cli.json_lines import Lines
    from merged_diffusion.jobs.evaluation import Evaluation

POLL_SECONDS: Final = 1.0
# How long rank 0 waits for a rank that is not at work: one that is about to start, or was lost.
GRACE_SECONDS: Final = 60.0
UNSET: Final = "launch by torchrun, or unset RANK and WORLD_SIZE and give --shard I/N"


@dataclass(frozen=True)
class Worker:
    """Worker I of N; ``device_index`` and ``n_local`` (ranks on this machine) where a launcher says them."""

    shard: tuple[int, int]
    is_launched: bool = False
    device_index: int | None = None
    n_local: int = 1

    @property
    def speaks(self) -> bool:
        """Whether progress and result are this process's to tell: of launched ones, rank 0's."""
        return not self.is_launched or self.shard[0] == 0

    def check_out(self, out: Path | None) -> None:
        """`UsageError` where ranks would have no place in common for their records."""
        if self.is_launched and out is None:
            raise UsageError(
                f"{self.shard[1]} ranks keep their records in one directory, and none is given",
                hint="give --out DIR",
            )


def worker_share(option: tuple[int, int] | None, environment: Mapping[str, str]) -> Worker:
    """The worker that ``--shard`` (None: not given) or a launcher's variables make of this process.

    Raises
    ------
    UsageError
        The variables contradict each other or the option.
    """
    rank, size = (_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    if rank is None and size is None:
        return Worker(option or (0, 1))
    if rank is None or size is None or rank >= size:
        raise _contradiction(environment, "RANK", "WORLD_SIZE")
    if size == 1:
        return Worker(option or (0, 1))
    if option not in (None, (rank, size)):
        raise UsageError(
            f"--shard {option[0]}/{option[1]} in rank {rank} of {size}",
            hint="under a launcher leave --shard out: RANK and WORLD_SIZE mean the same",
        )
    local, n_local = (_number(environment, name) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if local is None:
        return Worker((rank, size), is_launched=True)
    n_local = local + 1 if n_local is None else n_local
    if not local < n_local <= size or local > rank:
        raise _contradiction(environment, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Worker((rank, size), is_launched=True, device_index=local, n_local=n_local)


def tells(environment: Mapping[str, str]) -> bool:
    """Whether this process prints a refusal as JSON: one of those that a launcher began does."""
    try:
        return worker_share(None, environment).speaks
    except UsageError:
        return environment.get("RANK", "0") == "0"


def gpu_of(worker: Worker, device: str | None, n_gpus: int) -> int | None:
    """The GPU that a worker takes of the ``n_gpus`` it sees; None: whatever ``device`` says.

    Raises
    ------
    UsageError
        Two ranks would compute on one GPU.
    """
    name, _, number = (device or "auto").partition(":")
    is_one = bool(number) or name == "mps"  # whatever the rank
    if not worker.is_launched or name == "cpu" or not (n_gpus or is_one):
        return None
    if worker.device_index is None:
        raise UsageError("RANK is set, but not LOCAL_RANK, by which a rank takes its GPU", hint=_hint(n_gpus))
    if worker.n_local > (1 if is_one else n_gpus):
        shared = device if is_one else f"{n_gpus} GPU{'s' * (n_gpus != 1)}"
        raise UsageError(f"{worker.n_local} ranks of this machine would share {shared}", hint=_hint(n_gpus))
    return None if is_one else worker.device_index


def take_gpu(worker: Worker, device: str | None) -> None:
    """Make the worker's GPU the one that "cuda" means, so that all ranks record the same device."""
    if not worker.is_launched:
        return
    import torch

    index = gpu_of(worker, device, torch.cuda.device_count())
    if index is not None:
        torch.cuda.set_device(index)


def conclude(worker: Worker, evaluation: Evaluation, out: Path | None, *, as_json: bool, lines: Lines) -> int:
    """Tell the result, with what ``lines`` were not told yet; the exit code.

    A launched rank that has done its share ends with 0, whatever is in it: another code would make the
    launcher stop the others. Rank 0 waits for them and answers for all.
    """
    from merged_diffusion.cli import report
    from merged_diffusion.jobs.kept_runs import summary_of_run
    from merged_diffusion.runs import open_run

    if out is None or not worker.is_launched:
        summary = evaluation.summary()
        lines.held(evaluation)
        return report.show(summary, out, as_json=as_json, tell=lines.tell)
    if not worker.speaks:
        return 0
    await_others(worker, evaluation, out)
    evaluation.measure_mean()
    summary = evaluation.summary()
    lines.held(evaluation)
    if summary.n_missing:
        return report.show_kept(summary_of_run(open_run(out)), out, as_json=as_json, tell=lines.tell)
    return report.show(summary, out, as_json=as_json, tell=lines.tell)


def await_others(worker: Worker, evaluation: Evaluation, out: Path) -> None:
    """Wait until no image is missing, or nobody has been at work for a while."""
    from merged_diffusion.runs import others_at_work

    seen = time.monotonic()
    while True:
        if others_at_work(out, worker.shard):
            seen = time.monotonic()
        elif not evaluation.summary().n_missing or time.monotonic() - seen > GRACE_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} = {text!r} is no number", hint=UNSET)
    return int(text)


def _contradiction(environment: Mapping[str, str], *names: str) -> UsageError:
    found = ", ".join(f"{name} = {environment.get(name, 'unset')}" for name in names)
    return UsageError(f"{found}: inconsistent", hint=UNSET)


def _hint(n_gpus: int) -> str:
    return f"torchrun --nproc-per-node {max(n_gpus, 1)} with --device cuda, or --device cpu"
