"""The table of a sweep: differences to the best, and which thresholds cannot be told from it."""

from types import SimpleNamespace

import pytest

from merged_diffusion.errors import UsageError
from merged_diffusion.scores.differences import paired
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps import table
from merged_diffusion.sweeps.thresholds import checked, grid, parsed


def as_dict(found):
    return None if found is None else found.as_dict()


def compared(series, etas=None):
    """The lines and the best of rows whose images have these bits/dim."""
    records = [
        [
            Record(id=i, bits_per_dim=bits, status="ok" if bits is not None else "nonfinite", evaluations={})
            for i, bits in enumerate(row)
        ]
        for row in series
    ]
    lines = []
    for number, row in enumerate(series):
        found = None if None in row else {"mean": sum(row) / len(row), "se": 0.1}
        row_of = SimpleNamespace(name=f"row {number}", folder=f"row-{number}")
        lines.append(table.line(row_of, None, {"bits_per_dim": found}, None))
    etas = etas or [number / 10 for number in range(len(series))]
    return lines, table.compare(lines, etas, lambda one, two: as_dict(paired(records[one], records[two])))


def test_the_best_is_the_least_mean_and_all_differences_are_to_it():
    lines, best = compared([[2.0, 3.0, 4.0], [1.0, 2.1, 3.2], [1.5, 2.6, 3.7]])
    assert (best["name"], best["eta"], best["at_edge"]) == ("row 1", 0.1, False)
    assert [line["paired"]["to"] for line in lines] == ["row 1"] * 3
    assert lines[2]["paired"]["difference"] == pytest.approx(0.5)
    assert lines[1]["paired"]["difference"] == 0.0


def test_the_interval_is_from_the_first_to_the_last_threshold_within_two_errors():
    best = [1.0, 2.0, 3.0, 4.0]
    near, noisy = [1.1, 1.95, 3.1, 3.95], [0.7, 2.5, 2.7, 4.5]
    far = [1.5, 2.51, 3.5, 4.52]
    _, found = compared([far, noisy, best, near, far, near])
    assert found["indistinguishable"] == [0.1, 0.5]
    _, found = compared([far, far, best, near, far, far])
    assert found["indistinguishable"] == [0.2, 0.3]


def test_a_best_at_an_end_of_the_list_is_at_the_edge():
    assert compared([[1.0, 2.0], [1.5, 2.6]])[1]["at_edge"]
    assert compared([[1.5, 2.6], [1.0, 2.0]])[1]["at_edge"]


def test_one_image_does_not_say_which_are_as_good():
    assert compared([[1.0], [1.1], [1.2]])[1]["indistinguishable"] is None


def test_a_row_without_a_mean_is_in_the_table_and_never_the_best():
    lines, best = compared([[None, 0.1], [1.0, 2.0], [1.1, 2.3]])
    assert best["name"] == "row 1"
    assert lines[0]["paired"] is None
    assert compared([[None, 1.0]])[1] is None


def test_grid_is_both_experts_the_ends_as_words_and_the_tenths_between():
    paper = grid((-13.3, 5.0), (-12.43, 8.764), None)
    assert paper == (0.0, "min", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, "max", 1.0)
    one_gamma = grid((-8.0, 0.0), (0.0, 5.0), None)
    assert one_gamma == (0.0, "min", 1.0)
    # Experts of one range: its ends are the experts alone.
    assert grid((-8.0, 5.0), (-8.0, 5.0), None) == (0.0, *(n / 10 for n in range(1, 10)), 1.0)


def test_lists_are_numbers_and_words_each_once():
    assert parsed("0.1, max,0,1") == (0.1, "max", 0.0, 1.0)
    for wrong in ([], [0.1, 0.1], ["middle"], [float("nan")], [-0.1]):
        with pytest.raises(UsageError):
            checked(wrong)
