"""Files of ours in a directory: whole or not at all, by name, and through no link."""

import dataclasses
import errno
import os
import re
import socket
import stat

import numpy as np
import pytest

from merged_diffusion.errors import IncompleteError, MergedDiffusionError, RunError, StorageError
from merged_diffusion.reports.text_file import write_text
from merged_diffusion.runs import Run, open_run
from merged_diffusion.runs.directory import Directory, write_file
from merged_diffusion.runs.places import make
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.sampling.store import Store
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.table import SweepTable

SETTINGS = {"command": "nll", "model": "merged", "settings": {}, "data": {}, "experts": {}}
TABLE = SweepTable("nll", data={}, pair=None, eta_range=None, experts={}, settings={})
IDENTITY = {"settings": {}, "image_shape": [1, 2, 2]}


def record(i):
    return Record(id=i, status="ok", bits_per_dim=0.5 * i, evaluations={})


def samples(ids):
    images = np.arange(4 * len(ids), dtype=np.uint8).reshape(-1, 1, 2, 2)
    return Samples(images, np.array(ids), None, 256, {"quality": np.ones(len(ids))})


def score(place):
    with Run.open(place / "new" / "run", SETTINGS) as run:
        held = {record.id for record in run.records()}
        for i in {0, 1} - held:
            run.append(record(i))
        run.write_summary(lambda: {"n": len(run.records())})


def refuse(place):
    """What a run does whose expert fails before its first record."""
    run = Run.open(place / "new" / "run", SETTINGS)
    run.discard_if_unused()
    score(place)  # as the command does once the expert is mended


def tabulate(place):
    sweep_folder.begin(place / "swept", TABLE)
    sweep_folder.write(place / "swept", lambda: dataclasses.replace(TABLE, seconds=1.0))


def drawing(ending):
    def draw(place):
        with Store(place / "new" / f"images{ending}", np.arange(4), IDENTITY) as store:
            held = store.held()
            for ids in ([0, 1], [2, 3]):
                if not held.issuperset(ids):
                    store.append(samples(ids))
            assert store.finish() is not None

    return draw


def replace(place):
    write_file(place / "report.html", b"<!doctype html>")


COMMANDS = {
    "run": score, "refused run": refuse, "table": tabulate, "report": replace,
    "npz": drawing(".npz"), "zip": drawing(".zip"), "png": drawing(".png"), "folder": drawing(""),
}  # fmt: skip
CALLS = (
    "open",
    "write",
    "fsync",
    "rename",
    "ftruncate",
    "mkdir",
    "unlink",
    "rmdir",
    "close",
    "stat",
    "listdir",
)


def content(place):
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def code_of(do, place):
    try:
        do(place)
    except MergedDiffusionError as error:
        return error.exit_code
    return 0


