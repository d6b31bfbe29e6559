"""How near to the ideal time do workers of different speed come? And do they leave the records of one?

Worker processes on this machine share a ``sweep`` through a store, or are those of a Ray of two nodes
(``--ray``, extra ``ray``), of which the slow worker is one; their experts sleep at each call in the
place of computing, one of them so many times longer. The ideal time is that of the same calls in the
proportion of the speeds. It is counted from the first record to the last one, without what starting takes.

    python benches/python/shares.py --workers 4 --slow 8 --images 96 [--ray]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

EXPERTS = """
import os, time
import merged_diffusion as md

class Slow(md.GaussianExpert):
    def __call__(self, z, gamma, cond=None):
        time.sleep(float(os.environ["SLEEP"]))
        return super().__call__(z, gamma, cond)

likelihood = Slow((1, 4, 4), variance=0.25)
quality = Slow((1, 4, 4), variance=0.3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slow", type=float, default=8.0, help="how many times slower the last worker is")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--sleep", type=float, default=0.01, help="seconds of a call of the others")
    parser.add_argument("--etas", default="0.2,0.4,0.6")
    parser.add_argument("--kill", type=int, help="the worker to kill when a third of the images is there")
    parser.add_argument("--ray", action="store_true", help="by Ray, in the place of a store")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given, Path(folder))))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    import numpy as np

    (folder / "experts.py").write_text(EXPERTS)
    images = np.random.default_rng(0).integers(0, 256, (given.images, 1, 4, 4), dtype=np.uint8)
    np.savez(folder / "set.npz", images=images)
    options = ["sweep", "--data", "set.npz", "--levels", "256", "--etas", given.etas, "--batch-size", "1"]
    options += ["--likelihood-expert", "experts.py:likelihood", "--quality-expert", "experts.py:quality"]
    options += ["--threads", "1", "--device", "cpu", "--tol", "0.05", "--quiet"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def begin(out: str, sleep: float, *own: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "merged_diffusion", *options, "--out", out, *own]
        environment = os.environ | {"SLEEP": str(sleep)}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)

    speeds = [1.0] * (given.workers - 1) + [1 / given.slow]
    if given.ray:
        nodes = RayNodes(given.sleep, speeds)
        commands = [begin("run", given.sleep, "--ray", nodes.address)]
        kill = nodes.kill
    else:
        commands = [
            begin(
                "run", given.sleep / speed, "--shard", f"{i}/{given.workers}", "--store", f"127.0.0.1:{port}"
            )
            for i, speed in enumerate(speeds)
        ]

        def kill(worker: int) -> None:
            commands[worker].kill()

    is_killed = given.kill is None
    first, last, n_wanted = None, 0.0, given.images * len(given.etas.split(","))
    while (n := _count(folder / "run")) < n_wanted:
        last = time.monotonic()
        first = last if first is None and n else first
        if not is_killed and n > n_wanted / 3:
            is_killed = True
            kill(given.kill)
        time.sleep(0.02)
    took = time.monotonic() - (first or last)
    for i, command in enumerate(commands):
        assert command.wait() == 0 or (i == given.kill and not given.ray)
    if given.ray:
        nodes.close()
    assert begin("one", 0.0).wait() == 0
    from merged_diffusion.runs import open_run

    rows = sorted(path.parent.name for path in (folder / "one").glob("*/settings.json"))
    one, run = ([_records(open_run(folder / name / row)) for row in rows] for name in ("one", "run"))
    spent = json.loads((folder / "one" / "sweep.json").read_text())["evaluations"]["spent"]
    ideal = spent * given.sleep / sum(speeds)
    return {"seconds": took, "ideal": ideal, "ratio": took / ideal, "same_records": one == run}


class RayNodes:
    """A node for the fast workers and one for the slow one; the head computes nothing."""

    def __init__(self, sleep: float, speeds: list[float]) -> None:
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | small)
        self.address = self._cluster.address
        fast, slow = (
            self._cluster.add_node(num_cpus=n, env_vars={"SLEEP": str(sleep / speed)}, **small)
            for n, speed in ((len(speeds) - 1, speeds[0]), (1, speeds[-1]))
        )
        self._raylets = [
            node.all_processes["raylet"][0].process.pid for node in [fast] * (len(speeds) - 1) + [slow]
        ]

    def kill(self, worker: int) -> None:
        """One of its node."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                name = (path / "cmdline").read_bytes()
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self._raylets[worker] and b"RayProcess" in name:
                os.kill(int(path.name), 9)
                return
        raise AssertionError("no worker is there")

    def close(self) -> None:
        self._cluster.shutdown()


def _count(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/images-*.jsonl"))


def _records(run):  # type: ignore[no-untyped-def]
    return [replace(record, environment=None) for record in run.records()]


if __name__ == "__main__":
    main()
