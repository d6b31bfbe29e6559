"""Workers that measure together, in processes of their own: all have the rows of one, whoever is killed."""

import json
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import RunLockedError, RunMismatchError
from merged_diffusion.jobs import blocks, exact_task, presence, shared_measuring
from merged_diffusion.jobs.blocks import FixedShare
from merged_diffusion.jobs.launch_store import LaunchStore
from merged_diffusion.jobs.measuring_images import HERE, ranked
from merged_diffusion.jobs.plan import place
from merged_diffusion.jobs.presence import LATE, SILENT_SECONDS, Presence
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.shared_measuring import SharedMeasuring
from merged_diffusion.jobs.speed_shares import SpeedShares
from merged_diffusion.jobs.telling import is_own
from merged_diffusion.runs.directory import Directory
from merged_diffusion.scores import by_image

pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")

N = 48
DATA = make_data(
    "some", "test", np.random.default_rng(0).integers(0, 256, (N, 1, 2, 2)).astype(np.uint8), 256
)
IDENTITY = {"command": "test", "settings": {"seed": 0}}


def measure(nap, scale, count=lambda n: None):
    """Rows that depend on their image alone."""

    def measured(positions, keep):
        for position in positions.tolist():
            time.sleep(nap)
            own = DATA.images[position].reshape(-1) / np.float64(3 * scale)
            keep(np.array([position]), own[None])
            count(1)

    return measured


def expected(scale):
    return by_image.here(N, 4, measure(0.0, scale))


def decided(measuring, nap, count=lambda n: None):
    """Two stages, of which the second depends on the first, and a number that is each worker's own."""
    first = measuring.part("one").by_image("rows", DATA)(N, 4, measure(nap, 1, count), is_steady=True)
    who = measuring.once("who", lambda: [os.getpid()])
    second = measuring.by_image("rows", DATA)(N, 4, measure(nap / 2, 1 + int(first.sum()) % 7, count), rows=2)
    return np.concatenate([first, second]), who[0]


