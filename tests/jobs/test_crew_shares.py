"""Blocks for a crew: all is done once, nearly as soon as can be, whoever is lost; in a made-up time."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest

from merged_diffusion.errors import ResourceError, RunMismatchError
from merged_diffusion.jobs.blocks import Work
from merged_diffusion.jobs.crew import Ended, Failed, Items, Lost, Ready, Remark, Spent
from merged_diffusion.jobs.crew_shares import MOST_LOST, CrewShares

HERE = {"torch": "2.0", "gpu": None}
START = 0.5  # seconds until a worker is ready


@dataclass
class Hired:
    speed: float
    ready: float
    task: tuple | None = None
    begun: float = 0.0
    next: int = 0
    is_told: bool = False


@dataclass
class Pool:
    """Workers of some speeds (images a second); one that is killed has its place taken by one as fast."""

    speeds: tuple
    kills: dict = field(default_factory=dict)  # when, by number
    hangs: dict = field(default_factory=dict)
    versions: dict = field(default_factory=lambda: HERE)
    refuses: tuple = ()  # numbers
    fails: tuple = ()  # works
    small: tuple = ()  # speeds of places whose memory does not suffice
    names: tuple = ("a",)  # nodes
    poison: int | None = None  # an image that no worker survives
    now: float = 0.0
    workers: dict = field(default_factory=dict)
    free: list = field(default_factory=list)
    n: int = 0
    most: float = 1e5
    times: dict = field(default_factory=dict)  # as long as another an image takes, by work

    def __post_init__(self):
        self.free = list(self.speeds)

    def room(self):
        return max(1, len(self.speeds))

    def nodes(self):
        return frozenset(self.names)

    def hire(self):
        number, self.n = self.n, self.n + 1
        self.workers[number] = Hired(self.free.pop(0), self.now + START)
        return number

    def give(self, number, task):
        worker = self.workers[number]
        assert worker.is_told
        assert worker.task is None
        worker.task, worker.begun, worker.next = task, self.now, 0

    def dismiss(self, number):
        self.free.append(self.workers.pop(number).speed)

    def event(self, number):
        """When a worker next says something, and what."""
        worker, kill = self.workers[number], self.kills.get(number, np.inf)
        if not worker.is_told:
            said = Failed(ValueError("no such file")) if number in self.refuses else Ready(self.versions, "n")
            when = worker.ready
        elif worker.task is None:
            when, said = np.inf, None
        else:
            work, images = worker.task
            when = worker.begun + (worker.next + 1) * self.times.get(work, 1.0) / worker.speed
            if work in self.fails:
                said = Failed(ZeroDivisionError("bad expert"))
            elif worker.speed in self.small:
                said = Failed(ResourceError("the memory does not suffice"))
            elif images[worker.next] == self.poison:
                said = Lost("out of memory")
            else:
                image = images[worker.next]
                said = Items([((work, ""), [image], (image, when))])
        if self.hangs.get(number, np.inf) <= when:
            when = np.inf
        return (kill, Lost("killed")) if kill <= when else (when, said)

    def hear(self, seconds):
        events = {number: self.event(number) for number in self.workers}
        number = min(events, key=lambda one: events[one][0], default=None)
        if number is None or events[number][0] > self.now + seconds:
            self.now += seconds
            return []
        when, said = events[number]
        self.now = max(self.now, when)
        assert self.now < self.most, "it does not end"
        worker = self.workers[number]
        if not worker.is_told:
            worker.is_told = True
        if isinstance(said, Failed):
            worker.task = None
        if not isinstance(said, Items):
            return [(number, said)]
        worker.next += 1
        if worker.next < len(worker.task[1]):
            return [(number, said)]
        worker.task = None
        return [(number, said), (number, Ended(Spent(seconds=1.0), self.now - worker.begun))]


class Carried:
    """Works of n images, carried out by a crew; when each image came, and how often."""

    def __init__(self, pool, works=(96,), rows=1, unit=1, told=None, strict_env=False, paces=("",) * 9):
        self.pool, self.told, self.kept = pool, [] if told is None else told, []
        self.shares = CrewShares(pool, HERE, strict_env, self.told.append, lambda: pool.now)
        self.times = [np.full(n, np.inf) for n in works]
        self.counts = [np.zeros(n, dtype=int) for n in works]
        self.n_ended = 0
        self.passes = self.shares.passes
        self.works = [
            Work(f"w{k}", n, unit, rows, lambda k=k: self.times[k] < np.inf, lambda _: False, paces[k])
            for k, n in enumerate(works)
        ]

    def run(self, on_error=None):
        for taken in self.passes:
            for k, work in enumerate(self.works):
                try:
                    for mask in taken(work):
                        images = np.flatnonzero(mask).tolist()

                        def keep(key, item, versions, k=k, name=work.name):
                            assert key == (name, "")
                            image, when = item
                            self.times[k][image] = min(self.times[k][image], when)
                            self.counts[k][image] += 1
                            self.kept.append(versions)

                        self.shares.begin((work.name, images), keep, self.ended)
                except ZeroDivisionError:
                    on_error(k)
        return max(float(times.max()) for times in self.times)

    def ended(self, spent):
        self.n_ended += spent.seconds


@pytest.mark.parametrize("speeds", [(1, 1, 1, 1 / 8), (1 / 8, 1, 1, 1), (4, 1, 1, 1), (1, 1, 1, 1), (1,)])
@pytest.mark.parametrize("rows", [1, 3])
def test_workers_of_any_speed_end_within_1_3_times_the_ideal_time(speeds, rows):
    n = 96 * rows
    carried = Carried(Pool(speeds), (n,), rows=rows)
    assert carried.run() <= START + 1.3 * n / sum(speeds)
    assert (carried.counts[0] == 1).all()  # and nothing is computed twice


def test_no_worker_waits_for_the_end_of_a_work():
    carried = Carried(Pool((1, 1, 1, 1 / 8)), (60, 20, 20))
    assert carried.run() <= START + 1.3 * 100 / 3.125
    assert all((counts == 1).all() for counts in carried.counts)


@pytest.mark.parametrize("when", [0.2, 3.0, 11.0, 24.0, 29.0])
@pytest.mark.parametrize("number", [0, 3])
def test_whoever_is_lost_all_is_done_once(number, when):
    carried = Carried(Pool((1, 1, 1, 1 / 8), kills={number: when}), (60, 36))
    # Nothing but the image that it was at is lost; the rest of its block is done by the one in its place.
    assert carried.run() <= 1.5 * 96 / 3.125 + 8
    assert all((counts == 1).all() for counts in carried.counts)
    assert any("lost a worker" in text for text in carried.told)


def test_a_node_that_takes_all_workers_with_it_stops_nothing():
    carried = Carried(Pool((1, 1, 1), kills={0: 7.0, 1: 7.0, 2: 7.0}), (60,))
    carried.run()
    assert (carried.counts[0] == 1).all()


@pytest.mark.parametrize("when", [0.2, 0.9, 4.0])
def test_a_large_node_that_is_lost_at_once_leaves_the_others_at_work(when):
    n = MOST_LOST + 2
    pool = Pool((1,) * (n + 3), kills=dict.fromkeys(range(n), when))
    carried = Carried(pool, (90,))
    carried.run()
    assert (carried.counts[0] == 1).all()
    assert sum("lost a worker" in text for text in carried.told) == n


def test_the_block_of_a_worker_that_hangs_is_done_by_others_and_kept_once():
    pool = Pool((1, 1, 1), hangs={1: 5.0})
    carried = Carried(pool, (60,))
    carried.run()
    assert (carried.counts[0] == 1).all()
    late = pool.workers[1].task[1]
    shares = carried.shares
    before = carried.counts[0].copy()
    shares._take_in(shares._workers[1], Items([(("w0", ""), [late[-1]], (late[-1], pool.now))]))
    assert (carried.counts[0] == before).all()  # which comes in the end
    n_ended = carried.n_ended
    shares._take_in(shares._workers[1], Ended(Spent(seconds=1.0), pool.now))
    assert carried.n_ended == n_ended  # of what others did, and whoever asked may be gone
    assert shares._workers[1].block is None


def test_in_the_place_of_a_worker_that_hangs_another_is_hired():
    pool = Pool((1,), hangs={0: 5.0})
    carried = Carried(pool, (60,))
    carried.run()
    assert (carried.counts[0] == 1).all()
    assert pool.n == 2
    assert [text for text in carried.told if "lost a worker on n: it has said nothing for " in text]


def test_images_of_which_nobody_knows_that_they_take_hours_are_done_in_the_end():
    pool = Pool((1 / 7200,))
    carried = Carried(pool, (2,))
    carried.run()
    # The first is given up after 2400 s without a word, the next after 4800; the third may take 9600.
    assert pool.n == 3
    assert (carried.counts[0] == 1).all()


def test_images_at_which_all_workers_hang_end_the_command():
    pool = Pool((1, 1), hangs=dict.fromkeys(range(99), 0.0))
    pool.event = lambda number, event=pool.event: (
        event(number) if pool.workers[number].is_told else (pool.workers[number].ready, Ready(HERE, "n"))
    )
    pool.most = 1e8
    pool.hear = lambda seconds, hear=pool.hear: hear(1000 * seconds)
    with pytest.raises(ResourceError, match=f"{MOST_LOST} workers were lost .* said nothing for"):
        Carried(pool, (20,)).run()


def test_while_nobody_listens_no_worker_is_late():
    pool = Pool((1, 1))
    carried = Carried(pool, (40, 2))
    first, rest = carried.passes

    def away(work):
        pool.now += 1e4  # as for the figures of a row; what workers say meanwhile waits
        return rest(work)

    carried.passes = first, away
    carried.run()
    assert pool.n == 2
    assert all((counts == 1).all() for counts in carried.counts)
    alone = Carried(Pool((1, 1)), (40, 2))
    alone.run()
    assert carried.n_ended == alone.n_ended  # no block is handed out twice


def test_a_work_of_another_pace_is_no_slow_one():
    """An exact run takes hundreds of times as long as a loss: its workers are neither late nor hanging."""
    pool = Pool((1, 1, 1 / 2), times={"w1": 600.0})
    carried = Carried(pool, (300, 12), paces=("losses", "exact"))
    # 300 images, then 12 at 600 s; of the last each worker is at one.
    assert carried.run() <= START + 1.3 * 300 / 2.5 + 600 * 1.3 * (12 / 2.5) + 1200
    assert pool.n == 3
    assert all((counts == 1).all() for counts in carried.counts)


def test_a_work_that_fails_is_told_where_it_is_asked_for_and_stops_no_other():
    failed = []
    carried = Carried(Pool((1, 1), fails=("w1",)), (8, 8, 8))
    carried.run(failed.append)
    assert set(failed) == {1}
    assert [int(counts.sum()) for counts in carried.counts] == [8, 0, 8]


def test_a_worker_that_cannot_begin_is_done_without_and_told():
    carried = Carried(Pool((1, 1), refuses=(0,)), (20,))
    carried.run()
    assert (carried.counts[0] == 1).all()
    assert "a worker cannot begin: no such file" in carried.told
    with pytest.raises(ValueError, match="no such file"):
        Carried(Pool((1, 1), refuses=range(9))).run()


def test_a_worker_of_less_memory_is_done_without():
    pool = Pool((1, 2, 1), small=(2,))
    carried = Carried(pool, (40, 20))
    carried.run()
    assert all((counts == 1).all() for counts in carried.counts)
    assert pool.n == 3  # nobody is hired in its place
    assert carried.told == ["a worker on n cannot go on: the memory does not suffice"]
    with pytest.raises(ResourceError, match="the memory does not suffice"):
        Carried(Pool((1, 2), small=(1, 2))).run()


def test_who_was_refused_keeps_its_place_until_nodes_come_or_go():
    # The good worker dies; the next is hired in its place, not where one was refused.
    pool = Pool((2, 1), small=(2,), kills={1: 8.0})
    Carried(pool, (40,)).run()
    assert pool.n == 3
    pool = Pool((2, 1), small=(2,))
    hear = pool.hear

    def mended(seconds):
        if pool.now > 10:
            pool.names, pool.small = ("b",), ()
        return hear(seconds)

    pool.hear = mended
    carried = Carried(pool, (100,))
    # From 10 s on both are at work, but for what the slow one has taken before.
    assert carried.run() < 75
    assert pool.n == 3


def test_images_that_no_worker_survives_end_the_command():
    carried = Carried(Pool((1, 1), poison=13), (20,))
    with pytest.raises(ResourceError, match=f"{MOST_LOST} workers were lost .* out of memory"):
        carried.run()
    assert carried.counts[0].sum() >= 13


def test_records_of_other_versions_bear_them_and_may_be_refused():
    other = HERE | {"gpu": "H200"}
    carried = Carried(Pool((1,), versions=other), (4,))
    carried.run()
    assert carried.kept == [other] * 4
    assert carried.told == ["workers on n have another environment: gpu H200 there, None here"]
    same = Carried(Pool((1,)), (4,))
    same.run()
    assert same.kept == [None] * 4
    with pytest.raises(RunMismatchError, match="gpu H200 there"):
        Carried(Pool((1,), versions=other), (4,), strict_env=True).run()


def test_where_what_is_kept_bears_no_version_another_one_of_the_package_is_refused():
    def carried(versions):
        found = Carried(Pool((1,), versions=versions), (4,))
        found.shares.versions = HERE | {"merged_diffusion": "2"}
        found.shares.same_package = True
        return found

    carried(HERE | {"merged_diffusion": "2", "gpu": "H200"}).run()
    with pytest.raises(RunMismatchError, match="merged_diffusion 1 there"):
        carried(HERE | {"merged_diffusion": "1"}).run()


def test_a_cluster_that_grows_is_used_and_few_blocks_hire_few():
    pool = Pool((1, 1, 1, 1))
    carried = Carried(pool, (2,))
    carried.run()
    assert pool.n == 2
    pool = Pool((1,))
    hear = pool.hear

    def grown(seconds):
        if pool.now > 4 and len(pool.speeds) == 1:
            pool.speeds = (1,) * 4
            pool.free += [1, 1, 1]
        return hear(seconds)

    pool.hear = grown
    # The first one alone has taken half of what was left when it had done one image; the others do the rest.
    assert Carried(pool, (60,)).run() <= START + 1 + 30
    assert pool.n == 4


def test_who_is_ready_first_leaves_their_part_to_those_that_load_their_networks():
    pool = Pool((1, 1, 1, 1))
    hire = pool.hire

    def late():
        number = hire()
        pool.workers[number].ready += 6.0 * number
        return number

    pool.hire = late
    carried = Carried(pool, (96,))
    # Four of speed 1 that begin 6 s after each other, 36 s late together, could end at (96 + 36) / 4.
    assert carried.run() <= START + 1.3 * (96 + 36) / 4


def test_what_every_task_took_is_told_and_warnings_are_repeated():
    carried = Carried(Pool((1, 1)), (30,))
    carried.run()
    assert carried.n_ended > 2
    assert not carried.shares._busy(carried.works[0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        carried.shares._take_in(carried.shares._workers[0], Remark(UserWarning("rough")))
    assert [str(one.message) for one in said] == ["rough"]
