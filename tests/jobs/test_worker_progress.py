"""A watch of workers: records by worker, speed between two looks, the time that is left, and its end."""

import numpy as np
import pytest

from merged_diffusion.cli import watching
from merged_diffusion.errors import RunError
from merged_diffusion.jobs.worker_progress import Watch
from merged_diffusion.runs import Run
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.sampling.store import Store
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


def test_a_sweep_of_which_no_row_has_begun_is_waited_for(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    watched = Watch(tmp_path)
    assert not watched.look().is_over
    with Run.open(tmp_path / "quality", SETTINGS, selection=ALL) as run:
        for image in range(8):
            run.append(record(image))
    assert watched.look().is_over


def samples(ids):
    images = np.zeros((len(ids), 1, 2, 2), dtype=np.uint8)
    return Samples(images, np.array(ids), None, 256, {"quality": np.ones(len(ids))})


def test_samples_of_a_sweep_are_counted_by_worker(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    now = 0.0
    watched = Watch(tmp_path, lambda: now)
    identity = {"settings": {}, "image_shape": [1, 2, 2]}
    out = tmp_path / "quality" / "samples.npz"
    with Store(out, np.arange(4), identity, (0, 2)) as one:
        with Store(out, np.arange(4), identity, (1, 2)) as two:
            assert [(w.shard, w.n, w.is_at_work) for w in watched.look().workers] == [
                ((0, 2), 0, True),
                ((1, 2), 0, True),
            ]
            one.append(samples([0, 1]))
            two.append(samples([1]))
        now = 10.0
        look = watched.look()
        assert (look.done, look.wanted, look.is_over) == (2, 4, False)
        assert [(w.n, w.is_at_work, w.speed) for w in look.workers] == [(2, True, 0.2), (1, False, 0.1)]
        one.append(samples([2, 3]))
        one.finish()
    assert watched.look().is_over
    assert (watched.look().done, Watch(tmp_path).look().done) == (4, 4)


def test_what_holds_no_run_is_refused(tmp_path):
    with pytest.raises(RunError):
        Watch(tmp_path)