class Fault:
    """Lets the call number ``nth`` of an ``os`` function fail: a write takes half, a close is done."""

    def __init__(self, name, nth, number):
        self.real, self.nth, self.number, self.n = getattr(os, name), nth, number, 0
        self.name = name

    def __call__(self, *args, **options):
        self.n += 1
        if self.n != self.nth:
            return self.real(*args, **options)
        if self.name == "write":
            self.real(args[0], bytes(args[1])[: len(args[1]) // 2])
        if self.name == "close":
            self.real(*args)
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_call_fails_it_is_a_package_error_and_the_same_command_ends_alike(
    tmp_path, monkeypatch, command, call
):
    do = COMMANDS[command]
    (tmp_path / "plain").mkdir()
    do(tmp_path / "plain")
    expected = content(tmp_path / "plain")
    failed = 0
    for nth in range(1, 200):
        place = tmp_path / f"{call}-{nth}"
        place.mkdir()
        fault = Fault(call, nth, errno.EIO if nth % 2 else errno.ENOSPC)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fault)
            code = code_of(do, place)
        failed += code != 0
        assert code in (0, 6, 7, 9)
        if fault.n < nth:
            break
        do(place)
        assert content(place) == expected, f"{call} {nth}"
    assert failed or call not in ("open", "write", "fsync", "unlink", "stat")  # which every command makes


def hidden(place):
    place.mkdir()
    (place / ".git").mkdir()
    (place / ".git" / "config").write_text("[core]")
    (place / ".env").write_text("TOKEN=1")
    return content(place)


@pytest.mark.parametrize("command", ["run", "table", "folder"])
def test_a_directory_of_hidden_files_is_not_empty_and_keeps_them(tmp_path, command):
    place = {
        "run": tmp_path / "new" / "run",
        "table": tmp_path / "swept",
        "folder": tmp_path / "new" / "images",
    }
    place[command].parent.mkdir(exist_ok=True)
    before = hidden(place[command])
    with pytest.raises(RunError):
        COMMANDS[command](tmp_path)
    assert content(place[command]) == before


def test_a_run_that_is_taken_back_leaves_what_others_put_beside_it(tmp_path):
    (tmp_path / "run").mkdir()
    run = Run.open(tmp_path / "run", SETTINGS)
    (tmp_path / "run" / ".notes").write_text("mine")
    (tmp_path / "run" / "environments" / "mine.txt").write_text("mine")
    run.discard_if_unused()
    assert content(tmp_path / "run") == {".notes": b"mine", "environments/mine.txt": b"mine"}


def test_a_run_that_is_taken_back_leaves_an_empty_directory_that_was_there(tmp_path):
    (tmp_path / "run").mkdir()
    Run.open(tmp_path / "run", SETTINGS).discard_if_unused()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list((tmp_path / "run").iterdir())


@pytest.fixture
def elsewhere(tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "kept.txt").write_text("kept")
    return place


INSIDE = [
    "images-0000-of-0001.jsonl", "images-0000-of-0001.owner", "images-0000-of-0001.lock", "settings.lock",
    "summary.json", f".summary.json.{os.getpid()}", f".images-0000-of-0001.owner.{os.getpid()}",
]  # fmt: skip


# Two processes at the tests must collect the same names.
@pytest.mark.parametrize("name", INSIDE, ids=[name.replace(str(os.getpid()), "PID") for name in INSIDE])
def test_no_link_inside_a_run_leads_a_write_out_of_it(tmp_path, elsewhere, name):
    score(tmp_path)
    link = tmp_path / "new" / "run" / name
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere / "kept.txt")
    assert code_of(score, tmp_path) in (0, 6)
    assert content(elsewhere) == {"kept.txt": b"kept"}


def test_the_environments_of_a_run_are_no_link(tmp_path, elsewhere):
    (tmp_path / "new" / "run").mkdir(parents=True)
    (tmp_path / "new" / "run" / "settings.json").write_text("{}")
    (tmp_path / "new" / "run" / "settings.json").unlink()
    score(tmp_path)
    folder = tmp_path / "new" / "run" / "environments"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="link"):
        score(tmp_path)
    assert content(elsewhere) == {"kept.txt": b"kept"}


def test_a_journal_of_another_name_elsewhere_stays_as_it_is_there(tmp_path):
    score(tmp_path)
    journal = tmp_path / "new" / "run" / "images-0000-of-0001.jsonl"
    backup = tmp_path / "backup"
    os.link(journal, backup)
    before = backup.read_bytes()
    with Run.open(tmp_path / "new" / "run", SETTINGS) as run:
        run.append(record(2))
    assert backup.read_bytes() == before
    assert [r.id for r in open_run(tmp_path / "new" / "run").records()] == [0, 1, 2]


@pytest.mark.parametrize("command", ["npz", "folder"])
def test_a_folder_of_parts_that_is_a_link_is_refused(tmp_path, elsewhere, command):
    (tmp_path / "new").mkdir()
    name = {"npz": "images.npz.part", "folder": "images.part"}[command]
    (tmp_path / "new" / name).symlink_to(elsewhere)
    with pytest.raises(StorageError, match="link"):
        COMMANDS[command](tmp_path)
    assert content(elsewhere) == {"kept.txt": b"kept"}


@pytest.mark.parametrize("command", ["run", "table", "report", "npz", "folder"])
def test_a_place_that_is_a_link_out_of_its_directory_is_refused_alike(tmp_path, elsewhere, command):
    place = {"run": "new/run", "table": "swept", "report": "report.html", "npz": "new/images.npz",
             "folder": "new/images"}[command]  # fmt: skip
    root = tmp_path / "root"
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(elsewhere / "kept.txt" if "." in place else elsewhere)
    with pytest.raises(StorageError, match="link"):
        COMMANDS[command](root)
    assert content(elsewhere) == {"kept.txt": b"kept"}


