"""Workers of ``threshold``, ``gate`` and ``fid`` on the loopback interface: the numbers of one process.

Workers are forks of one process. Their networks sleep, each for as long as the worker's variable NAP says.
"""

import json
import os
import signal
import time

import numpy as np
import pytest

from merged_diffusion import load_data
from merged_diffusion.reports.worker_progress import Watch

from .forks import Forks

pytestmark = pytest.mark.filterwarnings("ignore:at gamma_min")

EXPERTS = """
import os, time
import torch

class Normal(torch.nn.Module):
    pixels, levels, image_shape, conditional = "centred", 17, (1, 8, 8), False

    def __init__(self, name, low=-7.876, high=8.764, std=0.7):
        super().__init__()
        self.name, self.gamma_range = name, (low, high)
        self.register_buffer("std", torch.tensor(std))
        self.eval()

    def forward(self, z, gamma, cond=None):
        time.sleep(float(os.environ.get("NAP", 0)))
        g = gamma.to(z.dtype).view(-1, 1, 1, 1)
        variance = torch.sigmoid(-g) * self.std**2 + torch.sigmoid(g)
        return torch.sigmoid(g).sqrt() * z / variance

def likelihood(): return Normal("likelihood", high=5.0, std=0.64)
def middle(): return Normal("middle", low=-7.5, high=7.0, std=0.66)
def quality(): return Normal("quality", low=-7.006, std=0.72)
"""
HOW = ("--data", "digits", "--ids", "0:4", "--seed", "5", "--tol", "0.5", "--dequantise", "decoder")
HOW += ("--tune-limit", "8", "--batch-size", "2", "--threads", "1", "--device", "cpu", "--json", "--quiet")
# Of three experts, what others than the chosen cost is by the seconds of a call.
VARYING = (
    "seconds",
    "versions",
    "out",
    "call_seconds",
    "pilot_seconds",
    "calls",
    "choices",
    "calls_scaled_from",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a file of experts and one of samples."""
    where = tmp_path_factory.mktemp("home")
    (where / "experts.py").write_text(EXPERTS)
    train = load_data("digits", split="train")
    np.savez(where / "samples.npz", images=train.images[:40], ids=np.arange(40), levels=17)
    return where


@pytest.fixture(scope="module")
def commands(home):
    pair = ("--likelihood-expert", f"{home}/experts.py:likelihood")
    pair += ("--quality-expert", f"{home}/experts.py:quality")
    three = [
        word
        for name in ("likelihood", "middle", "quality")
        for word in ("--expert", f"{home}/experts.py:{name}")
    ]
    samples = (
        home / "samples.npz",
        "--ref",
        "digits",
        "--batch-size",
        "4",
        "--threads",
        "1",
        "--device",
        "cpu",
    )
    return {
        "threshold": ("threshold", *HOW, *pair),
        "gate": ("gate", *HOW, *pair, "--exact", "2"),
        "gate of three": ("gate", *HOW, *three, "--form", "full", "--exact", "2"),
        "fid": ("fid", *samples, "--json", "--quiet"),
    }


@pytest.fixture(scope="module")
def forks():
    running = Forks()
    yield running
    running.close()


@pytest.fixture(scope="module")
def alone(commands, home, forks):
    """What one process says, without a directory."""
    found = {}

    def told(name):
        if name not in found:
            child = forks.begin(home / f"alone-{name}.json", commands[name])
            assert forks.ended([child]) == [0], (home / f"alone-{name}.err").read_text()
            found[name] = numbers(home / f"alone-{name}.json")
        return found[name]

    return told


def awaited(folder, pattern):
    """Return when a file is there."""
    end = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < end, f"no {pattern}"
        time.sleep(0.005)


def numbers(path):
    """What a command printed, without what depends on the clock."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in VARYING}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return kept(json.loads(path.read_text()))


def torchrun(rank, n, port):
    names = {"RANK": rank, "WORLD_SIZE": n, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": n}
    return (), names | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def slurm(rank, n, port):
    return (), {"SLURM_PROCID": rank, "SLURM_NTASKS": n, "SLURM_LOCALID": rank}


def shards(rank, n, port):
    return ("--shard", f"{rank}/{n}"), {}


def shards_with_store(rank, n, port):
    return ("--shard", f"{rank}/{n}", "--store", f"127.0.0.1:{port}"), {}


NAPS = (0.0, 0.0, 0.0, 0.004)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("threshold", torchrun),
        ("threshold", shards),
        ("gate", slurm),
        ("gate of three", shards_with_store),
        ("fid", torchrun),
        ("fid", shards),
    ],
)
def test_four_workers_of_different_speed_say_what_one_says(alone, commands, tmp_path, port, forks, name, way):
    children = []
    for rank, nap in enumerate(NAPS):
        options, variables = way(rank, 4, port)
        arguments = (*commands[name], "--work", tmp_path / "work", *options)
        children.append(forks.begin(tmp_path / f"{rank}.json", arguments, NAP=nap, **variables))
    assert forks.ended(children) == [0] * 4, [path.read_text() for path in tmp_path.glob("*.err")]
    assert numbers(tmp_path / "0.json") == alone(name)
    assert [(tmp_path / f"{rank}.json").read_text() for rank in (1, 2, 3)] == [""] * 3


