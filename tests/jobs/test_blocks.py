"""Shares by speed: all is done once, nearly as soon as can be, whoever dies; in a time that is made up.

Workers are generators that are asked for their next block in the order of a clock of their own, so that no
test waits and none depends on the machine.
"""

import threading

import numpy as np
import pytest

from merged_diffusion.jobs.blocks import GONE_SECONDS, FixedShare, JointShare, Work
from merged_diffusion.jobs.speed_shares import SpeedShares, StoreLost


class Counters:
    """A store in this process, which may be lost."""

    def __init__(self):
        self.counts, self.values, self.is_lost = {}, {}, False

    def ask(self):
        if self.is_lost:
            raise StoreLost("no store")

    def add(self, key, n):
        self.ask()
        self.counts[key] = self.counts.get(key, 0) + n
        return self.counts[key]

    def put(self, key, value):
        self.ask()
        self.values[key] = value

    def get(self, key):
        self.ask()
        return self.values.get(key)


class SleptError(Exception):
    pass


class Cluster:
    """Workers of some speeds (images a second) on works of n images; `run` says when the last record came."""

    def __init__(self, speeds, works=(96,), rows=1, unit=1, shares=None):
        self.shares = shares or self.by_speed
        self.speeds, self.store, self.now, self.told = speeds, Counters(), 0.0, []
        self.records = [np.full(n, np.inf) for n in works]  # when each came
        self.counts = [np.zeros(n, dtype=int) for n in works]
        self.dead = {}  # when each died
        self.works = [
            Work(f"w{k}", n, unit, rows, lambda k=k: self.records[k] <= self.now, self.is_alive)
            for k, n in enumerate(works)
        ]

    def is_alive(self, rank):
        return self.dead.get(rank, np.inf) > self.now

    def by_speed(self, rank, rest):
        return SpeedShares(self.store, (rank, len(self.speeds)), self.told.append, lambda: self.now, rest)

    def jointly(self, rank, rest):
        return JointShare((rank, len(self.speeds)), lambda: self.now, rest)

    def worker(self, rank):
        """Yields how long each of its steps takes; a sleep is a thread of its own here."""
        wake, slept = threading.Semaphore(0), threading.Semaphore(0)
        step = {}

        def rest(seconds):
            step["seconds"] = seconds
            slept.release()
            wake.acquire()
            if step.get("ends"):
                raise SleptError

        def body():
            wake.acquire()
            try:
                shares = self.shares(rank, rest)
                for taken in shares.passes:
                    for k, work in enumerate(self.works):
                        for mask in taken(work):
                            for image in np.flatnonzero(mask):
                                rest(1 / self.speeds[rank])
                                self.records[k][image] = min(self.records[k][image], self.now)
                                self.counts[k][image] += 1
            except SleptError:
                pass
            step["seconds"] = None
            slept.release()

        threading.Thread(target=body, daemon=True).start()

        def go(ends=False):
            step["ends"] = ends
            wake.release()
            slept.acquire()
            return step["seconds"]

        return go

    def run(self, kills=None, store_dies=np.inf, hangs=None, begin=0.0):
        kills, hangs = kills or {}, hangs or {}
        workers = [self.worker(rank) for rank in range(len(self.speeds))]
        clocks = dict.fromkeys(range(len(workers)), begin)
        while clocks:
            rank = min(clocks, key=clocks.__getitem__)
            self.now = clocks[rank]
            assert self.now < 1e5, "it does not end"
            self.store.is_lost = self.now >= store_dies
            if self.now >= hangs.get(rank, np.inf):
                del clocks[rank]  # it stays at work
                continue
            if self.now >= kills.get(rank, np.inf):
                self.dead[rank] = kills[rank]
                workers[rank](ends=True)
                del clocks[rank]
                continue
            seconds = workers[rank]()
            if seconds is None:
                self.dead[rank] = self.now
                del clocks[rank]
            else:
                clocks[rank] += seconds
        return max(float(times.max()) for times in self.records)


@pytest.mark.parametrize("speeds", [(1, 1, 1, 1 / 8), (1 / 8, 1, 1, 1), (4, 1, 1, 1), (1, 1, 1, 1), (1,)])
@pytest.mark.parametrize("rows", [1, 3])
def test_workers_of_any_speed_end_within_1_3_times_the_ideal_time(speeds, rows):
    n = 96 * rows
    cluster = Cluster(speeds, (n,), rows=rows)
    assert cluster.run() <= 1.3 * n / sum(speeds)
    assert (cluster.counts[0] == 1).all()  # and nothing is computed twice


def test_several_works_are_shared_without_a_wait_between_them():
    cluster = Cluster((1, 1, 1, 1 / 8), (60, 20, 20))
    assert cluster.run() <= 1.3 * 100 / 3.125
    assert all((counts == 1).all() for counts in cluster.counts)


@pytest.mark.parametrize("rank", range(4))
@pytest.mark.parametrize("at", [0.0, 1.0, 7.5, 20.0, 29.0])
def test_whoever_dies_at_whatever_time_all_images_have_a_record(rank, at):
    cluster = Cluster((1, 1, 1, 1 / 8))
    cluster.run({rank: at})
    assert (cluster.counts[0] >= 1).all()
    assert cluster.counts[0].sum() <= 96  # only what has no record is done again


