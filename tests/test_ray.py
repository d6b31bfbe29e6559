"""Ray as it is, on the loopback interface: whoever is killed, the records are those of one process.

Where Ray is not installed these tests are skipped, and say so; the workflow has a job for them.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.processes import count, end, records, rows, wait

pytest.importorskip("ray", reason="Ray is not installed: pip install 'merged-diffusion[ray]'")

# A process of its own, which begins nodes and kills them as it is told, and says the processes of the last.
NODES = """
import os, sys
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
from ray.cluster_utils import Cluster
small = {"object_store_memory": 80_000_000, "include_dashboard": False}
cluster, nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1} | small), []
for line in sys.stdin:
    if line == "add\\n":
        nodes.append(cluster.add_node(num_cpus=2, object_store_memory=80_000_000))
        print(nodes[-1].all_processes["raylet"][0].process.pid, flush=True)
    elif line == "kill\\n":
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("killed", flush=True)
    else:
        print(cluster.address, flush=True)
cluster.shutdown()
"""
SETTINGS = ("--data", "digits", "--seed", "5", "--batch-size", "1", "--threads", "1", "--device", "cpu")
SWEEP = ("sweep", *SETTINGS, "--limit", "16", "--etas", "0,0.2,0.4", "--tol", "0.02")
DRAW = ("sample", "--pair", "digits", "--num", "12", "--sampler", "heun", "--steps", "3", "--seed", "5")
DRAW += ("--batch-size", "2", "--threads", "1", "--device", "cpu")
CHOICE = ("--data", "digits", "--limit", "4", "--seed", "5", "--tune-limit", "8", "--tol", "0.1", "--json")
CHOICE += ("--batch-size", "2", "--threads", "1", "--device", "cpu")
THRESHOLD, GATE = ("threshold", *CHOICE), ("gate", *CHOICE, "--exact", "2")
FID = ("fid", "digits", "--ref", "digits", "--batch-size", "8", "--threads", "1", "--device", "cpu", "--json")
VARYING = ("seconds", "evaluations", "calls", "calls_scaled_from")


class Nodes:
    """A head with one processor, and nodes of two that are added and killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NODES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.ask("address")

    def ask(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nodes():
    found = Nodes()
    yield found
    found.close()


@pytest.fixture
def node(nodes):
    """The pid of the raylet of a node that is there for one test."""
    pid = int(nodes.ask("add"))
    yield pid
    if Path(f"/proc/{pid}").exists():
        nodes.ask("kill")


def computing(raylet):
    """The workers of a node that are at a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == raylet and b"RayProcess.compute" in name:
            found.append(int(path.name))
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The rows of a sweep in one process."""
    where = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-m", "merged_diffusion", *SWEEP, "--out", str(where / "sweep"), "--json"]
    subprocess.run(command, check=True, capture_output=True)
    return rows(where / "sweep"), json.loads((where / "sweep" / "sweep.json").read_text())


def test_a_worker_that_is_killed_at_its_block_loses_nothing(start, nodes, node, tmp_path, one):
    driver = start(*SWEEP, "--out", "run", "--json", "--ray", nodes.address)
    wait(lambda: count(tmp_path / "run") >= 4 and computing(node), driver)
    os.kill(computing(node)[0], signal.SIGKILL)
    out, err = end(driver)
    alone, table = one
    assert rows(tmp_path / "run") == alone
    assert [row["paired"] for row in json.loads(out)["rows"]] == [row["paired"] for row in table["rows"]]
    assert f"note: Ray at {nodes.address}, room for 3 workers of 1 CPU" in err
    assert "note: lost a worker on " in err
    assert "raylet" not in err


def test_a_node_that_is_killed_loses_nothing(start, nodes, node, tmp_path, one):
    driver = start(*SWEEP, "--out", "run", "--ray", nodes.address)
    wait(lambda: count(tmp_path / "run") >= 4 and len(computing(node)) == 2, driver)
    nodes.ask("kill")
    _, err = end(driver)
    assert rows(tmp_path / "run") == one[0]
    assert err.count("note: lost a worker") >= 2


def test_a_command_that_is_killed_goes_on(start, nodes, tmp_path, one):
    driver = start(*SWEEP, "--out", "run", "--ray", nodes.address)
    wait(lambda: count(tmp_path / "run") >= 4, driver)
    driver.kill()
    driver.communicate()
    before = {path: path.read_bytes() for path in tmp_path.glob("run/*/images-*.jsonl")}
    end(start(*SWEEP, "--out", "run", "--ray", nodes.address))
    assert rows(tmp_path / "run") == one[0]
    for path, content in before.items():
        assert path.read_bytes().startswith(content[: content.rfind(b"\n") + 1])


def test_samples_and_bounds_are_those_of_one_process(start, nodes, tmp_path):
    vlb = ("vlb", *SETTINGS, "--limit", "8", "--times", "4", "--compare")
    for process in [
        start(*DRAW, "--out", "ray.npz", "--ray", nodes.address),
        start(*vlb, "--out", "ray", "--ray", nodes.address),
        start(*DRAW, "--out", "one.npz"),
        start(*vlb, "--out", "one"),
    ]:
        end(process)
    with np.load(tmp_path / "one.npz") as alone, np.load(tmp_path / "ray.npz") as other:
        assert all((alone[key] == other[key]).all() for key in ("images", "ids"))
    assert not list(tmp_path.glob("*.part*"))
    for part in (".", "likelihood", "quality"):
        assert records(tmp_path / "ray" / part) == records(tmp_path / "one" / part)


@pytest.mark.parametrize(
    ("number", "code", "where"), [(signal.SIGINT, 130, "local"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_keeps_what_is_there(start, nodes, tmp_path, number, code, where):
    where = where or nodes.address
    driver = start("nll", *SETTINGS, "--limit", "360", "--out", "run", "--json", "--ray", where)
    wait(lambda: count(tmp_path / "run") >= 2, driver)
    driver.send_signal(number)
    out, _ = end(driver, code)
    assert json.loads(out)
    kept = records(tmp_path / "run")
    assert 2 <= len(kept) < 360
    assert all(record.is_ok for record in kept)


def test_where_no_cluster_answers_it_is_said(start, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # which Ray sets where it begins a cluster
    _, err = end(start("nll", *SETTINGS, "--limit", "2", "--ray", "127.0.0.1:1", HOME=tmp_path), 2)
    assert "error: --ray 127.0.0.1:1: " in err
    assert "--ray local" in err
    assert "RAY_AUTH_MODE" not in err


def test_where_ray_has_kept_a_token_it_is_said_how_to_show_it(start, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # which Ray sets where it begins a cluster
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 32)
    _, err = end(start("nll", *SETTINGS, "--limit", "2", "--ray", "127.0.0.1:1", HOME=tmp_path), 2)
    assert "export RAY_AUTH_MODE=token" in err


def decided(out):
    """What a command printed, without what a clock says, and counts that are scaled from whole blocks."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in VARYING}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return kept(json.loads(out))


def test_a_threshold_is_that_of_one_process_though_a_worker_is_killed(start, nodes, node, tmp_path):
    driver = start(*THRESHOLD, "--work", "work", "--ray", nodes.address)
    wait(lambda: (tmp_path / "work" / "confirmed").exists() and computing(node), driver)
    os.kill(computing(node)[0], signal.SIGKILL)
    out, err = end(driver)
    assert "note: lost a worker on " in err
    assert decided(out) == decided(end(start(*THRESHOLD))[0])


def test_a_gate_that_is_killed_goes_on(start, nodes, tmp_path):
    driver = start(*GATE, "--work", "work", "--ray", nodes.address)
    wait(lambda: list(tmp_path.glob("work/fit/products/*.npz")), driver)
    driver.kill()
    driver.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/f*/*/*.npz")}
    again, alone = start(*GATE, "--work", "work", "--ray", nodes.address), start(*GATE)
    assert decided(end(again)[0]) == decided(end(alone)[0])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_features_are_those_of_one_process(start, nodes, node, tmp_path):
    ray, alone = start(*FID, "--ray", nodes.address), start(*FID)
    out, err = end(ray)
    assert decided(out) == decided(end(alone)[0])
    assert f"note: Ray at {nodes.address}" in err
    assert not list(tmp_path.iterdir())