@pytest.mark.parametrize("lost", [0, 1])
def test_whoever_is_killed_one_of_the_others_tells_the_result_of_one(
    alone, commands, tmp_path, port, forks, lost
):
    children = []
    for rank in range(2):
        _, variables = slurm(rank, 2, port)
        arguments = (*commands["gate"], "--work", tmp_path / "work")
        children.append(forks.begin(tmp_path / f"{rank}.json", arguments, gone=2.0, NAP=0.002, **variables))
    awaited(tmp_path, f"work/shard-{lost:04d}-of-0002.lock")
    os.kill(children[lost], signal.SIGKILL)
    assert forks.ended(children)[1 - lost] == 0
    assert numbers(tmp_path / f"{1 - lost}.json") == alone("gate")


def test_a_command_that_was_killed_goes_on_and_measures_nothing_again(
    run_cli, alone, commands, tmp_path, forks
):
    arguments = (*commands["threshold"], "--work", tmp_path / "work")
    child = forks.begin(tmp_path / "first.json", arguments, NAP=0.002)
    awaited(tmp_path, "work/found/one-pass/*.npz")
    assert Watch(tmp_path / "work").look().is_at_work
    os.kill(child, signal.SIGKILL)
    forks.ended([child])
    stopped = run_cli("runs", "show", tmp_path / "work", "--json")
    assert (stopped.code, stopped.json["error"]["type"]) == (9, "IncompleteError")
    look = Watch(tmp_path / "work").look()
    assert 0 < look.done <= look.wanted
    assert not look.is_at_work
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "found").glob("*/*.npz")}
    assert forks.ended([forks.begin(tmp_path / "again.json", arguments)]) == [0]
    assert numbers(tmp_path / "again.json") == alone("threshold")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "found").glob("*/*.npz")}
    assert all(after[path] == stamp for path, stamp in before.items())
    assert len([path for path in after if path.parent.name.startswith("profile")]) == 2
    ended = run_cli("runs", "show", tmp_path / "work", "--watch")
    assert ended.code == 0, ended.err
    assert "the result of threshold is told" in ended.out
    look = Watch(tmp_path / "work").look()
    assert look.done == look.wanted
    assert [(worker.shard, worker.n) for worker in look.workers] == [((0, 1), look.done)]


def test_workers_need_a_directory_in_common(run_cli, commands):
    for name in ("threshold", "gate", "fid"):
        result = run_cli(*commands[name], "--shard", "0/2")
        assert result.code == 2
        assert "2 workers keep what they measure in one directory" in result.json["error"]["message"]
        assert result.json["error"]["hint"] == "give --work DIR"


@pytest.mark.parametrize(("name", "file"), [("threshold", "threshold.json"), ("gate", "card.toml")])
@pytest.mark.parametrize("share", [(), ("--shard", "1/2")])
def test_a_result_that_is_not_this_commands_is_not_replaced(run_cli, commands, tmp_path, name, file, share):
    (tmp_path / file).write_text("another's")
    out = tmp_path if name == "threshold" else tmp_path / file
    result = run_cli(*commands[name], "--work", tmp_path / "work", "--out", out, *share)
    assert result.code == 2
    assert result.json["error"]["hint"] == "use another --out"
    assert (tmp_path / file).read_text() == "another's"
    assert not (tmp_path / "work").exists()