def lose(how, run):
    journal = run / "images-0000-of-0001.jsonl"
    if how == "removed":
        journal.unlink()
    elif how == "replaced":
        held = journal.read_bytes()
        journal.unlink()
        journal.write_bytes(held)
    elif how == "cut":
        os.truncate(journal, 0)
    elif how == "its directory moved":
        run.rename(run.with_name("moved"))
    else:
        for path in sorted(run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.rmdir()


@pytest.mark.parametrize(
    "how", ["removed", "replaced", "cut", "its directory moved", "its directory removed"]
)
def test_a_journal_that_is_lost_while_it_is_written_is_code_9_and_the_run_goes_on(tmp_path, how):
    place = tmp_path / "new" / "run"
    run = Run.open(place, SETTINGS)
    run.append(record(0))
    lose(how, place)
    with pytest.raises(IncompleteError, match="lost") as caught:
        run.append(record(1))
    assert caught.value.exit_code == 9
    run.close()
    score(tmp_path)
    assert [r.id for r in open_run(place).records()] == [0, 1]


def test_a_journal_that_is_lost_after_the_last_record_is_code_9(tmp_path):
    place = tmp_path / "new" / "run"
    with Run.open(place, SETTINGS) as run:
        run.append(record(0))
        lose("removed", place)
        with pytest.raises(IncompleteError):
            run.write_summary(dict)
    assert not (place / "summary.json").exists()


def test_settings_that_are_removed_while_a_run_is_written_come_back_with_the_summary(tmp_path):
    place = tmp_path / "new" / "run"
    with Run.open(place, SETTINGS) as run:
        run.append(record(0))
        before = (place / "settings.json").read_bytes()
        (place / "settings.json").unlink()
        run.write_summary(dict)
    assert (place / "settings.json").read_bytes() == before


def test_an_owner_that_cannot_be_removed_is_a_storage_error(tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", SETTINGS)
    real = os.unlink

    def unlink(name, **options):
        if str(name).endswith(".owner"):
            raise OSError(errno.EIO, "Input/output error")
        real(name, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(StorageError, match="owner"):
        run.close()
    monkeypatch.undo()
    with Run.open(tmp_path / "run", SETTINGS):  # the shard is free all the same
        pass


def test_making_a_directory_names_what_was_made(tmp_path):
    assert make(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make(tmp_path / "a" / "b") == []


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with Directory(tmp_path) as folder, pytest.raises(StorageError, match="regular"):
        folder.read("fifo")


def special(path, kind):
    """Something at ``path`` that is neither file nor directory."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # that of /dev/null
        except PermissionError:
            pytest.skip("only root makes devices")


WRITERS = {
    "report": lambda place: write_file(place / "out", b"<!doctype html>"),
    "text": lambda place: write_text(place / "out", "a,b", re.compile("a")),
}


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("writer", ["report", "text", ".npz", ".zip", ".png", ""])
def test_pipes_sockets_and_devices_are_refused_and_stay(tmp_path, kind, writer):
    place = tmp_path / "new"
    place.mkdir()
    out = place / ("out" if writer in WRITERS else f"images{writer}")
    special(out, kind)
    before = out.lstat()
    with pytest.raises(StorageError, match=rf"is a ({kind}|named {kind})[^;]*; .*--out"):
        WRITERS[writer](place) if writer in WRITERS else drawing(writer)(tmp_path)
    assert os.path.samestat(before, out.lstat())
    assert [path.name for path in place.iterdir()] == [out.name]


@pytest.mark.parametrize("ending", [".npz", ""])
def test_a_pipe_that_came_while_images_were_drawn_stays(tmp_path, ending):
    out = tmp_path / f"images{ending}"
    with Store(out, np.arange(2), IDENTITY) as store:
        store.append(samples([0, 1]))
        os.mkfifo(out)
        with pytest.raises(StorageError, match="is a named pipe"):
            store.finish()
    out.unlink()
    with Store(out, np.arange(2), IDENTITY) as store:
        assert store.finish() is not None
