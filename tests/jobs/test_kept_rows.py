"""Rows of numbers by image in a folder: what is kept comes back to the bit, and nothing else does."""

import threading
from contextlib import suppress

import numpy as np
import pytest

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import IncompleteError, RunCorruptError, RunMismatchError
from merged_diffusion.jobs import kept_rows
from merged_diffusion.jobs.kept_rows import KeptRows

RANDOM = np.random.default_rng(0)


def images(n=8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4)).astype(np.uint8)
    return make_data("some", "test", values, 256)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_two_workers_come_back_to_the_bit(tmp_path, dtype):
    data, rows = images(), RANDOM.standard_normal((8, 5)).astype(dtype).astype(np.float64)
    rows[2] = np.nan
    rows[3, 1] = 1e300 if dtype == np.float64 else np.inf
    with KeptRows(tmp_path / "r", data, 5, (0, 2)) as one, KeptRows(tmp_path / "r", data, 5, (1, 2)) as two:
        one.append(np.arange(0, 8, 2), rows[::2])
        assert not two.done().any()  # they are not on the disk yet
        one.flush()
        assert two.done().tolist() == [True, False] * 4
        with pytest.raises(IncompleteError, match="4 rows are not there"):
            two.all()
        two.append(np.arange(1, 8, 2), rows[1::2])
        two.flush()
        assert np.array_equal(one.all(), rows, equal_nan=True)
    with KeptRows(tmp_path / "r", data, 5) as again:
        assert np.array_equal(again.all(), rows, equal_nan=True)
        assert np.array_equal(again.at(np.array([5, 1])), rows[[5, 1]], equal_nan=True)


def test_what_was_appended_stays_when_the_command_fails(tmp_path):
    kept = KeptRows(tmp_path / "r", images(), 1)
    kept.append(np.arange(3), np.ones((3, 1)))
    kept.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with KeptRows(tmp_path / "r", images(), 1) as again:
        assert again.done().sum() == 3


def test_few_files_are_held_at_a_time(tmp_path, monkeypatch):
    """Of features of 50,000 images as of these: as many files as there are workers."""
    monkeypatch.setattr(kept_rows, "MOST", 4)
    data, held = images(64), []
    rows = RANDOM.standard_normal((64, 3))
    with KeptRows(tmp_path / "r", data, 3) as kept:
        for share in (0, 1):
            kept.append(np.arange(share, 64, 2), rows[share::2])
        kept.flush()
        for first in range(0, 64, 4):
            assert (kept.at(np.arange(first, first + 4)) == rows[first : first + 4]).all()
            held.append(len(kept._read))
    assert len(list((tmp_path / "r").glob("*.npz"))) == 16
    assert max(held) <= 2


def test_rows_of_other_images_are_refused(tmp_path):
    with KeptRows(tmp_path / "r", images(), 5):
        pass
    for data, width in ((images(seed=1), 5), (images()[:7], 5), (images(), 4)):
        with pytest.raises(RunMismatchError, match="measured of other images"):
            KeptRows(tmp_path / "r", data, width)


@pytest.mark.parametrize("damage", [lambda c: c[:-40], lambda c: b"", lambda c: c.replace(b"rows", b"sown")])
def test_a_damaged_file_is_no_row(tmp_path, damage):
    with KeptRows(tmp_path / "r", images(), 2) as kept:
        kept.append(np.arange(8), np.ones((8, 2)))
    (file,) = (tmp_path / "r").glob("*.npz")
    file.write_bytes(damage(file.read_bytes()))
    with KeptRows(tmp_path / "r", images(), 2) as kept, pytest.raises(RunCorruptError, match="remove it"):
        kept.all()


def test_of_two_workers_with_other_images_one_is_refused_though_both_begin_at_once(tmp_path, monkeypatch):
    """Each would find nothing there, were reading and writing of what they are of not one step."""
    usual, both, found = kept_rows.read_versioned, threading.Barrier(2), []

    def slow(path, **told):
        held = usual(path, **told)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # only where both may read before one has written
        return held

    def begin(seed):
        try:
            with KeptRows(tmp_path / "r", images(seed=seed), 5):
                found.append("begun")
        except RunMismatchError:
            found.append("refused")

    monkeypatch.setattr(kept_rows, "read_versioned", slow)
    workers = [threading.Thread(target=begin, args=(seed,)) for seed in (0, 1)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(found) == ["begun", "refused"]


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_rows_of_an_image_the_lower_workers_counts_whoever_was_seen_first(tmp_path, first):
    data = images()
    rows = [np.full((4, 1), 1.0 + rank) for rank in (0, 1)]
    with KeptRows(tmp_path / "r", data, 1, (0, 2)) as one, KeptRows(tmp_path / "r", data, 1, (1, 2)) as two:
        for rank in (first, 1 - first):
            (one, two)[rank].append(np.arange(2 * rank, 4 + 2 * rank), rows[rank])
            (one, two)[rank].flush()
            assert one.done().any()
        for reader in (one, two):
            assert reader.at(np.arange(6))[:, 0].tolist() == [1, 1, 1, 1, 2, 2]


def test_of_rows_that_are_measured_twice_the_first_stays_when_the_command_goes_on(tmp_path):
    """A worker that was late says again what another one said, in other last digits."""
    data = images()
    for k in range(20):  # names of files end by chance
        with KeptRows(tmp_path / f"{k}", data, 1) as kept:
            kept.append(np.arange(4), np.full((4, 1), 1.0))
            kept.flush()
            kept.append(np.arange(6), np.full((6, 1), 2.0))
            kept.flush()
        for _ in range(2):
            with KeptRows(tmp_path / f"{k}", data, 1) as kept:
                assert kept.done().sum() == 6
                assert kept.at(np.arange(6))[:, 0].tolist() == [1, 1, 1, 1, 2, 2]