@pytest.mark.parametrize("survivor", range(4))
def test_one_survivor_does_all(survivor):
    cluster = Cluster((1, 1, 1, 1 / 8))
    cluster.run({rank: 3.0 + rank for rank in range(4) if rank != survivor})
    assert (cluster.counts[0] >= 1).all()


@pytest.mark.parametrize("at", [0.0, 0.5, 6.0, 25.0])
@pytest.mark.parametrize("kills", [{}, {0: 6.0}, {0: 6.0, 2: 11.0}])
def test_when_the_store_dies_workers_go_on_with_fixed_shares(at, kills):
    """Also with that of the worker who held the store, and of others that die later."""
    cluster = Cluster((1, 1, 1, 1 / 2))
    cluster.run(kills, store_dies=at)
    assert (cluster.counts[0] >= 1).all()
    assert all("going on with fixed shares" in text for text in cluster.told)
    assert cluster.told


def test_a_slow_worker_is_helped_without_a_store_too():
    """At most one block of each is done twice at the end: 4 of 96 images, 1.3 times the ideal time."""
    cluster = Cluster((1, 1, 1, 1 / 8))
    assert cluster.run(store_dies=3.0) <= 1.3 * 96 / 3.125


def test_a_worker_that_hangs_is_given_up():
    cluster = Cluster((1, 1, 1e-4))
    assert cluster.run() < 5e4
    assert (np.maximum.reduce([cluster.records[0]]) < 2000).all()


@pytest.mark.parametrize("at", [0.0, 5.0, 40.0, 70.0, 78.0, 81.0])
def test_a_slow_worker_does_not_wait_for_ever_for_a_fast_one_that_hangs(at):
    """What it leaves is given up after at most 1200 s, and takes at most 96 times 8 s."""
    cluster = Cluster((1, 1 / 8))
    assert cluster.run(hangs={0: at}) < 1200 + 96 * 8
    assert (cluster.counts[0] == 1).all()


@pytest.mark.parametrize("at", [0.0, 3.0, 20.0, 29.0])
def test_after_a_restart_the_store_goes_on_with_what_is_missing(at):
    cluster = Cluster((1, 1, 1, 1 / 8))
    cluster.run(dict.fromkeys(range(4), at))
    cluster.dead = {}
    assert cluster.run(begin=at) - at < 1.3 * 96 / 3.125
    assert (cluster.counts[0] == 1).all()


def test_what_was_done_before_a_restart_is_not_done_again():
    store, done = Counters(), np.arange(10) < 6
    store.add("w/0/came", 1)
    store.put("w/0/units", np.arange(10, dtype="<i8").tobytes())
    work = Work("w", 10, 1, 1, lambda: done, lambda _: False)
    masks = list(SpeedShares(store, (0, 1)).first(work))
    assert (np.sum(masks, axis=0) == ~done).all()


def test_images_that_share_steps_stay_together():
    seen = []
    work = Work("w", 10, 4, 4, lambda: np.zeros(10, dtype=bool), lambda _: False)
    shares = SpeedShares(Counters(), (0, 1))
    for mask in shares.first(work):
        seen.append(np.flatnonzero(mask).tolist())
    assert sorted(image for block in seen for image in block) == list(range(10))
    assert all(block[0] % 4 == 0 for block in seen)


def test_fixed_shares_are_disjoint_and_whole():
    done = np.zeros(10, dtype=bool)
    work = Work("w", 10, 1, 1, lambda: done, lambda _: False)
    (taken,) = FixedShare((1, 3)).passes
    assert [np.flatnonzero(mask).tolist() for mask in taken(work)] == [[1, 4, 7]]


def joint(speeds, works=(96,), rows=1):
    cluster = Cluster(speeds, works, rows)
    cluster.shares = cluster.jointly
    return cluster


def test_workers_with_joint_shares_wait_for_those_at_work_and_do_nothing_twice():
    """The slow one takes 24 images at 8 s each, longer than the others would wait for one that is gone."""
    cluster = joint((1, 1, 1, 1 / 8))
    assert cluster.run() <= 24 * 8 + 1
    assert (cluster.counts[0] == 1).all()


@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("at", [0.0, 7.5, 20.0])
def test_joint_shares_of_whoever_dies_are_computed_by_the_others(rank, at):
    cluster = joint((1, 1, 1), (60, 30))
    # Both works wait for the same worker once; the 30 images that it had are everybody's then.
    assert cluster.run({rank: at}) < GONE_SECONDS + 90
    assert all((counts >= 1).all() for counts in cluster.counts)
    assert (
        sum(int(counts.sum()) for counts in cluster.counts) <= 90 + 2
    )  # who is gone is not seen by both at once


def test_works_of_another_pace_are_not_shared_by_the_speed_of_the_first():
    """A claim that the speed of quick works dates would be given up, and computed twice."""
    cluster = Cluster((1, 1, 1), (96,))
    shares = cluster.by_speed(0, lambda _: None)
    quick, slow = (Work(pace, 96, 1, 1, cluster.works[0].done, cluster.is_alive, pace) for pace in ("a", "b"))
    begun = shares.first(quick)
    assert next(begun).sum() == 1
    cluster.now += 0.01
    assert next(begun).sum() > 1
    assert next(shares.first(slow)).sum() == 1