def worker(path, shares, rank, nap):
    """A process; its result lies in ``path`` beside the rows."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(path.with_name(f"count-{rank}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with SharedMeasuring(path, IDENTITY, shares(rank)) as kept:
            path.with_name(f"there-{rank}").touch()
            while len(list(path.parent.glob("there-*"))) < 4:  # who dies later than that had a store
                time.sleep(0.002)
            rows, who = decided(kept.whole(), nap, lambda n: os.write(log, b"." * n))
            if tells := kept.telling.tells():
                kept.telling.told()
            if rank == 0:
                kept.telling.await_others()
        np.savez(path.with_name(f"result-{rank}.npz"), rows=rows, who=who, tells=tells)
        code = 0
    finally:
        os._exit(code)


def ended(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.fixture
def by_speed(port):
    return lambda rank: SpeedShares(LaunchStore("127.0.0.1", port, serves=rank == 0), (rank, 4))


def fixed(rank):
    return FixedShare((rank, 4))


def check(path, ranks):
    one = np.concatenate([expected(1), expected(1 + int(expected(1).sum()) % 7)])
    found = [np.load(path.with_name(f"result-{rank}.npz")) for rank in ranks]
    assert all((each["rows"] == one).all() for each in found)
    assert len({float(each["who"]) for each in found}) == 1
    assert [bool(each["tells"]) for each in found].count(True) == 1


@pytest.mark.parametrize("way", ["speed", "fixed"])
def test_workers_of_different_speed_have_the_rows_of_one(tmp_path, by_speed, way):
    path = tmp_path / "work"
    shares = by_speed if way == "speed" else fixed
    naps = (0.005, 0.005, 0.005, 0.04)
    assert ended([worker(path, shares, rank, nap) for rank, nap in enumerate(naps)]) == [0] * 4
    check(path, range(4))
    counts = [len(path.with_name(f"count-{rank}").read_bytes()) for rank in range(4)]
    if way == "fixed":
        assert counts == [2 * N // 4] * 4
    else:  # how much each does is seen in tests/jobs/test_blocks.py, where the time is made up
        assert sum(counts) >= 2 * N


@pytest.mark.parametrize("way", ["speed", "fixed"])
@pytest.mark.parametrize("lost", [0, 2])
def test_whoever_is_killed_the_others_have_the_rows_of_one(tmp_path, by_speed, monkeypatch, way, lost):
    monkeypatch.setattr(blocks, "GONE_SECONDS", 0.3)
    path = tmp_path / "work"
    shares = by_speed if way == "speed" else fixed
    children = [worker(path, shares, rank, 0.01) for rank in range(4)]
    log = path.with_name(f"count-{lost}")
    while not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    os.kill(children[lost], signal.SIGKILL)
    assert ended(children) == [-signal.SIGKILL if rank == lost else 0 for rank in range(4)]
    check(path, [rank for rank in range(4) if rank != lost])


def test_a_command_that_was_stopped_goes_on(tmp_path):
    asked = []

    def stopped(n):
        asked.append(n)
        if len(asked) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        decided(kept.whole(), 0.0, stopped)
    with SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        rows, _ = decided(kept.whole(), 0.0, asked.append)
    # The image at which it was stopped was measured and kept.
    assert len(asked) == 2 * N
    assert (rows[:N] == expected(1)).all()
    with SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        decided(kept.whole(), 0.0, lambda n: pytest.fail("it is all there"))


def test_a_folder_of_another_command_or_of_the_same_worker_is_refused(tmp_path):
    with SharedMeasuring(tmp_path / "w", IDENTITY, fixed(1)):
        with pytest.raises(RunLockedError, match="worker 1 of 4"):
            SharedMeasuring(tmp_path / "w", IDENTITY, fixed(1))
        with pytest.raises(RunMismatchError, match="seed 0 there, 1 here"):
            SharedMeasuring(tmp_path / "w", IDENTITY | {"settings": {"seed": 1}}, fixed(2))


def test_what_fails_before_anything_is_measured_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no"), SharedMeasuring(tmp_path / "w", IDENTITY):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


def test_rows_of_another_version_of_the_package_are_refused_and_other_differences_said(tmp_path):
    with SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        kept.once("who", lambda: [1.0])
        assert kept.notes == []
    written = tmp_path / "w" / "settings.json"
    settings = json.loads(written.read_text())
    own = settings["versions"]["merged_diffusion"]
    settings["versions"]["torch"] = "1.13"
    written.write_text(json.dumps(settings))
    with SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        (note,) = kept.notes
    assert "torch 1.13 there" in note
    settings["versions"]["merged_diffusion"] = "0.0.7"
    written.write_text(json.dumps(settings))
    with pytest.raises(RunMismatchError, match=rf"by version 0\.0\.7 of merged-diffusion, and this is {own}"):
        SharedMeasuring(tmp_path / "w", IDENTITY)


def test_a_folder_in_which_another_worker_is_stays_when_the_one_that_made_it_fails(tmp_path):
    maker, other = (SharedMeasuring(tmp_path / "w", IDENTITY, fixed(rank)) for rank in (0, 1))
    maker.__exit__(ValueError, ValueError(), None)
    with other:
        assert other.once("who", lambda: [3.0]) == [3.0]
    assert (tmp_path / "w" / "settings.json").exists()


def test_a_folder_that_goes_while_it_is_opened_is_made_again(tmp_path, monkeypatch):
    """Whoever made it fails in between, and takes it back."""
    (tmp_path / "w").mkdir()
    usual, seen = shared_measuring.refuse_strangers, []

    def meanwhile(folder, *names):
        usual(folder, *names)
        if not seen:
            seen.append(folder)
            (tmp_path / "w").rmdir()

    monkeypatch.setattr(shared_measuring, "refuse_strangers", meanwhile)
    with SharedMeasuring(tmp_path / "w", IDENTITY) as kept:
        assert kept.once("who", lambda: [3.0]) == [3.0]
    assert (tmp_path / "w" / "who.json").exists()


def test_workers_that_round_differently_choose_the_same(tmp_path):
    """Means that are equal but for a last bit, of which each has the other lower."""
    found = []
    for rank, mean in enumerate((1.0 - 2**-53, 1.0 + 2**-52)):
        with SharedMeasuring(tmp_path / "w", IDENTITY, fixed(rank)) as kept:
            found.append(ranked(kept.whole().part("fit"), "best", {"one": mean, "other": 1.0, "last": 2.0}))
    assert found == [["one", "other", "last"]] * 2
    assert ranked(HERE, "best", {"one": 1.0 + 2**-52, "other": 1.0}) == ["other", "one"]


def test_the_result_is_told_once_by_whoever_comes_late_or_again(tmp_path):
    work, file = tmp_path / "w", tmp_path / "card"
    begun = {}

    def ends(rank):
        with begun.pop(rank, None) or SharedMeasuring(work, IDENTITY, fixed(rank), file=file) as kept:
            if tells := kept.telling.tells():
                assert is_own(work, file)  # who comes now finds a file, and may go on
                file.write_text("card")
                kept.telling.told()
        return tells

    begun[2] = SharedMeasuring(work, IDENTITY, fixed(2), file=file)
    assert ends(1)  # worker 0 is not there
    assert not ends(2)
    assert not ends(0)  # who came when all was told
    assert is_own(work, file)
    # Another's file is not that of this command, and what was told is told again where it is gone.
    file.write_text("another")
    assert not is_own(work, file)
    assert not is_own(tmp_path / "new", file)
    file.unlink()
    assert ends(0)
    assert is_own(work, file)


def test_what_was_only_printed_is_told_again_by_one(tmp_path):
    for _ in range(2):
        workers = [SharedMeasuring(tmp_path / "w", IDENTITY, fixed(rank)) for rank in range(3)]
        told = []
        for kept in workers:
            with kept:
                told.append(kept.telling.tells())
                if told[-1]:
                    kept.telling.told()
        assert told == [True, False, False]


def launched(path, rank, n=2):
    """A worker of a launch, of whom all come, and what it does at the end: whether it tells."""
    kept = SharedMeasuring(path, IDENTITY, FixedShare((rank, n)), all_come=True)

    def ends():
        with kept:
            if tells := kept.telling.tells():
                kept.telling.told()
            if rank == 0:
                kept.telling.await_others()
        return tells

    return ends


def test_a_launch_waits_for_the_first_worker_that_comes_late(tmp_path):
    for _ in range(2):  # what the launch before printed is nothing to this one
        second = launched(tmp_path / "w", 1)
        with ThreadPoolExecutor() as threads:
            told = threads.submit(second)
            time.sleep(0.1)
            assert not told.done()
            assert launched(tmp_path / "w", 0)()
            assert not told.result()


def test_a_launch_waits_for_the_last_worker_that_comes_when_all_is_told(tmp_path):
    for _ in range(2):
        first = launched(tmp_path / "w", 0)
        with ThreadPoolExecutor() as threads:
            told = threads.submit(first)
            awaited = time.monotonic() + 60.0
            while not (tmp_path / "w" / "told.json").exists():
                assert time.monotonic() < awaited
                time.sleep(0.01)
            assert not launched(tmp_path / "w", 1)()
            assert told.result()


def test_a_launch_waits_no_longer_for_a_worker_than_for_one_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "GONE_SECONDS", 0.3)
    assert launched(tmp_path / "w", 1)()
    came, other = launched(tmp_path / "w", 0, 3), launched(tmp_path / "w", 1, 3)
    monkeypatch.setattr(blocks, "GONE_SECONDS", math.inf)
    with pytest.raises(RunLockedError):
        launched(tmp_path / "w", 0, 3)
    with ThreadPoolExecutor() as threads:
        told = threads.submit(came)
        third = launched(tmp_path / "w", 2, 3)
        assert (other(), third(), told.result()) == (False, False, True)


def test_a_worker_that_keeps_its_place_and_gives_no_sign_is_not_waited_for(tmp_path):
    now, said = [0.0], []

    def taken(rank):
        found = Presence(folder, (rank, 3), said.append, lambda: now[0])
        found.take()
        return found

    with Directory(tmp_path) as folder:
        stopped, goes_on, own = taken(0), taken(1), taken(2)
        seen = []
        for second in range(0, int(SILENT_SECONDS) + 200, 20):
            now[0] = float(second)
            if second == 100:
                stopped.sign()
            goes_on.sign()
            seen.append((second, own.is_at_work(0)))
            assert own.is_at_work(1)
        last = max(second for second, is_there in seen if is_there)
        assert last == 100 + SILENT_SECONDS
        assert [line.split(" is ")[0].split(" gave ")[0] for line in said] == ["worker 0 of 3"] * 2
        assert "is waited for" in said[0]
        assert "is not waited for; stop it" in said[1]
        # What wakes up is there again.
        stopped.sign()
        assert [own.is_at_work(rank) for rank in own.others] == [True, True]
        stopped.release()
        assert [own.is_at_work(rank) for rank in own.others] == [False, True]


def test_a_worker_is_given_as_long_as_its_own_pace_says(tmp_path):
    """Where one image takes this worker half an hour, another may take some times that."""
    now = [0.0]
    with Directory(tmp_path) as folder:
        slow, own = (Presence(folder, (rank, 2), clock=lambda: now[0]) for rank in (0, 1))
        for each in (slow, own):
            each.take()
        assert own.is_at_work(0)
        now[0] = 1800.0
        own.sign()
        assert own.is_at_work(0)
        for second in range(1810, int(1800 * LATE) + 20, 10):
            now[0] = float(second)
            assert own.is_at_work(0) == (second <= 1800 * LATE)


FEW = {"data": "digits", "limit": 6, "seed": 5, "tol": 0.5, "dequantise": "decoder"}
FEW |= {"batch_size": 2, "threads": 1, "device": "cpu"}


def test_exact_runs_that_were_interrupted_cost_what_they_would_have_cost_at_once(tmp_path, monkeypatch):
    plan, _ = place(Settings.of(FEW | {"eta": 0.3, "compare": True}), None)
    models, n = plan.models.models, len(plan.data)
    fan = [name for name, model in models.items() if model.legs()[0].role == "likelihood"]
    assert (len(models), len(fan)) == (3, 2)
    ticks = count()
    monkeypatch.setattr(exact_task, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    whole = HERE.likelihoods(models, plan.data, plan.settings.options(), together=fan)

    def scored(stops_after=None):
        with SharedMeasuring(tmp_path / "w", IDENTITY, plan=plan) as kept:
            if stops_after is not None:
                signs = count(1)
                monkeypatch.setattr(kept.presence, "sign", lambda: next(signs) == stops_after and stop())
            return kept.whole().likelihoods(models, plan.data, plan.settings.options(), together=fan)

    def stop():
        raise KeyboardInterrupt

    # Of the first the fan is cut short, then both begin and the third model is.
    for records in (2 * 2, 2 * (n - 2) + 3):
        with pytest.raises(KeyboardInterrupt):
            scored(records)
    found = scored()
    for name, row in found.items():
        ids = [record.id for record in row.records]
        own = {record.id: record for record in whole[name].records}
        assert sorted(ids) == sorted(own)
        assert all(record.bits_per_dim == own[record.id].bits_per_dim for record in row.records)
    (alone,) = set(models) - set(fan)
    # A tick for each record, whenever it came.
    assert found[alone].seconds == n
    assert found[alone].tally["evaluations"] == whole[alone].tally["evaluations"]
    assert found[alone].tally["scaled_from"] == n - 3
    shared = found[fan[0]].tally
    assert 0 < shared["scaled_from"] < n
    # Images differ by few of some fifty evaluations; without scaling a third would be missing.
    assert shared["evaluations"] == pytest.approx(whole[fan[0]].tally["evaluations"], rel=0.1)
    assert sum(shared["calls"]) == pytest.approx(sum(whole[fan[0]].tally["calls"]), rel=0.1)


def test_a_worker_that_is_stopped_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "GONE_SECONDS", 0.3)
    monkeypatch.setattr(presence, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(presence, "TOUCH_SECONDS", 0.02)
    path = tmp_path / "work"
    children = [worker(path, fixed, rank, 0.01) for rank in range(4)]
    log = path.with_name("count-0")
    while not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    os.kill(children[0], signal.SIGSTOP)
    try:
        assert ended(children[1:]) == [0] * 3
        check(path, [1, 2, 3])
    finally:
        os.kill(children[0], signal.SIGKILL)
        ended(children[:1])
