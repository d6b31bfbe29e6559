"""How long does solver arithmetic take beside what a user would take instead, on the same expert?

512 x 3072, float32 network: one leg by our Dormand-Prince in both step controls, by scipy's `solve_ivp` as
usually called and with `t_eval` at the end, and by torchdiffeq. The clock stops while the expert works,
so the table is of everything else; ratios are per evaluation, and of the whole leg.
"""

import statistics
import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from merged_diffusion import _core

ROWS, DIM = 512, 3072
LEG = (-8.0, 5.0)
TOLERANCE = 1e-5
ROUNDS = 7


class Expert:
    """A noise predictor that costs one pass over z, its own time, and its calls."""

    def __init__(self):
        self.seconds, self.calls = 0.0, 0

    def __call__(self, gamma, z):
        begin = time.perf_counter()
        # Data N(0, 1/4): eps_hat = sigma z / (alpha^2/4 + sigma^2), and q = sigma tr J.
        square = 1.0 / (1.0 + np.exp(-gamma))
        slope = np.sqrt(square) / (0.25 * (1.0 - square) + square)
        eps_hat = z * float(slope)
        q = np.full(ROWS, np.sqrt(square) * slope * DIM)
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return eps_hat, q


EXPERT = Expert()


def outside_expert():
    return time.perf_counter() - EXPERT.seconds


@pytest.fixture(scope="module")
def start():
    return np.random.default_rng(0).standard_normal((ROWS, DIM)) * 0.5


def ours(start, step_control):
    given = np.zeros((ROWS, DIM), np.float32)
    shared = torch.from_numpy(given)

    def evaluate(t, _node, _key):
        eps_hat, q = EXPERT(t[0], shared)
        return eps_hat.numpy(), q

    workspace = _core.HostWorkspace(given, _core.HostStore(), lambda key: start[key], evaluate)
    _core.solve(
        [LEG],
        [workspace],
        np.arange(ROWS, dtype=np.uint64),
        rows=ROWS,
        dim=DIM,
        step_control=step_control,
        method="dopri5",
        precision=(TOLERANCE, TOLERANCE),
        finished=lambda _outcome: None,
    )


def drift(gamma, y):
    z = y[: ROWS * DIM].reshape(ROWS, DIM)
    given = torch.from_numpy(z.astype(np.float32))
    eps_hat, q = EXPERT(gamma, given)
    square = _core.sigma_squared(gamma)
    dz = -0.5 * square * z + 0.5 * np.sqrt(square) * eps_hat.numpy()
    return np.concatenate([dz.ravel(), 0.5 * (q - square * DIM)])


def scipys(start, **options):
    state = np.concatenate([start.ravel(), np.zeros(ROWS)])
    solve_ivp(drift, LEG, state, method="RK45", rtol=TOLERANCE, atol=TOLERANCE, **options)


def torchdiffeqs(start):
    def drift(gamma, state):
        z, _ = state
        square = torch.sigmoid(gamma)
        eps_hat, q = EXPERT(float(gamma), z.float())
        dz = -0.5 * square * z + 0.5 * torch.sqrt(square) * eps_hat
        return dz, 0.5 * (torch.from_numpy(q) - square * DIM)

    times = torch.tensor(LEG, dtype=torch.float64)
    state = torch.from_numpy(start), torch.zeros(ROWS, dtype=torch.float64)
    odeint(drift, state, times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")


SOLVERS = {
    "ours": lambda start: ours(start, "shared"),
    "ours per-image": lambda start: ours(start, "per-image"),
    "solve_ivp": scipys,
    "solve_ivp t_eval": lambda start: scipys(start, t_eval=[LEG[1]]),
    "torchdiffeq": torchdiffeqs,
}
PER_EVALUATION = {}
PER_LEG = {}


@pytest.mark.benchmark(group="512 x 3072, outside the expert", timer=outside_expert)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solver(benchmark, start, report, solver):
    SOLVERS[solver](start)  # warm, and the number of evaluations
    EXPERT.calls = 0
    SOLVERS[solver](start)
    calls = EXPERT.calls
    benchmark.pedantic(SOLVERS[solver], args=(start,), rounds=ROUNDS, iterations=1)
    seconds = [value / calls for value in benchmark.stats.stats.data]
    PER_EVALUATION[solver] = statistics.median(seconds)
    PER_LEG[solver] = PER_EVALUATION[solver] * calls
    ratio = PER_EVALUATION[solver] / PER_EVALUATION["ours"]
    leg_ratio = PER_LEG[solver] / PER_LEG["ours"]
    low, high = 1e3 * min(seconds), 1e3 * max(seconds)
    report(
        f"{solver:<18} {calls:4d} evaluations  {1e3 * PER_EVALUATION[solver]:7.2f} ms each"
        f" [{low:.2f}, {high:.2f}]  {ratio:6.2f} x ours, {leg_ratio:6.2f} x the leg"
    )
