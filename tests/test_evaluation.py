"""An evaluation as calls: settings, shares, summaries."""

from types import SimpleNamespace

import numpy as np
import pytest

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.evaluation.plan import Plan
from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.evaluation.summary import paired, wanted_ids


def plan(n, **settings):
    data = make_data("some", "test", np.zeros((n, 1, 2, 2), np.uint8), 4)
    return Plan(Settings.of({"data": "some", "batch_size": 4, **settings}), data, data, None)


def ids(data):
    return [] if data is None else data.ids.tolist()


def test_preset_fills_what_is_not_given_and_given_values_win():
    assert Settings.of({"data": "x"}).step_control == "per-image"
    paper = Settings.of({"data": "x", "preset": "paper", "rtol": 1e-7})
    assert (paper.step_control, paper.rtol, paper.atol, paper.convention) == ("shared", 1e-7, 1e-5, "paper")


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_disjoint_and_cover_the_selection(count):
    shares = [ids(plan(7).share((index, count), [])) for index in range(count)]
    assert sorted(i for share in shares for i in share) == list(range(7))
    assert shares[0] == list(range(0, 7, count))


def test_share_leaves_out_what_any_worker_holds():
    assert ids(plan(7).share((1, 2), [1, 2])) == [3, 5]
    assert plan(3).share((0, 1), [0, 1, 2]) is None


def test_unfinished_block_of_shared_steps_is_done_again_whole():
    shared = plan(10, step_control="shared")
    assert ids(shared.share((0, 1), [0, 1, 2, 3, 5])) == [4, 5, 6, 7, 8, 9]
    assert ids(shared.share((1, 2), [])) == [4, 5, 6, 7]


def test_wanted_ids_are_the_union_of_all_commands():
    settings = {
        "data": {"n_set": 10},
        "selections": [{"limit": None, "ids": [0, 2]}, {"limit": None, "ids": [1, 4]}],
    }
    assert wanted_ids(SimpleNamespace(settings=settings)) == [0, 1, 2, 3]


def test_paired_difference_is_over_the_ids_that_both_scored():
    def records(values, failed=()):
        return [
            {"id": i, "bits_per_dim": v, "status": "nonfinite" if i in failed else "ok", "cluster": None}
            for i, v in values.items()
        ]

    result = paired(records({0: 3.0, 1: 3.5, 2: 9.0}, failed=[2]), records({1: 3.0, 0: 3.0, 2: 1.0, 7: 0.0}))
    assert result["n"] == 2
    assert result["difference"] == pytest.approx(0.25)


def test_labels_from_data_without_labels_are_refused():
    asked = plan(3, labels="from-data")
    with pytest.raises(UsageError, match="no labels"):
        asked.labels(asked.data)
