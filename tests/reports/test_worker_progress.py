"""A watch of workers: records by worker, speed between two looks, the time that is left, and its end."""

import shutil

import numpy as np
import pytest

import merged_diffusion as md
from merged_diffusion.cli import watching
from merged_diffusion.errors import RunError
from merged_diffusion.jobs.telling import TOLD
from merged_diffusion.reports.worker_progress import Watch
from merged_diffusion.runs import Run
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import Lock
from merged_diffusion.runs.settings_file import SHARED, json_text
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.sampling.store import Store
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps import carry_out, reference, sweep_folder
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_row import SweepRow
from merged_diffusion.sweeps.table import SweepTable

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
    swept(tmp_path)
    watched = Watch(tmp_path)
    assert not watched.look().is_over
    with Run.open(tmp_path / "quality", SETTINGS, selection=ALL) as run:
        for image in range(8):
            run.append(record(image))
    assert not watched.look().is_over  # its table has no such row yet
    swept(tmp_path, n=7)
    assert not watched.look().is_over
    swept(tmp_path, n=8)
    assert watched.look().is_over


def swept(folder, **summary):
    """A sweep whose table has the row of one expert, with a summary of so many images, or none."""
    row = SweepRow("quality", None, "quality", summary or None)
    table = SweepTable("nll", data={}, pair=None, eta_range=None, experts={}, settings={}, rows=[row])
    (folder / sweep_folder.NAME).write_bytes(json_text(table.as_dict()))


def samples(ids):
    images = np.zeros((len(ids), 1, 2, 2), dtype=np.uint8)
    return Samples(images, np.array(ids), None, 256, {"quality": np.ones(len(ids))})


def test_samples_of_a_sweep_are_counted_by_worker(tmp_path):
    swept(tmp_path)
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
    look = watched.look()
    assert (look.done, look.is_over, look.is_at_work) == (4, False, False)  # nobody has measured them yet
    with Directory(out.parent) as place:
        lock = Lock(place, sweep_folder.MEASURE)
        assert lock.acquire(0.0)
        assert watched.look().is_at_work
        lock.release()
    swept(tmp_path, sha256="00", quality={"primary": {"name": "d", "value": 1.0, "se": 0.1, "n": 4}})
    assert watched.look().is_over
    assert (watched.look().done, Watch(tmp_path).look().done) == (4, 4)


@pytest.mark.parametrize("metric", ["vlb", "sample"])
def test_a_sweep_is_watched_until_its_table_has_all(tmp_path, monkeypatch, metric):
    out, seen = tmp_path / "swept", []

    def looking(real):
        def looked(*given, **named):
            found = real(*given, **named)
            seen.append(Watch(out).look())
            return found

        return looked

    if metric == "sample":
        monkeypatch.setattr(reference, "assess", looking(reference.assess))
        request = Request(metric="sample", num=8, how=Sampling(Heun(2), 3))
    else:
        monkeypatch.setattr(carry_out, "compare", looking(carry_out.compare))
        request = Request(metric="vlb", times=2)
    machine = md.Machine("cpu", threads=1, batch_size=4)
    settings = md.Settings(data="digits", limit=None if metric == "sample" else 4, seed=3, machine=machine)
    md.sweep(settings, [0.3], metric=request, out=out)
    assert seen[0].done == seen[0].wanted > 0
    assert seen[0].is_at_work
    assert not seen[0].is_over
    assert Watch(out).look().is_over
    assert not list(out.rglob(sweep_folder.MEASURE))


def test_what_holds_no_run_is_refused(tmp_path):
    with pytest.raises(RunError):
        Watch(tmp_path)


def test_rows_of_an_earlier_command_hold_nobody_up_and_those_that_are_taken_back_end_nothing(tmp_path):
    for row in ("eta-0.1000", "quality"):
        with Run.open(tmp_path / row, SETTINGS, selection=ALL) as run:
            for image in range(8):
                run.append(record(image))
    swept(tmp_path, n=8)
    watched = Watch(tmp_path)
    assert watched.look().is_over  # nobody works on the row that the table does not name
    shutil.rmtree(tmp_path / "eta-0.1000")
    assert (watched.look().done, watched.look().is_over) == (8, True)


def test_samples_that_are_taken_back_end_nothing(tmp_path):
    swept(tmp_path)
    identity = {"settings": {}, "image_shape": [1, 2, 2]}
    with Store(tmp_path / "quality" / "samples.npz", np.arange(4), identity) as one:
        one.append(samples([0, 1]))
        watched = Watch(tmp_path)
        assert watched.look().done == 2
    shutil.rmtree(tmp_path / "quality" / "samples.npz.part")
    assert not watched.look().workers[0].is_at_work
    shutil.rmtree(tmp_path / "quality")
    assert watched.look().done == 0


def test_a_result_that_is_told_ends_the_watch_though_a_worker_hangs(tmp_path):
    command = sorted(SHARED)[0]
    (tmp_path / "settings.json").write_bytes(json_text({"format": 1, "command": command}))
    with Directory(tmp_path) as place:
        hangs = Lock(place, "shard-0001-of-0002.lock")
        assert hangs.acquire(0.0)
        (tmp_path / TOLD).write_text("an earlier one")
        watched = Watch(tmp_path)
        assert not watched.look().is_over
        (tmp_path / TOLD).write_text("the result")
        assert watched.look().is_over
        hangs.release()
    assert Watch(tmp_path).look().is_over
