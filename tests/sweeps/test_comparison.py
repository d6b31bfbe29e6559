"""Rows of a sweep compared: differences to the best, and which thresholds cannot be told from it."""

import pytest

from merged_diffusion.scores.differences import paired
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps.comparison import compare
from merged_diffusion.sweeps.sweep_row import SweepRow


def compared(series, etas=None):
    """The rows compared and the best of those whose images have these bits/dim."""
    records = [
        [
            Record(id=i, status="nonfinite" if bits is None else "ok", bits_per_dim=bits, evaluations={})
            for i, bits in enumerate(row)
        ]
        for row in series
    ]

    def difference(one, two):
        return paired(records[one], records[two])

    rows = []
    for number, row in enumerate(series):
        found = None if None in row else {"mean": sum(row) / len(row), "se": 0.1}
        rows.append(SweepRow(f"row {number}", None, f"row-{number}", {"bits_per_dim": found}))
    etas = etas or [number / 10 for number in range(len(series))]
    return compare(rows, etas, difference)


def test_the_best_is_the_least_mean_and_all_differences_are_to_it():
    rows, best = compared([[2.0, 3.0, 4.0], [1.0, 2.1, 3.2], [1.5, 2.6, 3.7]])
    assert (best.name, best.eta, best.at_edge) == ("row 1", 0.1, False)
    assert [row.paired.to for row in rows] == ["row 1"] * 3
    assert rows[2].paired.difference == pytest.approx(0.5)
    assert rows[1].paired.difference == 0.0


def test_the_interval_is_from_the_first_to_the_last_threshold_within_two_errors():
    best = [1.0, 2.0, 3.0, 4.0]
    near, noisy = [1.1, 1.95, 3.1, 3.95], [0.7, 2.5, 2.7, 4.5]
    far = [1.5, 2.51, 3.5, 4.52]
    _, found = compared([far, noisy, best, near, far, near])
    assert found.indistinguishable == [0.1, 0.5]
    _, found = compared([far, far, best, near, far, far])
    assert found.indistinguishable == [0.2, 0.3]


def test_a_best_at_an_end_of_the_list_is_at_the_edge():
    assert compared([[1.0, 2.0], [1.5, 2.6]])[1].at_edge
    assert compared([[1.5, 2.6], [1.0, 2.0]])[1].at_edge


def test_one_image_does_not_say_which_are_as_good():
    assert compared([[1.0], [1.1], [1.2]])[1].indistinguishable is None


def test_a_row_without_a_mean_is_in_the_table_and_never_the_best():
    rows, best = compared([[None, 0.1], [1.0, 2.0], [1.1, 2.3]])
    assert best.name == "row 1"
    assert rows[0].paired is None
    assert compared([[None, 1.0]])[1] is None
