"""Engines as they are, on the loopback interface: torchrun, Slurm's variables, a store; whoever is killed.

Whatever shares the images, the records are those of one process, bit for bit.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from tests.processes import end, rows, wait

SETTINGS = ("--data", "digits", "--limit", "12", "--seed", "5", "--batch-size", "1", "--threads", "1")
SETTINGS += ("--device", "cpu")
SWEEP = ("sweep", *SETTINGS, "--etas", "0,0.2,0.4", "--tol", "0.05")
DRAW = ("sample", "--pair", "digits", "--num", "12", "--sampler", "heun", "--steps", "9", "--seed", "5")
DRAW += ("--batch-size", "2", "--threads", "1", "--device", "cpu")


def slurm(rank, size, port=None):
    """As srun sets them, and the two of a store where the job's script exports them."""
    names = {"SLURM_PROCID": rank, "SLURM_NTASKS": size, "SLURM_LOCALID": rank}
    return names | ({} if port is None else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The rows of a sweep in one process."""
    where = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-m", "merged_diffusion", *SWEEP, "--out", str(where / "sweep"), "--json"]
    subprocess.run(command, check=True, capture_output=True)
    return rows(where / "sweep"), json.loads((where / "sweep" / "sweep.json").read_text())


def test_slurm_tasks_share_a_sweep_by_speed_though_one_is_killed(start, port, tmp_path, one):
    workers = [start(*SWEEP, "--out", "run", "--json", **slurm(i, 3, port)) for i in range(3)]
    wait((tmp_path / "run" / "quality" / "images-0001-of-0003.owner").exists, workers[1])
    workers[1].kill()
    out, err = end(workers[0])
    assert "note: worker 0 of 3, by SLURM_PROCID and SLURM_NTASKS; shares by speed, through the store" in err
    assert end(workers[2]) == ("", "")
    alone, table = one
    assert rows(tmp_path / "run") == alone
    found = json.loads(out)
    for key in ("best", "data", "settings"):
        assert found[key] == table[key]
    assert [row["paired"] for row in found["rows"]] == [row["paired"] for row in table["rows"]]


def test_the_others_end_when_the_holder_of_the_store_is_killed(start, port, tmp_path, one):
    workers = [start(*SWEEP, "--out", "run", **slurm(i, 2, port)) for i in range(2)]
    wait((tmp_path / "run" / "quality" / "images-0001-of-0002.owner").exists, workers[1])
    workers[0].kill()
    assert end(workers[1])[0] == ""
    assert rows(tmp_path / "run") == one[0]


def test_torchrun_shares_by_speed(start, tmp_path, one):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    _, err = end(start("merged_diffusion", *SWEEP, "--out", "run", launcher=launcher))
    assert err.count("shares by speed, through the store") == 1
    assert rows(tmp_path / "run") == one[0]
    table = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert table["evaluations"] == one[1]["evaluations"]


def test_shards_and_a_store_by_hand_agree(start, port, tmp_path, one):
    for name, options in {"fixed": (), "store": ("--store", f"127.0.0.1:{port}")}.items():
        for process in [start(*SWEEP, "--shard", f"{i}/2", *options, "--out", name) for i in range(2)]:
            end(process)
        assert rows(tmp_path / name) == one[0]


def test_samples_by_speed_are_those_of_one_process(start, port, tmp_path):
    workers = [start(*DRAW, "--out", "two.npz", **slurm(i, 2, port)) for i in range(2)]
    for process in [*workers, start(*DRAW, "--out", "one.npz")]:
        end(process)
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert all((one[key] == two[key]).all() for key in ("images", "ids"))
    assert not list(tmp_path.glob("*.part*"))
