"""Runs: what is kept, what a later command may change, and what damage does."""

import errno
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from merged_diffusion import runs
from merged_diffusion.errors import (
    RunCorruptError,
    RunError,
    RunLockedError,
    RunMismatchError,
    StorageError,
)
from merged_diffusion.runs import Run, open_run
from merged_diffusion.runs.records import decode, encode, read_records
from merged_diffusion.runs.settings_file import RecordedMachine, read_settings
from merged_diffusion.scores.record import Record

SETTINGS = {
    "command": "nll",
    "model": "merged",
    "settings": {
        "rtol": 1e-5,
        "batch_size": 16,
        "threads": 1,
        "device": "cpu",
        "dtype": "float32",
        "limit": 8,
    },
    "data": {"name": "digits", "sha256": "ab", "n_set": 360},
    "experts": {"likelihood": {"weights_sha256": "01"}},
}


def changed(**settings):
    return SETTINGS | {"settings": SETTINGS["settings"] | settings}


def record(i):
    return Record(id=i, status="ok", bits_per_dim=0.1 * i, evaluations={})


def begin(path, ids=(), **options):
    with Run.open(path, SETTINGS, **options) as run:
        for i in ids:
            run.append(record(i))
    return run


def test_the_last_key_is_the_crc_of_what_stands_before_it():
    line = encode({"id": 7, "text": "größer"})
    body, mark, rest = line.rpartition(b',"crc32"')
    assert mark
    assert rest == b':"%08x"}\n' % zlib.crc32(body)
    assert decode(line[:-1]) == {"id": 7, "text": "größer"}
    assert json.loads(line)["crc32"] == f"{zlib.crc32(body):08x}"


def test_a_number_that_is_not_finite_is_null():
    assert decode(encode({"a": float("nan"), "b": [float("inf")]})[:-1]) == {"a": None, "b": [None]}


def test_records_come_back_by_ascending_id(tmp_path):
    begin(tmp_path / "run", [3, 1, 2])
    assert [r.id for r in open_run(tmp_path / "run").records()] == [1, 2, 3]


def test_records_of_all_workers_are_merged_and_an_id_counts_once(tmp_path):
    begin(tmp_path / "run", [0, 2], shard=(0, 2))
    begin(tmp_path / "run", [1, 2], shard=(1, 2))
    begin(tmp_path / "run", [3])
    assert [r.id for r in open_run(tmp_path / "run").records()] == [0, 1, 2, 3]


def test_a_record_names_the_environment_that_made_it(tmp_path):
    begin(tmp_path / "run", [0])
    (made,) = open_run(tmp_path / "run").records()
    versions = json.loads((tmp_path / "run" / "environments" / f"{made.environment}.json").read_text())
    assert versions == runs.versions()


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_torn_tail_is_cut_when_the_run_goes_on(tmp_path, kept):
    begin(tmp_path / "run", [0, 1])
    (log,) = (tmp_path / "run").glob("images-*.jsonl")
    whole = log.read_bytes()
    log.write_bytes(whole + encode(record(2).as_dict())[:kept])
    assert [r.id for r in open_run(tmp_path / "run").records()] == [0, 1]
    run = begin(tmp_path / "run", [2])
    assert f"cut {kept} bytes" in " ".join(run.notes)
    assert [r.id for r in open_run(tmp_path / "run").records()] == [0, 1, 2]
    assert log.read_bytes().startswith(whole)


def test_crc_error_before_the_tail_names_its_offset(tmp_path):
    begin(tmp_path / "run", [0, 1, 2])
    (log,) = (tmp_path / "run").glob("images-*.jsonl")
    content = bytearray(log.read_bytes())
    start = content.index(b"\n") + 1
    content[start + 8] ^= 1
    log.write_bytes(content)
    for use in (lambda: open_run(tmp_path / "run").records(), lambda: begin(tmp_path / "run", [3])):
        with pytest.raises(RunCorruptError) as caught:
            use()
        assert caught.value.fields["offset"] == start
    assert log.read_bytes() == content


def test_second_process_on_the_same_shard_is_told_who_holds_it(tmp_path):
    with Run.open(tmp_path / "run", SETTINGS):
        with pytest.raises(RunLockedError) as caught:
            Run.open(tmp_path / "run", SETTINGS)
        assert caught.value.fields["pid"] == os.getpid()
        assert caught.value.fields["host"]
        begin(tmp_path / "run", [1], shard=(1, 2))  # another shard is free
    begin(tmp_path / "run", [2])


