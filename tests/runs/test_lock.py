"""Locks: the kernel's, and claims where the file system has none."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from merged_diffusion.errors import RunLockedError, StorageError
from merged_diffusion.runs import Run
from merged_diffusion.runs import lock as module
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import Lock, began, host
from merged_diffusion.scores.record import Record

SETTINGS = {"command": "nll", "model": "merged", "settings": {}, "data": {}, "experts": {}}


def failing(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture(params=["flock", "claims"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "claims":
        monkeypatch.setattr(module.fcntl, "flock", failing(errno.EOPNOTSUPP))
    with Directory(tmp_path) as found:
        yield found


def test_a_lock_excludes_another_and_leaves_nothing_but_its_file(folder):
    one, two = Lock(folder, "a.lock"), Lock(folder, "a.lock")
    assert one.acquire(0.0)
    assert not two.acquire(0.0)
    assert Lock(folder, "b.lock").acquire(0.0)  # another name is another lock
    one.release()
    one.release()
    assert two.acquire(0.0)
    two.release()
    assert [name for name in folder.names() if "a.lock" in name] == ["a.lock"]


def test_a_lock_whose_file_was_removed_is_not_held_by_who_waited_for_it(folder):
    one = Lock(folder, "a.lock")
    assert one.acquire(0.0)
    folder.remove(["a.lock"])
    one.release()
    two, three = Lock(folder, "a.lock"), Lock(folder, "a.lock")
    assert two.acquire(0.0)
    assert not three.acquire(0.0)
    two.release()


def test_the_claim_of_a_killed_process_blocks_nobody_and_a_living_ones_does(tmp_path, monkeypatch):
    code = """if True:
        import errno, os, sys, time
        from pathlib import Path
        from merged_diffusion.runs import lock
        from merged_diffusion.runs.directory import Directory
        def flock(*_):
            raise OSError(errno.ENOSYS, "Function not implemented")
        lock.fcntl.flock = flock
        assert lock.Lock(Directory(Path(sys.argv[1])), "a.lock").acquire(0.0)
        print("held", flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    monkeypatch.setattr(module.fcntl, "flock", failing(errno.ENOSYS))
    with Directory(tmp_path) as folder:
        mine = Lock(folder, "a.lock")
        assert not mine.acquire(0.0)
        process.stdout.close()
        process.send_signal(signal.SIGKILL)
        # Not waited for: a process that is dead and not yet taken leave of is dead.
        end = time.monotonic() + 600
        while began(process.pid) >= 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert mine.acquire(0.0)
        mine.release()
        assert folder.names() == ["a.lock"]
    process.wait()


@pytest.mark.parametrize(
    ("began_at", "where", "blocks"),
    [(1, None, False), (None, None, True), (1, "elsewhere", True)],
    ids=["a process of that number that began later", "the process itself", "another machine"],
)
def test_a_claim_is_of_one_process_of_one_machine(tmp_path, monkeypatch, began_at, where, blocks):
    monkeypatch.setattr(module.fcntl, "flock", failing(errno.ENOSYS))
    since = began(os.getpid()) if began_at is None else began_at
    (tmp_path / f".a.lock.claim.{os.getpid()}.{since}.0123abcd.{where or host()}").touch()
    with Directory(tmp_path) as folder:
        assert Lock(folder, "a.lock").acquire(0.0) != blocks


def test_a_run_on_a_file_system_without_flock_excludes_a_second_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module.fcntl, "flock", failing(errno.EOPNOTSUPP))
    with Run.open(tmp_path / "run", SETTINGS), pytest.raises(RunLockedError):
        Run.open(tmp_path / "run", SETTINGS)
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.append(Record(id=0, status="ok", evaluations={}))
    assert not [path for path in (tmp_path / "run").iterdir() if "claim" in path.name]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EROFS, errno.EIO])
def test_a_lock_that_cannot_be_had_is_a_storage_error_at_once_and_leaves_nothing(
    tmp_path, monkeypatch, number
):
    monkeypatch.setattr(module.fcntl, "flock", failing(number))
    with pytest.raises(StorageError, match="cannot be locked"):
        Run.open(tmp_path / "a" / "run", SETTINGS)
    assert not list(tmp_path.iterdir())


STRANGER = "settings.lock.claim.7.7.deadbeef.box-a1b2"


def test_the_kernels_lock_is_had_whatever_other_hosts_left(tmp_path):
    (tmp_path / f".{STRANGER}").touch()
    with Directory(tmp_path) as folder:
        lock = Lock(folder, "settings.lock")
        assert lock.acquire(0.0)
        assert not Lock(folder, "settings.lock").acquire(0.0)
        lock.release()


def test_the_claim_of_another_host_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(module.fcntl, "flock", failing(errno.EOPNOTSUPP))
    claim = tmp_path / f".{STRANGER}"
    claim.touch()
    with Directory(tmp_path) as folder:
        lock = Lock(folder, "settings.lock")
        with pytest.raises(RunLockedError) as found, lock.held(0.0, RunLockedError("it is locked", file="x")):
            pass
        assert "process 7 of the host box-a1b2" in found.value.message
        assert f"remove {claim}" in found.value.hint
        assert found.value.fields == {"file": "x", "claim": str(claim), "host": "box-a1b2", "pid": 7}
        claim.unlink()
        assert lock.acquire(0.0)
        lock.release()


@pytest.mark.parametrize("name", ["images-0000-of-0001.lock", "settings.lock"])
def test_a_run_that_another_host_claims_says_so(tmp_path, monkeypatch, name):
    monkeypatch.setattr(module.fcntl, "flock", failing(errno.EOPNOTSUPP))
    monkeypatch.setattr("merged_diffusion.runs.folder.LOCK_SECONDS", 0.0)
    with Run.open(tmp_path / "run", SETTINGS):
        pass
    (tmp_path / "run" / f".{name}.claim.7.7.deadbeef.box-a1b2").touch()
    with pytest.raises(RunLockedError, match=r"7 of the host box-a1b2.*remove .*claim\.7"):
        Run.open(tmp_path / "run", SETTINGS)
