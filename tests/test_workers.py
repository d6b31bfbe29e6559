"""Several processes on one run: fixed shares, whoever is killed, however many go on; one summary."""

import json
import math
import os
import re
import signal
from types import SimpleNamespace

import pytest
import torch
from tests.processes import COMMAND, end, records, wait

from merged_diffusion.cli import main, workers
from merged_diffusion.cli.workers import Worker, gpu_of, store_address, take_gpu, worker_share
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs import launch_store
from merged_diffusion.jobs.speed_shares import StoreLost
from merged_diffusion.runs import Run, open_run, others_at_work
from merged_diffusion.runs.journal import Journal, is_at_work
from merged_diffusion.scores.record import Record

NLL = ("nll", "--data", "digits", "--ids", "0:8", "--tol", "0.01", "--seed", "5")
NLL += ("--batch-size", "1", "--threads", "1", "--device", "cpu")
SETTINGS = {"command": "nll", "model": "merged", "settings": {"batch_size": 1}, "data": {"n_set": 4}}


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """A command in this process: ``.code``, ``.out``, ``.err``, ``.json``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")

    def run(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        code = main([str(argument) for argument in arguments])
        for name in variables:
            monkeypatch.delenv(name)
        out, err = capsys.readouterr()
        return SimpleNamespace(
            code=code, out=out, err=err, json=json.loads(out) if "--json" in arguments and out else None
        )

    return run


def numbers(summary):
    """A summary without what a clock says."""
    return {k: v for k, v in summary.items() if k not in ("seconds", "seconds_outside_network")}


def test_four_shards_one_killed_and_the_rest_as_two_give_the_bits_of_one(call, start, tmp_path):
    shards = [start(*NLL, "--out", "run", "--shard", f"{i}/4", "--quiet") for i in range(4)]
    log = tmp_path / "run" / "images-0002-of-0004.jsonl"
    wait(lambda: log.exists() and log.read_bytes().count(b"\n"), shards[2])
    shards[2].kill()
    for index in (0, 1, 3):
        end(shards[index])
    partial = call("runs", "show", "run", "--json")
    assert partial.code == partial.json["code"] == 9
    assert partial.json["error"]["type"] == "IncompleteError"
    assert partial.json["missing"] == partial.json["error"]["fields"]["missing"] == [6]
    assert "6" in call("runs", "show", "run").err
    for process in [start(*NLL, "--out", "run", "--shard", f"{i}/2", "--quiet") for i in (0, 1)]:
        end(process)
    whole, one = call("runs", "show", "run", "--json"), call(*NLL, "--out", "one", "--json", "--quiet")
    assert whole.code == one.code == 0
    assert records("run") == records("one")
    shown = numbers(whole.json) | {"missing": None}
    assert shown == numbers(one.json) | {"missing": None}
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert numbers(kept) == numbers(one.json)


def test_torchrun_with_two_processes_prints_the_summary_of_one(call, start, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND)
    command = (*NLL, "--out", "run", "--json")
    broken = start(*command, launcher=launcher)
    log = tmp_path / "run" / "images-0001-of-0002.jsonl"
    wait(lambda: log.exists() and log.read_bytes().count(b"\n"), broken)
    os.kill(json.loads(log.with_suffix(".owner").read_text())["pid"], signal.SIGKILL)
    out, _ = broken.communicate(timeout=60)  # it does not hang
    assert broken.returncode != 0
    assert out == "" or json.loads(out)["code"] == 143
    assert call("runs", "show", "run", "--json").code == 9
    again = start(*command, launcher=launcher)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert err.count("estimate:") == 1
    one = call(*NLL, "--out", "one", "--json", "--quiet")
    assert numbers(json.loads(out)) == numbers(one.json)
    assert records("run") == records("one")


def test_lost_images_are_code_9_with_their_list_and_the_next_launch_brings_them(call, monkeypatch):
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.0)
    lost = call(*NLL, "--out", "run", "--json", RANK=0, WORLD_SIZE=2)
    assert lost.code == lost.json["code"] == 9
    assert lost.json["missing"] == lost.json["error"]["fields"]["missing"] == [1, 3, 5, 7]
    other = call(*NLL, "--out", "run", "--json", RANK=1, WORLD_SIZE=2)
    assert (other.code, other.out, other.err) == (0, "", "")
    again = call(*NLL, "--out", "run", "--json", RANK=0, WORLD_SIZE=3)
    assert again.code == again.json["n_missing"] == 0


def test_rank_0_waits_for_those_at_work_and_no_longer(tmp_path, monkeypatch):
    with Run.open(tmp_path, SETTINGS, shard=(1, 2)):
        assert others_at_work(tmp_path, (0, 2))
        assert not others_at_work(tmp_path, (1, 2))
    asked, working, missing = [], iter([True] * 5 + [False] * 3), iter([2, 2, 0])
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.01)
    workers.await_others(lambda: asked.append(1) or next(working), lambda: next(missing))
    assert (len(asked), next(missing, None)) == (8, None)
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.05)
    workers.await_others(lambda: False, lambda: 1)


def test_rank_0_waits_no_longer_for_one_that_hangs_when_nothing_is_missing(monkeypatch):
    now, missing = [0.0], iter([1, 0, 0])
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: now.append(now.pop() + seconds))

    def hangs():
        assert now[0] < 1000, "it waits for ever"
        return True

    workers.await_others(hangs, lambda: next(missing))
    assert now[0] <= 3 * workers.GRACE_SECONDS + 4  # asked twice, and one look later


HOLD = """import sys, time
from pathlib import Path
from merged_diffusion.runs.journal import Journal
journal = Journal(Path(sys.argv[1]))
time.sleep(600)
"""


def test_a_killed_worker_is_not_at_work(start, tmp_path):
    path = tmp_path / "images-0001-of-0002.jsonl"
    process = start(path, launcher=("-c", HOLD))
    wait(path.with_suffix(".owner").exists, process)
    assert is_at_work(path)
    process.kill()
    process.wait()
    assert path.with_suffix(".owner").exists()
    assert not is_at_work(path)
    Journal(path).close()
    assert not path.with_suffix(".owner").exists()


def test_a_worker_that_fails_at_its_start_leaves_the_run_to_the_others(tmp_path):
    first = Run.open(tmp_path / "run", SETTINGS, shard=(0, 2))
    second = Run.open(tmp_path / "run", SETTINGS, shard=(1, 2))
    first.discard_if_unused()
    second.append(Record(id=1, status="ok", evaluations={}))
    second.close()
    assert [r.id for r in open_run(tmp_path / "run").records()] == [1]


def test_the_last_of_two_summaries_counts_all_records(start, tmp_path):
    path = tmp_path / "run"
    code = """if True:
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[3])
        from tests_settings import SETTINGS
        from merged_diffusion.runs import Run
        from merged_diffusion.scores.record import Record
        path, i = Path(sys.argv[1]), int(sys.argv[2])
        with Run.open(path, SETTINGS, shard=(i, 4)) as run:
            run.append(Record(id=i, status="ok", evaluations={}))
            run.write_summary(lambda: {"n": len(run.records())})
    """
    (tmp_path / "tests_settings.py").write_text(f"SETTINGS = {SETTINGS!r}")
    for process in [start(path, i, tmp_path, launcher=("-c", code)) for i in range(4)]:
        end(process)
    assert json.loads((path / "summary.json").read_text()) == {"n": 4}


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_the_share_is_the_option_or_the_rank():
    assert worker_share(None, {}) == Worker((0, 1))
    assert worker_share((2, 4), {"LOCAL_RANK": "1"}) == Worker((2, 4))
    launched = worker_share(None, TORCHRUN)
    assert launched == Worker((3, 4), is_launched=True, device_index=1, n_local=2)
    assert worker_share((3, 4), TORCHRUN) == launched
    assert worker_share((2, 4), {"RANK": "0", "WORLD_SIZE": "1"}) == Worker((2, 4))
    assert [worker_share(None, TORCHRUN | {"RANK": r}).speaks for r in "123"] == [False] * 3
    assert worker_share(None, TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"}).speaks


SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2"}


def test_slurms_variables_mean_what_torchruns_do():
    launched = worker_share(None, SLURM)
    assert launched == Worker((3, 4), is_launched=True, device_index=1, n_local=2)
    assert worker_share(None, SLURM | TORCHRUN) == launched
    hand = {"RANK": "3", "WORLD_SIZE": "4"}
    assert worker_share(None, SLURM | hand) == launched
    assert worker_share((3, 4), SLURM) == launched
    uneven = {"SLURM_STEP_TASKS_PER_NODE": "1(x2),2", "SLURM_NODEID": "2"}
    assert worker_share(None, SLURM | uneven).n_local == 2
    assert worker_share((1, 2), SLURM | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}) == Worker((1, 2))


def test_torchrun_in_tasks_of_slurm_has_its_own_ranks():
    """Slurm's tasks are the agents then: two nodes with two ranks each."""
    agent = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0", "TORCHELASTIC_RUN_ID": "7"}
    assert worker_share(None, TORCHRUN | agent).shard == (3, 4)


