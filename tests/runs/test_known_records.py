"""A journal is read once, and again only after it has changed."""

import pytest

from merged_diffusion.errors import IncompleteError
from merged_diffusion.runs import KnownRecords, Run, known_records, open_run
from merged_diffusion.runs import journal as journals
from merged_diffusion.scores.record import Record

SETTINGS = {"command": "nll", "model": "merged", "settings": {}, "data": {}, "experts": {}}


def record(i):
    return Record(id=i, status="ok", bits_per_dim=0.1 * i, evaluations={"likelihood": 1, "quality": 0})


def ids(run):
    return [found.id for found in run.records()]


@pytest.fixture
def reads(monkeypatch):
    """The journals that were read, by name, in order."""
    found = []

    def noting(read, at):
        def noted(*arguments):
            found.append(arguments[at].name)
            return read(*arguments)

        return noted

    monkeypatch.setattr(known_records, "read_records", noting(known_records.read_records, 0))
    monkeypatch.setattr(journals, "parsed", noting(journals.parsed, 1))
    return found


def test_a_run_that_is_written_reads_each_journal_once(tmp_path, reads):
    for shard in ((0, 2), (1, 2)):
        with Run.open(tmp_path / "run", SETTINGS, shard=shard) as run:
            run.append(record(shard[0]))
    reads.clear()
    known = KnownRecords(tmp_path / "run")
    assert [found.id for found in known.records()] == [0, 1]
    with Run.open(tmp_path / "run", SETTINGS, shard=(0, 2), known=known) as run:
        assert ids(run) == [0, 1]
        run.append(record(2))
        assert ids(run) == [0, 1, 2]
        run.write_summary(lambda: {"n": len(run.records())})
    assert sorted(reads) == ["images-0000-of-0002.jsonl", "images-0001-of-0002.jsonl"]
    assert ids(open_run(tmp_path / "run")) == [0, 1, 2]


def test_what_another_worker_adds_is_seen(tmp_path, reads):
    with Run.open(tmp_path / "run", SETTINGS, shard=(0, 2)) as one:
        one.append(record(0))
        with Run.open(tmp_path / "run", SETTINGS, shard=(1, 2)) as two:
            for i in (1, 3):
                two.append(record(i))
                assert i in ids(one)
        assert ids(one) == [0, 1, 3]
    assert reads.count("images-0001-of-0002.jsonl") == 3  # as it was opened, and after each record


def test_a_journal_that_was_removed_holds_nothing(tmp_path):
    with Run.open(tmp_path / "run", SETTINGS, shard=(1, 2)) as other:
        other.append(record(1))
    with Run.open(tmp_path / "run", SETTINGS, shard=(0, 2)) as run:
        run.append(record(0))
        (tmp_path / "run" / "images-0001-of-0002.jsonl").unlink()
        assert ids(run) == [0]
        (tmp_path / "run" / "images-0000-of-0002.jsonl").unlink()
        assert ids(run) == []
        with pytest.raises(IncompleteError):
            run.check()


def test_records_in_memory_are_those_on_disk(tmp_path):
    with Run.open(tmp_path / "run", SETTINGS) as run:
        run.append(record(3))
        assert run.records() == open_run(tmp_path / "run").records()
