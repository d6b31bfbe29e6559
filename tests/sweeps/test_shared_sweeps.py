"""Several workers on one sweep, in this process: one table of all, whoever ends last or is lost."""

import numpy as np
import pytest

from merged_diffusion import Settings
from merged_diffusion.jobs.blocks import ALONE, FixedShare
from merged_diffusion.jobs.speed_shares import SpeedShares
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.folder import LOCK
from merged_diffusion.runs.lock import Lock
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.carry_out import Sweep, place
from merged_diffusion.sweeps.drawn import DrawnRows
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.table import SweepTable

ETAS = [0.4, 0.1]
FEW = Settings.of({"data": "digits", "limit": 4, "tol": 0.05, "device": "cpu", "threads": 1, "batch_size": 1})
SAMPLES = Settings.of({"data": "digits", "device": "cpu", "threads": 1, "seed": 3, "batch_size": 8})
LIKELIHOOD = Request()
DRAWN = Request(metric="sample", num=20, how=Sampling(Heun(2), 3))
TABLE = SweepTable("nll", data={}, pair=None, eta_range=None, experts={}, settings={})


def begun(out, blocks, settings=FEW, request=LIKELIHOOD):
    """A worker that has read what is there and has done nothing yet."""
    plan, _ = place(settings, ETAS, out, request)
    return Sweep(plan, out=out, blocks=blocks)


def test_the_evaluations_of_workers_are_added_up(tmp_path):
    with begun(tmp_path / "one", ALONE) as one:
        one.run()
    expected = one.result().evaluations
    out = tmp_path / "two"
    with begun(out, FixedShare((0, 2))) as first, begun(out, FixedShare((1, 2))) as second:
        first.run()
        second.run()
        first.count_again()
        assert first.result().evaluations == expected
        assert sweep_folder.read(out).evaluations == expected
    with begun(out, FixedShare((1, 3))) as again:  # which has nothing left to do
        again.run()
    assert sweep_folder.read(out).evaluations == expected


def test_workers_that_end_together_write_the_table_one_after_the_other(tmp_path):
    sweep_folder.begin(tmp_path / "swept", TABLE, is_shared=True)
    seen = []

    def result():
        with Directory(tmp_path / "swept") as place:
            seen.append(Lock(place, LOCK).acquire(0.0))
        return TABLE

    sweep_folder.write(tmp_path / "swept", result, is_shared=True)
    assert seen == [False]


def quality(table):
    return [row.summary and row.summary["quality"]["primary"]["value"] for row in table.rows]


def test_rows_that_a_lost_worker_left_unmeasured_are_measured_by_the_first(tmp_path, monkeypatch):
    measured = DrawnRows._measure
    with (
        begun(tmp_path, FixedShare((0, 2)), SAMPLES, DRAWN) as first,
        begun(tmp_path, FixedShare((1, 2)), SAMPLES, DRAWN) as second,
    ):
        first.run()
        assert quality(first.result()) == [None, None]  # the second has to draw its share

        def stopped(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(DrawnRows, "_measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            second.run()
        monkeypatch.setattr(DrawnRows, "_measure", measured)
        second.rows.run(None, second.cost, lambda *_: None)  # draws and measures the other row alone
        (tmp_path / "eta-0.4000" / "summary.json").unlink()
        first.count_again()
        assert None not in quality(first.result())
        assert quality(sweep_folder.read(tmp_path)) == quality(first.result())


class Counters(dict):
    """A store in this process."""

    def add(self, key, n):
        self[key] = self.get(key, 0) + n
        return self[key]

    put = dict.__setitem__


def test_with_a_store_rows_are_measured_though_the_first_worker_is_gone(tmp_path):
    with begun(tmp_path, SpeedShares(Counters(), (1, 2)), SAMPLES, DRAWN) as second:
        second.run()
        assert np.isfinite(quality(second.result())).all()
