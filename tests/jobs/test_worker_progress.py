"""A watch of workers: records by worker, speed between two looks, the time that is left, and its end."""

import pytest

from merged_diffusion.cli import watching
from merged_diffusion.errors import RunError
from merged_diffusion.jobs.worker_progress import Watch
from merged_diffusion.runs import Run
from merged_diffusion.scores.record import Record

SETTINGS = {"command": "nll", "model": "merged", "settings": {"batch_size": 1}, "data": {"n_set": 8}}
ALL = {"limit": None, "ids": None}


def record(image):
    return Record(id=image, status="ok", evaluations={})


def test_two_workers_are_seen_with_their_speeds_until_all_is_there(tmp_path, monkeypatch, capsys):
    now = 0.0
    with (
        Run.open(tmp_path, SETTINGS, shard=(0, 2), selection=ALL) as one,
        Run.open(tmp_path, SETTINGS, shard=(1, 2), selection=ALL) as two,
    ):
        watched = Watch(tmp_path, lambda: now)
        first = watched.look()
        assert (first.done, first.wanted, first.left, first.is_over) == (0, 8, None, False)
        for image in (0, 1, 2):
            one.append(record(image))
        two.append(record(2))  # which both did
        now = 10.0
        look = watched.look()
        assert look.done == 3
        assert [(w.shard, w.n, w.is_at_work, w.speed) for w in look.workers] == [
            ((0, 2), 3, True, 0.3),
            ((1, 2), 1, True, 0.1),
        ]
        assert look.left == pytest.approx(5 / 0.4)
        assert list(watching.lines(look)) == [
            "3 of 8 images  24 a minute  12 s left",
            "  worker 0 of 2  3 images  18 a minute  at work",
            "  worker 1 of 2  1 images  6 a minute  at work",
        ]
        for image in range(3, 8):
            two.append(record(image))
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)
    watching.watch(tmp_path, quiet=False)
    err = capsys.readouterr().err
    assert err.startswith("8 of 8 images\n")
    assert err.count("ended") == 2


def test_of_workers_that_are_gone_nobody_waits_for_ever(tmp_path, monkeypatch):
    Run.open(tmp_path, SETTINGS, selection=ALL).close()
    monkeypatch.setattr(watching, "GRACE_SECONDS", -1.0)
    watching.watch(tmp_path, quiet=True)


def test_a_sweep_is_all_of_its_rows(tmp_path):
    for row in ("eta-0.1000", "quality"):
        with Run.open(tmp_path / row, SETTINGS, selection=ALL) as run:
            run.append(record(0))
    look = Watch(tmp_path).look()
    assert (look.done, look.wanted, [w.n for w in look.workers]) == (2, 16, [2])


def test_what_holds_no_run_is_refused(tmp_path):
    with pytest.raises(RunError):
        Watch(tmp_path)
