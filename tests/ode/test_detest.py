"""`step_control="shared"` against scipy's RK45 on the 25 problems of DETEST (Hull et al. 1972).

Run in the same test: as many evaluations, and the same steps to 1e-9 relative, or as far as scipy keeps them
itself when its right-hand side is rounded once more. (A step size follows the error estimate, a difference of
nearly equal numbers where the tolerance is fine and the step still short: rounding moves it by up to 1e-6.)
"""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from merged_diffusion import _core


def _b4(_, y):
    r = np.hypot(y[0], y[1])
    return np.array([-y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r])


def _chain(decay, gain):
    """y_1' = -decay_1 y_1, y_i' = gain_i y_{i-1} - decay_i y_i."""
    matrix = -np.diag(decay) + np.diag(gain, -1)
    return lambda _, y: matrix @ y


def _heat(n):
    matrix = -2.0 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)
    return lambda _, y: matrix @ y


# C5: the five outer planets, masses in those of the sun, lengths in astronomical units, time in 100 days.
SUN = 1.00000597682
MASSES = np.array([954.786104043e-6, 285.583733151e-6, 43.7273164546e-6, 51.7759138449e-6, 2.77777777778e-6])
GRAVITY = 2.95912208286
PLACES = [
    [3.42947415189, 3.35386959711, 1.35494901715],
    [6.64145542550, 5.97156957878, 2.18231499728],
    [11.2630437207, 14.6952576794, 6.27960525067],
    [-30.1552268759, 1.65699966404, 1.43785752721],
    [-21.1238353380, 28.4465098142, 15.3882659679],
]
SPEEDS = [
    [-0.557160570446, 0.505696783289, 0.230578543901],
    [-0.415570776342, 0.365682722812, 0.169143213293],
    [-0.325325669158, 0.189706021964, 0.0877265322780],
    [-0.0240476254170, -0.287659532608, -0.117219543175],
    [-0.176860753121, -0.216393453025, -0.0148647893090],
]


def _planets(_, y):
    place, speed = y.reshape(2, 5, 3)
    pull = place / np.linalg.norm(place, axis=1, keepdims=True) ** 3
    between = place[None] - place[:, None]  # [j, k]: from j to k
    cubes = np.linalg.norm(between, axis=2) ** 3 + np.eye(5)
    mutual = (MASSES[None, :, None] * (between / cubes[..., None] - pull[None])).sum(1)
    own = MASSES[:, None] * pull  # k = j, which the sum over the others leaves out
    return np.concatenate(
        [speed.ravel(), (GRAVITY * (-(SUN + MASSES[:, None]) * pull + mutual + own)).ravel()]
    )


def _orbit(_, y):
    r3 = np.hypot(y[0], y[1]) ** 3
    return np.array([y[2], y[3], -y[0] / r3, -y[1] / r3])


def _at_perihelion(e):
    return [1 - e, 0.0, 0.0, np.sqrt((1 + e) / (1 - e))]


ONES = np.ones(9)
STEPS = np.arange(1.0, 10.0)
PROBLEMS = {
    "A1": (lambda _, y: -y, [1.0]),
    "A2": (lambda _, y: -(y**3) / 2, [1.0]),
    "A3": (lambda t, y: y * np.cos(t), [1.0]),
    "A4": (lambda _, y: y / 4 * (1 - y / 20), [1.0]),
    "A5": (lambda t, y: (y - t) / (y + t), [4.0]),
    "B1": (lambda _, y: np.array([2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])]), [1.0, 3.0]),
    "B2": (lambda _, y: np.array([-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]]), [2.0, 0.0, 1.0]),
    "B3": (lambda _, y: np.array([-y[0], y[0] - y[1] ** 2, y[1] ** 2]), [1.0, 0.0, 0.0]),
    "B4": (_b4, [3.0, 0.0, 0.0]),
    "B5": (lambda _, y: np.array([y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]]), [0.0, 1.0, 1.0]),
    "C1": (_chain(np.append(ONES, 0.0), ONES), np.eye(10)[0]),
    "C2": (_chain(np.append(STEPS, 0.0), STEPS), np.eye(10)[0]),
    "C3": (_heat(10), np.eye(10)[0]),
    "C4": (_heat(51), np.eye(51)[0]),
    "C5": (_planets, np.ravel([PLACES, SPEEDS])),
    **{f"D{i}": (_orbit, _at_perihelion(e)) for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), 1)},
    "E1": (
        lambda t, y: np.array([y[1], -(y[1] / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y[0])]),
        [0.6713967071418030, 0.09540051444747446],
    ),
    "E2": (lambda _, y: np.array([y[1], (1 - y[0] ** 2) * y[1] - y[0]]), [2.0, 0.0]),
    "E3": (lambda t, y: np.array([y[1], y[0] ** 3 / 6 - y[0] + 2 * np.sin(2.78535 * t)]), [0.0, 0.0]),
    "E4": (lambda _, y: np.array([y[1], 0.032 - 0.4 * y[1] ** 2]), [30.0, 0.0]),
    "E5": (lambda t, y: np.array([y[1], np.sqrt(1 + y[1] ** 2) / (25 - t)]), [0.0, 0.0]),
}