def test_the_script_of_sbatch_is_no_task():
    """It sees how many tasks there would be, but is one process until it calls srun."""
    batch = SLURM | {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert worker_share(None, batch) == Worker((0, 1))
    assert worker_share(None, batch | {"SLURM_STEP_ID": "0"}).shard == (0, 4)


def test_a_task_that_sees_its_own_gpu_alone_takes_it():
    worker = worker_share(None, SLURM | {"SLURM_GPUS_PER_TASK": "1"})
    assert gpu_of(worker, None, 1) == 0


def test_tasks_that_slurm_has_bound_to_a_gpu_each_take_the_one_that_they_see():
    bound = SLURM | {"SLURM_GPUS_ON_NODE": "2"}
    for variables in (bound, bound | TORCHRUN):
        worker = worker_share(None, variables)
        assert [gpu_of(worker, None, n_gpus) for n_gpus in (1, 2)] == [0, 1]
    with pytest.raises(UsageError, match="2 ranks of this machine would share 1 GPU"):
        gpu_of(worker_share(None, SLURM | {"SLURM_GPUS_ON_NODE": "1"}), None, 1)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            SLURM | {"SLURM_PROCID": "4"},
            "SLURM_PROCID = 4, SLURM_NTASKS = 4, SLURM_LOCALID = 1: inconsistent",
        ),
        (SLURM | {"SLURM_NTASKS": "four"}, "SLURM_NTASKS = 'four' is no number"),
        (SLURM | {"SLURM_NTASKS_PER_NODE": "1"}, "SLURM_NTASKS_PER_NODE = 1: inconsistent"),
        (SLURM | TORCHRUN | {"RANK": "2"}, "RANK = 2, WORLD_SIZE = 4, LOCAL_RANK = 1, SLURM_PROCID = 3"),
        (SLURM | TORCHRUN | {"SLURM_LOCALID": "0"}, "SLURM_LOCALID = 0: inconsistent"),
        (SLURM | {"SLURM_TASKS_PER_NODE": "2(x"}, "not as 2"),
    ],
)
def test_contradictions_of_slurm_are_refused(variables, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        worker_share(None, variables)


def test_the_store_is_the_launchs_or_the_options():
    worker, alone = Worker((1, 2), is_launched=True), Worker((0, 1))
    launch = {"MASTER_ADDR": "node-1", "MASTER_PORT": "29500"}
    assert store_address(worker, None, launch) == ("node-1", 29500)
    assert store_address(worker, ("node-2", 1), launch) == ("node-2", 1)
    assert store_address(worker, "off", launch) is None
    assert store_address(Worker((1, 2)), None, launch) is None
    assert store_address(worker, None, {}) is None
    with pytest.raises(UsageError, match="only worker"):
        store_address(alone, ("node-2", 1), {})
    with pytest.raises(UsageError, match="MASTER_PORT = 'x' is no port"):
        store_address(worker, None, launch | {"MASTER_PORT": "x"})


class Opened:
    """A store that only says how it was opened."""

    address = "node-1:29500"

    def __init__(self, *_, **options):
        self.options = options


def test_a_restart_of_one_node_leaves_all_in_the_same_store(monkeypatch):
    monkeypatch.setattr(launch_store, "LaunchStore", Opened)
    launch = TORCHRUN | {"MASTER_ADDR": "node-1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "7"}
    found = [
        workers.blocks_of(
            worker_share(None, launch), None, launch | {"TORCHELASTIC_RESTART_COUNT": n}, quiet=True
        )
        for n in "01"
    ]
    assert found[0].store.options == found[1].store.options == {"prefix": "7", "serves": False}


def test_any_rank_tells_that_it_has_no_store(call, monkeypatch):
    def refuse(*_, **__):
        raise StoreLost("no store at node-1:1")

    monkeypatch.setattr(launch_store, "LaunchStore", refuse)
    launch = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "node-1", "MASTER_PORT": 1}
    told = call(*NLL, "--out", "run", **launch)
    assert (told.code, told.out) == (0, "")
    assert told.err == ("note: worker 1 of 2; fixed shares of the images, as there is no store at node-1:1\n")
    assert call(*NLL, "--out", "run", "--quiet", **launch).err == ""


def test_a_worker_that_begins_when_all_is_done_finds_the_store(start, tmp_path, port):
    command = (*NLL, "--out", "run", "--store", f"127.0.0.1:{port}")
    first = start(*command, "--shard", "0/2")
    wait(lambda: (tmp_path / "run" / "summary.json").exists(), first)
    out, err = end(start(*command, "--shard", "1/2"))
    assert "worker 1 of 2; shares by speed" in err
    told, said = end(first)
    assert out == told
    assert said.endswith("note: stays up to 60 s for a worker that has not begun\n")


def test_the_store_is_held_no_longer_than_that_for_workers_that_never_begin(port, monkeypatch):
    monkeypatch.setattr(launch_store, "AWAIT_SECONDS", 0.1)
    told = []
    store = launch_store.LaunchStore("127.0.0.1", port, serves=True)
    store.await_workers(1, told.append)
    store.await_workers(3, told.append)
    launch_store.LaunchStore("127.0.0.1", port, serves=False).await_workers(5, told.append)
    monkeypatch.setattr(launch_store, "AWAIT_SECONDS", math.inf)
    store.await_workers(2, told.append)
    assert told == [2]


def test_workers_with_a_store_need_a_directory_in_common(call):
    result = call(*NLL, "--shard", "0/2", "--store", "127.0.0.1:1", "--json")
    assert result.code == 2
    assert "2 workers with a --store" in result.json["error"]["message"]
    Worker((0, 2)).check_out(None, "off")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "1"}, "RANK = 1, WORLD_SIZE = unset: inconsistent"),
        ({"WORLD_SIZE": "2"}, "RANK = unset, WORLD_SIZE = 2: inconsistent"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK = 2, WORLD_SIZE = 2: inconsistent"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "inconsistent"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK = '-1' is no number"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK = 'one' is no number"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK = '' is no number"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "LOCAL_RANK = 2, LOCAL_WORLD_SIZE = 2: inconsistent"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "5"}, "LOCAL_WORLD_SIZE = 5: inconsistent"),
        (TORCHRUN | {"RANK": "0"}, "LOCAL_RANK = 1"),
    ],
)
def test_an_inconsistent_rank_and_world_size_is_refused_at_start(call, variables, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        worker_share(None, variables)
    result = call(*NLL, "--out", "run", **variables)
    assert result.code == 2
    assert said in result.err
    assert "unset RANK and WORLD_SIZE" in result.err
    assert not list(tmp_path.iterdir())


def test_a_shard_beside_a_rank_must_be_the_same(call):
    with pytest.raises(UsageError, match="--shard 0/4 in rank 3 of 4"):
        worker_share((0, 4), TORCHRUN)


def test_ranks_need_a_directory_in_common(call):
    result = call(*NLL, "--json", RANK=0, WORLD_SIZE=2)
    assert result.code == 2
    assert "--out" in result.json["error"]["hint"]
    assert call(*NLL, "--json", RANK=1, WORLD_SIZE=2).json is None


def test_only_rank_0_shows_the_plan(call, tmp_path):
    dry = (*NLL, "--out", "run", "--dry-run", "--json")
    assert call(*dry, RANK=0, WORLD_SIZE=2).json["dry_run"] is True
    other = call(*dry, RANK=1, WORLD_SIZE=2)
    assert (other.code, other.out, other.err) == (0, "", "")
    assert not list(tmp_path.iterdir())


def ranks(n, **changes):
    """All workers of one machine."""
    size = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
    return [worker_share(None, size | {"RANK": str(i), "LOCAL_RANK": str(i)} | changes) for i in range(n)]


@pytest.mark.parametrize("device", [None, "auto", "cuda"])
def test_each_local_rank_takes_its_own_gpu(device):
    assert [gpu_of(worker, device, 4) for worker in ranks(4)] == [0, 1, 2, 3]
    assert [gpu_of(worker, device, 8) for worker in ranks(2)] == [0, 1]


@pytest.mark.parametrize(
    ("n", "device", "n_gpus", "said"),
    [
        (2, None, 1, "2 ranks of this machine would share 1 GPU"),
        (2, "cuda", 1, "2 ranks of this machine would share 1 GPU"),
        (4, "auto", 3, "4 ranks of this machine would share 3 GPUs"),
        (2, "cuda:1", 2, "2 ranks of this machine would share cuda:1"),
        (2, "mps", 0, "2 ranks of this machine would share mps"),
    ],
)
def test_two_ranks_on_one_gpu_are_refused(n, device, n_gpus, said):
    for worker in ranks(n):
        with pytest.raises(UsageError, match=re.escape(said)):
            gpu_of(worker, device, n_gpus)


def test_without_gpus_or_a_launcher_nothing_is_taken():
    assert {gpu_of(worker, "cpu", 1) for worker in ranks(2)} == {None}
    assert {gpu_of(worker, None, 0) for worker in ranks(2)} == {None}
    assert gpu_of(worker_share(None, {}), "cuda:1", 2) is None
    assert gpu_of(ranks(1)[0], "cuda:0", 1) is None
    unplaced = worker_share(None, {"RANK": "0", "WORLD_SIZE": "2"})
    assert gpu_of(unplaced, "cpu", 2) is None
    with pytest.raises(UsageError, match="LOCAL_RANK"):
        gpu_of(unplaced, None, 2)


def test_cuda_means_the_gpu_of_the_rank(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for worker in (*ranks(2), Worker((0, 4))):
        take_gpu(worker, None)
    assert taken == [0, 1]
