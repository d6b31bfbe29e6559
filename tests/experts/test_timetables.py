"""Tabulated schedules: monotone, exact at their entries, unmoved by a change of dtype."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from merged_diffusion.errors import ExpertRangeError, UsageError
from merged_diffusion.experts.timetables import SCHEDULES, Timetable, step_gammas

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


# Gammas at the first and the last of 1000 steps, as documented. By hand: linear and diffusers-sigmoid begin
# at beta = 1e-4 and 1e-4 + 0.0199 sigmoid(-6) = 1.492e-4, so at log(beta / (1 - beta)) = -9.2102 and -8.8100.
ENDS = {
    "linear": (-9.21, 10.12),
    "cosine": (-10.09, 19.84),
    "sigmoid": (-8.11, 15.02),
    "diffusers-sigmoid": (-8.81, 10.13),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_with_a_name_has_the_ends_that_are_documented(schedule: str) -> None:
    gammas = step_gammas(None, schedule, 1000)
    np.testing.assert_allclose(gammas[[0, -1]], ENDS[schedule], atol=0.0051)  # two digits, and a half


def test_the_other_sigmoid_is_that_of_diffusers() -> None:
    scheduler = DDPMScheduler(1000, beta_schedule="sigmoid")
    abar = 1 / (1 + np.exp(step_gammas(None, "diffusers-sigmoid", 1000)))
    # Its products are float32: 1000 factors, each with a rounding of 2^-24, and as much again in the betas.
    np.testing.assert_allclose(abar, scheduler.alphas_cumprod.numpy(), rtol=2 * 1000 * 2**-24)


def test_a_schedule_without_a_name_says_which_sigmoid_is_which() -> None:
    with pytest.raises(UsageError, match="what diffusers calls sigmoid is diffusers-sigmoid"):
        step_gammas(None, "scaled_linear", 1000)
