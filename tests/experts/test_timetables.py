"""Tabulated schedules: monotone, exact at their entries, unmoved by a change of dtype."""

import numpy as np
import pytest
import torch

from merged_diffusion.errors import ExpertRangeError, UsageError
from merged_diffusion.experts.timetables import Timetable

RANGE = (-13.3, 8.764)
TABLE = torch.linspace(0, 1, 1001, dtype=torch.float64) ** 1.5 * 23 - 13.5
CLOCK = torch.linspace(*RANGE, 5000, dtype=torch.float64)


@pytest.mark.parametrize("unit", [False, True])
def test_a_table_is_interpolated_monotonically(unit: bool) -> None:
    time = Timetable(TABLE, unit=unit, gamma_range=RANGE)(CLOCK)
    assert bool((time.diff() > 0).all())
    exact = np.interp(CLOCK.numpy(), TABLE.numpy(), np.arange(1001) / (1000 if unit else 1))
    np.testing.assert_allclose(time.numpy(), exact, rtol=1e-13, atol=1e-10)


def test_entries_of_the_table_have_their_own_times() -> None:
    table = Timetable(TABLE, unit=False, gamma_range=RANGE)
    assert table(TABLE[[0, 7, 999, 1000]]).tolist() == [0, 7, 999, 1000]


def test_a_falling_table_is_the_rising_one_backwards() -> None:
    rising = Timetable(TABLE, unit=False, gamma_range=RANGE)(CLOCK)
    falling = Timetable(TABLE.flip(0).tolist(), unit=False, gamma_range=RANGE)(CLOCK)
    torch.testing.assert_close(rising + falling, torch.full_like(rising, 1000), rtol=1e-14, atol=0)


def test_two_gammas_are_a_linear_schedule() -> None:
    time = Timetable(RANGE, unit=True, gamma_range=RANGE)(CLOCK)
    torch.testing.assert_close(time, (CLOCK + 13.3) / 22.064, rtol=1e-14, atol=1e-15)


def test_a_change_of_dtype_does_not_round_the_clock() -> None:
    table = Timetable(TABLE, unit=False, gamma_range=RANGE)
    exact = table(CLOCK)
    assert torch.equal(table.to(torch.float32)(CLOCK), exact)


def test_beyond_the_table_its_end_is_meant() -> None:
    beyond = torch.tensor([-50.0, 50.0], dtype=torch.float64)
    assert Timetable(TABLE, unit=False, gamma_range=RANGE)(beyond).tolist() == [0, 1000]


@pytest.mark.parametrize(
    ("gammas", "said"),
    [
        ([0.0, 1.0, 0.5], "not strictly monotone"),
        ([0.0, 0.0, 1.0], "not strictly monotone"),
        ([0.0, np.nan], "finite"),
        ([0.0], "N >= 2"),
        ([[0.0, 1.0]], r"\[N\]"),
    ],
)
def test_what_is_no_schedule_is_refused(gammas: list[float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Timetable(gammas, unit=False, gamma_range=(0.0, 1.0))


def test_a_gamma_range_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(ExpertRangeError, match="goes beyond the schedule"):
        Timetable(torch.linspace(-9, 5, 100), unit=False, gamma_range=RANGE)