def test_records_survive_kill_9(tmp_path):
    code = f"""if 1:
        import os, signal, sys
        from pathlib import Path
        from merged_diffusion.runs import Run
        from merged_diffusion.scores.record import Record
        run = Run.open(Path(sys.argv[1]), {SETTINGS!r})
        for i in range(5):
            run.append(Record(id=i, status="ok", evaluations={{}}))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert done.returncode == -signal.SIGKILL
    begin(tmp_path / "run", [5])  # the lock died with its holder
    assert [r.id for r in open_run(tmp_path / "run").records()] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (changed(rtol=1e-6), "settings.rtol"),
        (SETTINGS | {"data": SETTINGS["data"] | {"sha256": "cd"}}, "data.sha256"),
        (
            SETTINGS | {"experts": {"likelihood": {"weights_sha256": "02"}}},
            "experts.likelihood.weights_sha256",
        ),
        (SETTINGS | {"model": "likelihood"}, "model"),
    ],
)
def test_other_settings_are_refused_with_a_diff(tmp_path, settings, key):
    begin(tmp_path / "run", [0])
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json*")}
    with pytest.raises(RunMismatchError, match=key.removeprefix("settings.")) as caught:
        Run.open(tmp_path / "run", settings)
    assert list(caught.value.fields["differences"]) == [key]
    with pytest.raises(RunMismatchError):
        Run.open(tmp_path / "run", settings, allow_rebatch=True)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.json*")} == before


def test_what_changes_no_record_may_differ(tmp_path):
    begin(tmp_path / "run", [0])
    other = changed(limit=100, compare=True, allow_failed=True) | {
        "data": SETTINGS["data"] | {"name": "a/b.npz"}
    }
    Run.open(tmp_path / "run", other, selection={"limit": 100, "ids": None}).close()
    assert len(open_run(tmp_path / "run").settings["selections"]) == 2


def test_allow_rebatch_marks_the_rows(tmp_path):
    begin(tmp_path / "run", [0])
    with pytest.raises(RunMismatchError, match="--allow-rebatch"):
        Run.open(tmp_path / "run", changed(batch_size=32))
    with Run.open(tmp_path / "run", changed(batch_size=32), allow_rebatch=True) as run:
        run.append(record(1))
    assert [r.rebatched for r in open_run(tmp_path / "run").records()] == [False, True]
    assert RecordedMachine.of(tmp_path, read_settings(tmp_path / "run")).batch_size == 16


def test_another_environment_is_noted_or_refused(tmp_path, monkeypatch):
    begin(tmp_path / "run", [0])
    monkeypatch.setattr(runs, "versions", lambda: {"torch": "9.9"})
    with pytest.raises(RunMismatchError, match=r"9\.9"):
        Run.open(tmp_path / "run", SETTINGS, strict_env=True)
    run = begin(tmp_path / "run", [1])
    assert "9.9" in " ".join(run.notes)
    first, second = open_run(tmp_path / "run").records()
    assert first.environment != second.environment


def test_newer_format_is_refused_by_number(tmp_path):
    begin(tmp_path / "run")
    path = tmp_path / "run" / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RunError, match="format 2"):
        open_run(tmp_path / "run")


def test_a_directory_of_other_things_is_no_run(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"thesis\.tex"):
        Run.open(tmp_path, SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match=r"no settings\.json"):
        open_run(tmp_path)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError):
            Run.open(place, SETTINGS)


def test_link_out_of_its_directory_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="link"):
        Run.open(tmp_path / "root" / "run", SETTINGS)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_link_within_its_directory_and_odd_names_work(tmp_path):
    (tmp_path / "größer als 1").mkdir()
    (tmp_path / "run").symlink_to("größer als 1")
    begin(tmp_path / "run", [0])
    assert len(open_run(tmp_path / "größer als 1").records()) == 1


def test_too_little_space_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(StorageError, match="bytes are free"):
        Run.open(tmp_path / "a" / "run", SETTINGS, n_expected=10**15)
    assert not (tmp_path / "a").exists()


def test_full_disk_stops_the_run_and_keeps_the_valid_prefix(tmp_path, monkeypatch):
    real, calls = os.write, []

    def write(file, line):
        calls.append(file)
        if len(calls) == 2:
            return real(file, line[:10])
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, line)

    run = Run.open(tmp_path / "run", SETTINGS)
    monkeypatch.setattr("merged_diffusion.runs.journal.os.write", write)
    run.append(record(0))
    with pytest.raises(StorageError, match="No space left"):
        run.append(record(1))
    run.close()
    assert len(calls) == 3  # nothing is tried again
    monkeypatch.undo()
    begin(tmp_path / "run", [1])
    assert [r.id for r in open_run(tmp_path / "run").records()] == [0, 1]


def test_failed_flush_is_not_retried(tmp_path, monkeypatch):
    flushes = []

    def fail(file):
        flushes.append(file)
        raise OSError(errno.EIO, "Input/output error")

    run = Run.open(tmp_path / "run", SETTINGS)
    monkeypatch.setattr("merged_diffusion.runs.journal.SYNC_SECONDS", -1.0)
    monkeypatch.setattr("merged_diffusion.runs.journal.os.fsync", fail)
    with pytest.raises(StorageError, match="Input/output"):
        run.append(record(0))
    with pytest.raises(StorageError, match="closed"):
        run.append(record(1))
    run.close()
    assert len(flushes) == 1


def test_run_that_was_refused_before_its_first_record_leaves_nothing(tmp_path):
    run = Run.open(tmp_path / "a" / "run", SETTINGS)
    run.discard_if_unused()
    assert not (tmp_path / "a").exists()
    begin(tmp_path / "run", [0])
    Run.open(tmp_path / "run", SETTINGS).discard_if_unused()
    assert len(open_run(tmp_path / "run").records()) == 1


def test_summary_is_valid_json_without_nan(tmp_path):
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.write_summary(lambda: {"se": float("nan")})
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"se": None}


def test_stored_run_of_format_1_stays_readable():
    path = Path(__file__).parents[1] / "reference" / "run-format-1"
    run = open_run(path)
    assert [r.id for r in run.records()] == [0, 2]
    assert read_records(path / "images-0000-of-0001.jsonl")[0][0].is_ok


def test_a_sweep_is_no_run_and_its_rows_are_named(tmp_path):
    (tmp_path / "sweep" / "eta-0.3000").mkdir(parents=True)
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    (tmp_path / "sweep" / "eta-0.3000" / "settings.json").write_text("{}")
    with pytest.raises(RunError, match=r"is a sweep, whose rows are runs \(eta-0.3000\)"):
        open_run(tmp_path / "sweep")


def test_edited_settings_and_records_are_corrupt_and_no_fault_of_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every value of settings and of a record in turn, as a number, a text, a list, a table or nothing."""
    import copy
    import shutil

    from merged_diffusion.cli import main

    source, folder = Path(__file__).parents[1] / "reference" / "run-format-1", tmp_path / "run"
    shutil.copytree(source, folder)
    settings = json.loads((source / "settings.json").read_text("utf-8"))
    journal = next(folder.glob("images-*.jsonl"))
    records = [decode(line) for line in journal.read_bytes().splitlines()]

    def keys(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        inner = value.items() if isinstance(value, dict) else ()
        return [found for key, item in inner for found in ((*path, key), *keys(item, (*path, key)))]

    def changed(value: object, path: tuple[str, ...], wrong: object) -> dict:
        found = inner = copy.deepcopy(value)
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = wrong
        return found

    for wrong in (None, 7, "x", [], {}):
        for path in keys(settings):
            (folder / "settings.json").write_text(json.dumps(changed(settings, path, wrong)))
            assert main(["runs", "show", str(folder)]) in (0, 2, 7, 9), (path, wrong)
        (folder / "settings.json").write_text(json.dumps(settings))
        for path in keys(records[0]):
            lines = [encode(changed(records[0], path, wrong)), *map(encode, records[1:])]
            journal.write_bytes(b"".join(lines))
            assert main(["runs", "show", str(folder)]) in (0, 2, 5, 7, 9), (path, wrong)
        journal.write_bytes(b"".join(map(encode, records)))
    assert "unexpected" not in capsys.readouterr().err


def test_what_is_there_in_the_place_of_a_run_is_named(tmp_path):
    (tmp_path / "threshold.json").write_text("{}")
    (tmp_path / "samples.npz").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path, "is what threshold found"),
        (tmp_path / "samples.npz", "is a file, and a run is a directory; samples are for fid"),
        (tmp_path / "empty", "holds no settings.json, so it is no run"),
    ):
        with pytest.raises(RunError, match=words):
            open_run(path)
