"""How far probes disagree: which of the values that a flow met belong to the solution."""

import numpy as np
import pytest
import torch

from merged_diffusion.ode.spread import Spread

KEYS = np.array([7, 3], dtype=np.uint64)


def told(spread, gamma, one, two):
    """q of the two probes of problem 7 at gamma; problem 3 has other ones."""
    q = torch.tensor([[one, 9.0], [two, -9.0]], dtype=torch.float64)
    spread.note(np.array([gamma, gamma + 0.125]), KEYS, q)


def test_deviation_is_half_the_integral_of_the_distance_from_the_mean():
    spread = Spread([(-1.0, 3.0)])
    nodes = np.array([-1.0, -0.5, 0.25, 1.5, 3.0])
    for t in nodes:
        told(spread, t, 5 + t + 0.5, 5 + t - 0.5)
    # Half the integral of the distance from the mean, which is 1/2 and -1/2.
    np.testing.assert_allclose(spread.deviations(7, nodes[1:]), [1.0, -1.0], rtol=1e-14)


def test_last_value_counts_but_at_the_start_the_first():
    spread = Spread([(0.0, 2.0)])
    told(spread, 0.0, 1.0, -1.0)
    told(spread, 2.0, 50.0, 0.0)  # an attempt that was rejected
    told(spread, 1.0, 1.0, -1.0)
    told(spread, 0.0, 77.0, 0.0)  # rows that sit out are given the start
    told(spread, 2.0, 1.0, -1.0)
    np.testing.assert_allclose(spread.deviations(7, np.array([1.0, 2.0])), [1.0, -1.0], rtol=1e-14)


def test_steps_of_other_legs_are_left_out():
    spread = Spread([(0.0, 2.0)])
    for t in (0.0, 2.0):
        told(spread, t, 1.0, -1.0)
    steps = np.array([-1.0, 0.0, 2.0, 5.0])
    np.testing.assert_allclose(spread.deviations(7, steps), [1.0, -1.0], rtol=1e-14)


def test_a_problem_is_forgotten_when_nobody_asks_any_more():
    spread = Spread([(0.0, 2.0)])
    for t in (0.0, 2.0):
        told(spread, t, 1.0, -1.0)
    spread.deviations(7, np.array([2.0]))
    spread.forget(7)
    with pytest.raises(KeyError):
        spread.deviations(7, np.array([2.0]))
    spread.clear()
    with pytest.raises(KeyError):
        spread.deviations(3, np.array([2.0]))


def test_steps_in_the_row_of_another_have_its_values():
    # Problem 7 on course 1 (key 17) leaves course 0 (key 7) at 1, and ends at 2.
    spread = Spread([(0.0, 5.0), (0.0, 2.0)], stride=10)

    def note(key, gamma, away):
        q = torch.tensor([[3 + away], [3 - away]], dtype=torch.float64)
        spread.note(np.array([gamma]), np.array([key], dtype=np.uint64), q)

    for gamma in (0.0, 1.0):
        note(7, gamma, 1.0)
    note(17, 2.0, 1.0)
    note(17, 0.0, 50.0)  # a row that has ended keeps its key, and is given the start of the lane
    note(7, 5.0, -70.0)
    steps = np.array([1.0, 2.0])
    np.testing.assert_allclose(spread.deviations(17, steps, (7, 1)), [1.0, -1.0], rtol=1e-14)
    # In the second lane every value is its own.
    after = Spread([(0.0, 0.0), (2.0, 4.0)], stride=10, is_first=False)
    for gamma in (2.0, 4.0):
        q = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        after.note(np.array([gamma]), np.array([17], dtype=np.uint64), q)
    np.testing.assert_allclose(after.deviations(17, np.array([1.0, 2.0, 4.0]), (7, 1)), [1.0, -1.0])