def ours(f, y0, start, end, tolerance):
    """Our driver on dy/dt = f, one row: the outcome and the last state."""
    y0 = np.asarray(y0, dtype=np.float64)
    given = np.empty((1, len(y0)))
    store, outcomes = _core.HostStore(), []
    workspace = _core.HostWorkspace(
        given,
        store,
        lambda _key: y0,
        lambda t, _node, _key: (np.asarray(f(t[0], given[0].copy()))[None].copy(), np.zeros(1)),
    )
    _core.solve(
        [(start, end)],
        [workspace],
        np.zeros(1, np.uint64),
        rows=1,
        dim=len(y0),
        drift="plain",
        step_control="shared",
        method="dopri5",
        precision=(tolerance, tolerance),
        finished=outcomes.append,
        keep=True,
        record_steps=True,
    )
    return outcomes[0], store.take(0)


def scipys(f, y0, start, end, tolerance):
    solution = solve_ivp(f, (start, end), y0, method="RK45", rtol=tolerance, atol=tolerance)
    assert solution.success
    return solution


def moved_by_rounding(f, y0, start, end, tolerance, reference):
    """How far one more rounding of f moves scipy's steps: the largest relative change of five tries."""
    rng = np.random.default_rng(0)

    def rounded(t, y):
        slope = np.asarray(f(t, y))
        return slope + 2.0**-53 * rng.choice([-1.0, 1.0], slope.shape) * np.abs(slope)

    tries = [scipys(rounded, y0, start, end, tolerance) for _ in range(5)]
    same = [solution.t for solution in tries if solution.nfev == reference.nfev]
    return max(np.abs(t - reference.t).max() / np.abs(reference.t).max() for t in same)


def assert_same(f, y0, start, end, tolerance):
    reference = scipys(f, y0, start, end, tolerance)
    found, state = ours(f, y0, start, end, tolerance)
    assert found.status == "ok"
    assert sum(found.evaluations) == reference.nfev
    assert found.accepted == len(reference.t) - 1
    span = np.abs(reference.t).max()
    moved = np.abs(found.steps - reference.t[1:]).max() / span
    assert moved <= max(1e-9, 4 * moved_by_rounding(f, y0, start, end, tolerance, reference))
    np.testing.assert_allclose(state, reference.y[:, -1], rtol=tolerance, atol=tolerance)
    return found


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_counts_and_steps_are_scipys(problem, tolerance):
    f, y0 = PROBLEMS[problem]
    assert_same(f, y0, 0.0, 20.0, tolerance)


@pytest.mark.parametrize("problem", ["A3", "B5", "C5", "D3", "E3"])
def test_backward_integration_is_scipys(problem):
    f, y0 = PROBLEMS[problem]
    end = ours(f, y0, 0.0, 20.0, 1e-6)[1]
    assert_same(f, end, 20.0, 0.0, 1e-6)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_rejections_in_a_row_are_scipys(tolerance):
    # Nearly a jump after a long calm: the step has grown far too long when it comes.
    seen = []

    def pulse(t, y):
        seen.append(t)
        return -0.01 * y + 50.0 / (1.0 + np.exp(np.clip(-1e5 * (t - 11.0), -700, 700)))

    found = assert_same(pulse, [1.0], 0.0, 20.0, tolerance)
    # The attempts in order, by where they end: those that no step ends at were rejected.
    run = most = 0
    seen.clear()
    outcome = ours(pulse, [1.0], 0.0, 20.0, tolerance)[0]
    for end in (max(seen[i : i + 6]) for i in range(2, len(seen), 6)):
        run = 0 if end in outcome.steps else run + 1
        most = max(most, run)
    assert most >= 3
    assert found.rejected >= 3


def test_a_start_where_nothing_moves_is_scipys():
    # d1 = 0 takes the other branch of the starting step: 1e-6.
    assert_same(lambda t, y: np.array([t**4 * np.cos(t), 0.0]) - 1e-9 * y * t, [1.0, 0.0], 0.0, 10.0, 1e-6)
    assert_same(lambda t, y: 1e-17 * y + t**2, [0.0], 0.0, 10.0, 1e-6)
