"""The thresholds of a sweep: the grid of a pair, and lists."""

import pytest

from merged_diffusion.errors import UsageError
from merged_diffusion.sweeps.thresholds import checked, grid, parsed, row_name


def test_grid_is_both_experts_the_ends_as_words_and_the_tenths_between():
    paper = grid((-13.3, 5.0), (-12.43, 8.764), None)
    assert paper == (0.0, "min", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, "max", 1.0)
    one_gamma = grid((-8.0, 0.0), (0.0, 5.0), None)
    assert one_gamma == (0.0, "min", 1.0)
    # Of a wider quality expert eta = 0 begins where both do, which it alone does not.
    assert grid((-8.0, 0.0), (-9.0, 5.0), None)[:3] == (0.0, "min", 0.1)
    assert grid((-8.0, 6.0), (-7.0, 5.0), None)[-3:] == (0.9, "max", 1.0)
    # Experts of one range: its ends are the experts alone.
    assert grid((-8.0, 5.0), (-8.0, 5.0), None) == (0.0, *(n / 10 for n in range(1, 10)), 1.0)


def test_lists_are_numbers_and_words_each_once():
    assert parsed("0.1, max,0,1") == (0.1, "max", 0.0, 1.0)
    for wrong in ([], [0.1, 0.1], ["middle"], [float("nan")], [-0.1]):
        with pytest.raises(UsageError):
            checked(wrong)


def test_a_threshold_that_reads_as_an_expert_alone_is_named_by_its_word_or_gamma():
    assert row_name(0.3, -4.0, 0.3) == "eta 0.3000"
    assert row_name(0.0, -9.21, "min") == "eta min"
    assert row_name(1.0, 5.0, 1.0) == "gamma 5.0000"
    assert row_name(0.00001, -9.2101) == "gamma -9.2101"
