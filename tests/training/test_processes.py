"""Several processes train as one does; what ends one ends all, with one message, and costs nothing kept."""

import json
import random
import socket
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load
from tests.training import two_processes
from tests.training.cards import recipe

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.training import TrainingMachine, train
from merged_diffusion.training.processes import Team, joined


def checkpoint(out):
    return (out / "checkpoint.safetensors").read_bytes()


def words(out):
    content = checkpoint(out)
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def assert_alike(one, other, tolerance):
    first, second = load(checkpoint(one)), load(checkpoint(other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n} {m}"
        )
    np.testing.assert_allclose(
        json.loads(words(one)["report"])["rows"], json.loads(words(other)["report"])["rows"], atol=tolerance
    )
    assert words(one)["seen"] == words(other)["seen"]


def test_two_processes_train_as_one_does(tmp_path):
    """In float64 sums in another order differ by 1e-16 of a gradient; 200 steps of Adam make 1e-10 of it."""
    card = recipe(tmp_path, steps=200, precision="float64", report=20, dropout=0.0, flips=True)
    one = train(card, tmp_path / "one", threads=1, progress=False)
    assert two_processes.train(2, tmp_path, card=card, out=tmp_path / "two") == ["done", "done"]
    assert_alike(one, tmp_path / "two", 1e-10)
    assert load_expert(tmp_path / "two").kind == "vdm"


def test_parts_of_a_batch_train_as_the_whole_does(tmp_path):
    card = recipe(tmp_path, steps=50, precision="float64", report=10, dropout=0.0)
    outs = [
        train(card, tmp_path / str(n), machine=TrainingMachine(batch_per_device=n), threads=1, progress=False)
        for n in (16, 4)
    ]
    assert_alike(*outs, 1e-10)


def snapshot_at(out):
    path = out / "checkpoint.safetensors"
    return path.stat().st_mtime_ns if path.exists() else 0


def killed_at_random(tmp_path, card, kills):
    """A training of two processes, one or both killed at a random time after a snapshot; the kills made."""
    random.seed(7)
    out, done = tmp_path / "killed", 0
    while True:
        processes = two_processes.started(2, tmp_path, card=card, out=out)
        before, deadline = snapshot_at(out), time.monotonic() + 120
        while done < kills and snapshot_at(out) == before and time.monotonic() < deadline:
            if processes[0].exitcode is not None:
                break
            time.sleep(0.002)
        processes[0].join(random.uniform(0.0, 0.1) if done < kills else 120)
        if all(p.exitcode == 0 for p in processes):
            return done
        for process in random.choice([processes[:1], processes[1:], processes]):
            process.kill()
        done += 1
        for process in processes:
            process.join(60)
            assert process.exitcode is not None, "the other process did not end"


def test_kills_of_two_processes_leave_the_training_that_was_not_killed(tmp_path):
    """Dropout and all: the same number of processes gives the same bytes."""
    card = recipe(tmp_path, steps=500, report=50, order="epochs", ema=[0.9, 0.99])
    assert two_processes.train(2, tmp_path, card=card, out=tmp_path / "whole") == ["done", "done"]
    assert killed_at_random(tmp_path, card, 5) > 2
    assert checkpoint(tmp_path / "killed") == checkpoint(tmp_path / "whole")


@pytest.mark.slow
def test_two_hundred_kills_leave_the_training_that_was_not_killed(tmp_path):
    card = recipe(tmp_path, steps=3000, report=200, order="epochs", ema=[0.9, 0.99])
    assert two_processes.train(2, tmp_path, card=card, out=tmp_path / "whole") == ["done", "done"]
    assert killed_at_random(tmp_path, card, 200) == 200
    assert checkpoint(tmp_path / "killed") == checkpoint(tmp_path / "whole")


def test_another_number_of_processes_goes_on_with_the_same_images(tmp_path):
    how = {"order": "epochs", "precision": "float64", "dropout": 0.0}
    card = recipe(tmp_path, "edm", steps=200, report=50, **how)
    whole = train(card, tmp_path / "whole", threads=1, progress=False)
    processes = two_processes.started(2, tmp_path, card=card, out=tmp_path / "parts")
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.join()
    assert 0 < int(words(tmp_path / "parts")["step"]) < 200
    train(card, tmp_path / "parts", threads=1, progress=False)
    assert_alike(whole, tmp_path / "parts", 1e-10)


def test_a_fault_of_one_process_is_told_once_and_ends_all(tmp_path):
    card = recipe(tmp_path)
    found = two_processes.train(2, tmp_path, two_processes.failing_step, card=card, out=tmp_path / "out")
    assert found[1] == "ExpertError: a fault of the second process"
    assert found[0].startswith("ToldElsewhereError")


def test_a_process_that_is_killed_ends_the_other_which_says_so(tmp_path):
    card = recipe(tmp_path, steps=100_000)
    processes = two_processes.started(2, tmp_path, card=card, out=tmp_path / "out")
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[1].kill()
    processes[0].join(60)
    assert two_processes.said(2, tmp_path)[0].startswith("RunError: another process of this training is gone")


def test_a_port_that_is_taken_and_a_first_process_that_is_not_there_are_told(tmp_path):
    card = recipe(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = two_processes.begun(0, 2, port, tmp_path, None, card=card, out=tmp_path / "out")
        first.join(60)
    other = two_processes.begun(
        1, 2, port, tmp_path, two_processes.impatient, card=card, out=tmp_path / "out"
    )
    other.join(60)
    for text in two_processes.said(2, tmp_path):
        assert text.startswith(f"RunError: the processes of this training did not meet at 127.0.0.1:{port} (")
        assert "another MASTER_PORT" in text


def test_a_full_disk_at_a_snapshot_leaves_the_one_before(tmp_path):
    card = recipe(tmp_path, steps=40)
    found = two_processes.train(2, tmp_path, two_processes.full_disk, card=card, out=tmp_path / "out")
    assert found[0].startswith("StorageError")
    assert "No space left" in found[0]
    assert found[1].startswith("ToldElsewhereError")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "checkpoint.safetensors"]
    assert two_processes.train(2, tmp_path, card=card, out=tmp_path / "out") == ["done", "done"]


def test_another_training_in_the_folder_is_told_once(tmp_path):
    from merged_diffusion.runs.directory import Directory
    from merged_diffusion.runs.lock import Lock

    (tmp_path / "out").mkdir()
    with Directory(tmp_path / "out") as folder:
        held = Lock(folder, ".lock")
        assert held.acquire(0.0)
        found = two_processes.train(2, tmp_path, card=recipe(tmp_path), out=tmp_path / "out")
        held.release()
    assert found[0].startswith("RunLockedError: another process trains in")
    assert found[1].startswith("ToldElsewhereError")


def test_a_batch_that_is_no_equal_shares_is_refused(tmp_path):
    found = two_processes.train(3, tmp_path, card=recipe(tmp_path), out=tmp_path / "out")
    told = [text for text in found if not text.startswith("ToldElsewhereError")]
    assert len(told) == 1
    assert told[0].startswith("UsageError: a batch of 16 images is not 3 equal shares")
    assert "start 2 processes" in told[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
    ],
)
def test_a_launcher_that_says_too_little_is_refused(environment):
    with pytest.raises(UsageError, match="torchrun"), joined("cpu", environment):
        pass


def test_a_sum_over_one_process_is_the_tensor_itself():
    values = [torch.arange(3.0), torch.ones(2, 2)]
    Team(0, 1, torch.device("cpu")).sum_(values)
    assert torch.equal(values[0], torch.arange(3.0))
