"""Workers: the share of the images that this process computes, on which GPU, and who tells the result.

``--shard I/N`` names a share; the variables of a launcher (``torchrun -m merged_diffusion``, ``srun``) mean
the same, and each rank of a machine takes the GPU of its local number. Where the launch has a store
(MASTER_ADDR and MASTER_PORT, or ``--store``), shares follow speed. Workers share nothing else but the
directory of the run; rank 0 tells the result of all once their records are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from merged_diffusion.cli import output
from merged_diffusion.cli.launchers import rank_of
from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    from merged_diffusion.cli.json_lines import Lines
    from merged_diffusion.jobs.blocks import Blocks
    from merged_diffusion.jobs.evaluation import Evaluation
    from merged_diffusion.sweeps.carry_out import Sweep

POLL_SECONDS: Final = 1.0
# How long rank 0 waits for a rank that is not at work: one that is about to start, or was lost.
GRACE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Worker:
    """Worker I of N; ``device_index`` and ``n_local`` (ranks on this machine) where a launcher says them.

    ``n_gpus`` are those of this machine, as Slurm says; ``variables`` are the launcher's that said all this.
    """

    shard: tuple[int, int]
    is_launched: bool = False
    device_index: int | None = None
    n_local: int = 1
    n_gpus: int = 0
    variables: str = field(default="", compare=False)

    @property
    def speaks(self) -> bool:
        """Whether progress and result are this process's to tell: of launched ones, rank 0's."""
        return not self.is_launched or self.shard[0] == 0

    def check_out(self, out: Path | None, store: tuple[str, int] | Literal["off"] | None = None) -> None:
        """`UsageError` where workers would have no place in common for the records that they share out."""
        if out is not None:
            return
        if self.is_launched or (store not in (None, "off") and self.shard[1] > 1):
            who = "ranks" if self.is_launched else "workers with a --store"
            raise UsageError(
                f"{self.shard[1]} {who} keep their records in one directory, and none is given",
                hint="give --out DIR",
            )


def worker_share(option: tuple[int, int] | None, environment: Mapping[str, str]) -> Worker:
    """The worker that ``--shard`` (None: not given) or a launcher's variables make of this process.

    Raises
    ------
    UsageError
        The variables contradict each other or the option.
    """
    rank = rank_of(environment)
    if rank is None:
        return Worker(option or (0, 1))
    if option not in (None, (rank.index, rank.count)):
        raise UsageError(
            f"--shard {option[0]}/{option[1]} in rank {rank.index} of {rank.count}",
            hint=f"under a launcher leave --shard out: {rank.variables} mean the same",
        )
    return Worker(
        (rank.index, rank.count),
        is_launched=True,
        device_index=rank.local,
        n_local=rank.n_local,
        n_gpus=rank.n_gpus,
        variables=rank.variables,
    )


def tells(environment: Mapping[str, str]) -> bool:
    """Whether this process prints a refusal as JSON: one of those that a launcher began does."""
    try:
        return worker_share(None, environment).speaks
    except UsageError:
        return environment.get("RANK", environment.get("SLURM_PROCID", "0")) == "0"


def store_address(
    worker: Worker, option: tuple[str, int] | Literal["off"] | None, environment: Mapping[str, str]
) -> tuple[str, int] | None:
    """Where the workers' store is: as ``--store`` says, else MASTER_ADDR and MASTER_PORT of a launch.

    Raises
    ------
    UsageError
        ``--store`` for a worker that is alone, or a port that is no number.
    """
    if option == "off":
        return None
    if option is not None:
        if worker.shard[1] == 1:
            raise UsageError(
                f"--store {option[0]}:{option[1]}, but this is the only worker",
                hint="say which one of how many it is, --shard I/N; worker 0 holds the store",
            )
        return option
    host, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if not worker.is_launched or host is None or port is None:
        return None
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise UsageError(f"MASTER_PORT = {port!r} is no port", hint="--store off shares the images evenly")
    return host, int(port)


def blocks_of(
    worker: Worker,
    option: tuple[str, int] | Literal["off"] | None,
    environment: Mapping[str, str],
    *,
    quiet: bool,
) -> Blocks:
    """How the worker shares the images with the others, which is said once; a store that fails, by each."""
    from merged_diffusion.jobs.blocks import FixedShare

    address = store_address(worker, option, environment)
    if address is None:
        shares: Blocks = FixedShare(worker.shard)
        how = "fixed shares of the images"
    else:
        shares, how = _by_speed(worker, address, environment, quiet=quiet)
    if not quiet and worker.speaks and (worker.is_launched or address is not None):
        said = f", by {worker.variables}" if worker.variables else ""
        output.say(f"note: worker {worker.shard[0]} of {worker.shard[1]}{said}; {how}")
    return shares


def _by_speed(
    worker: Worker, address: tuple[str, int], environment: Mapping[str, str], *, quiet: bool
) -> tuple[Blocks, str]:
    from merged_diffusion.jobs.blocks import FixedShare
    from merged_diffusion.jobs.launch_store import LaunchStore
    from merged_diffusion.jobs.speed_shares import SpeedShares, StoreLost

    def tell(text: str) -> None:
        if not quiet:
            output.say(f"note: {text}")

    is_served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = worker.shard[0] == 0 and not is_served
    try:
        # Without TORCHELASTIC_RESTART_COUNT, which each node's agent counts for itself.
        store = LaunchStore(*address, serves=serves, prefix=environment.get("TORCHELASTIC_RUN_ID", ""))
    except StoreLost as error:
        how = f"fixed shares of the images, as there is {error}"
        if not worker.speaks:
            tell(f"worker {worker.shard[0]} of {worker.shard[1]}; {how}")
        return FixedShare(worker.shard), how
    return SpeedShares(store, worker.shard, tell), f"shares by speed, through the store at {store.address}"


def await_latecomers(worker: Worker, blocks: Blocks, *, quiet: bool) -> None:
    """Stay for workers that have not begun, where the store through which they share ends with this one."""
    from merged_diffusion.jobs.speed_shares import SpeedShares

    if not isinstance(blocks, SpeedShares):
        return
    from merged_diffusion.jobs.launch_store import AWAIT_SECONDS, LaunchStore

    def tell(n: int) -> None:
        if not quiet:
            who = "a worker that has" if n == 1 else f"{n} workers that have"
            output.say(f"note: stays up to {AWAIT_SECONDS:.0f} s for {who} not begun")

    if isinstance(blocks.store, LaunchStore):
        blocks.store.await_workers(worker.shard[1], tell)


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
    if not is_one and n_gpus == 1 < worker.n_local <= worker.n_gpus:
        return 0  # Slurm has bound each task to a GPU of its own, the only one that it sees
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
    from merged_diffusion.runs import open_run, others_at_work

    if out is None or not worker.is_launched:
        summary = evaluation.summary()
        lines.held(evaluation)
        return report.show(summary, out, as_json=as_json, tell=lines.tell)
    if not worker.speaks:
        return 0
    shard = worker.shard
    await_others(lambda: others_at_work(out, shard), lambda: evaluation.summary().n_missing)
    evaluation.measure_mean()
    summary = evaluation.summary()
    lines.held(evaluation)
    if summary.n_missing:
        return report.show_kept(summary_of_run(open_run(out)), out, as_json=as_json, tell=lines.tell)
    return report.show(summary, out, as_json=as_json, tell=lines.tell)


def conclude_sweep(worker: Worker, sweep: Sweep, out: Path | None, *, as_json: bool) -> int:
    """The same of a sweep."""
    from merged_diffusion.cli import sweep_report

    if worker.shard[1] > 1:
        if not worker.speaks:
            return 0
        # One worker waits: two that hold their runs open would wait for each other.
        if worker.shard[0] == 0 and (worker.is_launched or sweep.blocks.answers_for == (0, 1)):
            await_others(sweep.rows.others_at_work, sweep.rows.n_missing)
            sweep.count_again()
    return sweep_report.show(sweep.result(), out, as_json=as_json)


def await_others(at_work: Callable[[], bool], n_missing: Callable[[], int]) -> None:
    """Wait until no image is missing, or nobody has been at work for a while.

    One that is at work when nothing has been missing for a while hangs, and is waited for no longer.
    """
    seen = asked = time.monotonic()
    is_complete = False  # when last asked, which takes reading all records
    while True:
        now = time.monotonic()
        if at_work():
            seen = now
            if now - asked > GRACE_SECONDS:
                if is_complete:
                    return
                is_complete, asked = not n_missing(), now
        elif not n_missing() or now - seen > GRACE_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def _hint(n_gpus: int) -> str:
    return f"torchrun --nproc-per-node {max(n_gpus, 1)} with --device cuda, or --device cpu"
