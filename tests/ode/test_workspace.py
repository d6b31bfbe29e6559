"""The torch workspace: its verbs against numpy, its results against the host workspace."""

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.ode import workspace as module
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import SOLVERS, Dopri5
from merged_diffusion.ode.solve import solve
from merged_diffusion.ode.workspace import TorchWorkspace

G, D, S = 3, 10, 4
CPU = torch.device("cpu")
SITS_OUT = -1


def start(key):
    return np.random.default_rng(int(key)).standard_normal(D)


def linear(z, t, node, keys):
    """An output that names its row's time and problem, and a q that does too."""
    scale = torch.from_numpy(t * (1.0 + keys)).to(z.dtype)
    return z * scale.unsqueeze(1) + 1, torch.from_numpy(t + keys)


def workspace(network=linear, dtype=torch.float64, rows=G, store=None):
    return TorchWorkspace(
        rows,
        D,
        start=start,
        network=network,
        store={} if store is None else store,
        device=CPU,
        dtype=dtype,
        slots=S,
    )


@pytest.fixture(params=[1 << 18, 2 * G])
def loaded(request, monkeypatch):
    """Rows of problems 0, 1, 2; blocks of all columns, and of two."""
    monkeypatch.setattr(module, "CHUNK", request.param)
    made = workspace()
    for row in range(G):
        made.load(row, row)
    return made


def evaluate(made, slot):
    made.combine("both", np.ones(G), np.zeros((G, S)))
    made.evaluate(np.arange(1.0, G + 1), np.zeros(G, np.uint64), np.array(slot))


STATE = np.stack([start(key) for key in range(G)])
OUTPUT = STATE * (np.arange(1.0, G + 1) * np.arange(1, G + 1))[:, None] + 1


def test_combination_is_scale_times_state_plus_weights_times_slots(loaded):
    evaluate(loaded, [0, 1, SITS_OUT])
    scale = np.array([2.0, -1.0, 0.5])
    weights = np.zeros((G, S))
    weights[0, 0], weights[1, 1], weights[2, 3] = 3.0, 0.25, 7.0
    loaded.collect()
    loaded.combine("trial", scale, weights)
    loaded.accept(np.ones(G, dtype=bool))
    store = loaded._store
    for row in range(G):
        loaded.save(row, row, [])
    expected = scale[:, None] * STATE
    expected[0] += 3.0 * OUTPUT[0]
    expected[1] += 0.25 * OUTPUT[1]
    np.testing.assert_allclose(np.stack([store[k].numpy() for k in range(G)]), expected, rtol=1e-15)


def test_columns_come_back_in_order_and_once(loaded):
    evaluate(loaded, [0, 0, 0])
    loaded.combine("trial", np.full(G, 2.0), np.zeros((G, S)))
    weights = np.zeros((G, S))
    weights[:, 0] = 1.0
    loaded.scaled_square(np.ones(G), weights, 0.1, 0.01)
    loaded.gram(np.array([0, 0, SITS_OUT]))
    found = loaded.collect()
    assert len(found) == G + G + G * S
    np.testing.assert_array_equal(found[:G], np.arange(1.0, G + 1) + np.arange(G))
    size = 0.1 + 0.01 * 2 * np.abs(STATE)
    np.testing.assert_allclose(found[G : 2 * G], (((STATE + OUTPUT) / size) ** 2).sum(1), rtol=1e-14)
    gram = found[2 * G :].reshape(G, S)
    np.testing.assert_allclose(gram[:2, 0], (OUTPUT[:2] ** 2).sum(1), rtol=1e-14)
    assert (gram[:2, 1:] == 0).all()
    assert np.isnan(gram[2]).all()
    assert len(loaded.collect()) == 0


def test_only_masked_rows_are_accepted(loaded):
    loaded.combine("trial", np.full(G, 3.0), np.zeros((G, S)))
    loaded.accept(np.array([True, False, True]))
    loaded.accept(np.zeros(G, dtype=bool))
    for row in range(G):
        loaded.save(row, row, [])
    found = np.stack([loaded._store[key].numpy() for key in range(G)])
    np.testing.assert_array_equal(found, STATE * np.array([[3.0], [1.0], [3.0]]))


def test_output_that_is_not_finite_is_stored_as_zeros_and_told_by_q():
    def network(z, t, node, keys):
        out, q = linear(z, t, node, keys)
        out[1, 3] = torch.nan
        out[2, 0] = torch.inf
        return out, q

    made = workspace(network)
    for row in range(G):
        made.load(row, row)
    evaluate(made, [2, 2, 2])
    made.gram(np.full(G, 2))
    q, *gram = made.collect().reshape(1 + S, G)
    np.testing.assert_array_equal(np.isfinite(q), [True, False, False])
    products = np.concatenate(gram).reshape(G, S)[:, 2]
    assert products[0] == pytest.approx((OUTPUT[0] ** 2).sum(), rel=1e-14)
    assert list(products[1:]) == [0.0, 0.0]


def test_saved_state_is_found_by_another_workspace_and_then_forgotten():
    store = {}
    one, two = workspace(store=store), workspace(store=store)
    one.load(2, 7)
    one.combine("trial", np.full(G, 2.0), np.zeros((G, S)))
    one.accept(np.ones(G, dtype=bool))
    one.save(2, 7, [])
    one.load(2, 8)
    two.load(0, 7)
    assert not store
    two.save(0, 7, [])
    np.testing.assert_array_equal(store[7].numpy(), 2 * start(7))


def test_network_meets_its_own_dtype_and_slots_keep_it():
    seen = []

    def network(z, t, node, keys):
        seen.append(z.dtype)
        return linear(z, t, node, keys)

    made = workspace(network, torch.float32)
    made.load(0, 0)
    evaluate(made, [0, 0, 0])
    assert seen == [torch.float32]
    assert made._slots.dtype == torch.float32
    assert made._state.dtype == torch.float64


def solved(kind, n, rows, dtype=torch.float64, tolerance=1e-8):
    """States and step times of y' = (1 + key/4) cos(t) - y/2 from two legs."""
    steps, states = {}, {}

    def network(y, t, node, keys):
        force = torch.from_numpy((1 + keys.astype(float) / 4) * np.cos(t)).to(y.dtype)
        return force.unsqueeze(1) - y / 2, torch.zeros(len(y), dtype=torch.float64)

    tally = solve(
        [[(0.0, 1.0), (1.0, 3.0)]],
        [network, network],
        np.arange(n, dtype=np.uint64),
        start,
        dim=D,
        place=Place(CPU, dtype, rows, workspace=kind),
        solver=Dopri5(tolerance, tolerance),
        finished=lambda outcome: steps.update({outcome.key: outcome.steps}),
        drift="plain",
        keep=lambda key, state: states.update({key: state}),
        record_steps=True,
    )
    assert len(tally["calls"]) == 2
    return states, steps


def test_solution_is_the_closed_form():
    states, _ = solved("torch", 5, 2)
    for key, state in states.items():
        # y = C e^(-t/2) + a (0.4 cos t + 0.8 sin t)
        a = 1 + key / 4
        exact = (start(key) - 0.4 * a) * np.exp(-1.5) + a * (0.4 * np.cos(3) + 0.8 * np.sin(3))
        np.testing.assert_allclose(state, exact, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_host_and_torch_take_the_same_steps(dtype):
    # With float32 slots at 1e-4 the estimate stays clear of rounding.
    tolerance = 1e-8 if dtype == torch.float64 else 1e-4
    host, torchs = (solved(kind, 5, 2, dtype, tolerance) for kind in ("host", "torch"))
    limit = 1e-12 if dtype == torch.float64 else 1e-5
    for key in range(5):
        np.testing.assert_allclose(host[1][key], torchs[1][key], rtol=1e3 * limit)
        np.testing.assert_allclose(host[0][key], torchs[0][key], atol=limit)


@pytest.mark.parametrize("kind", ["host", "torch"])
def test_row_and_refill_change_no_bit(kind):
    many, alone = solved(kind, 9, 4), {}
    for key in range(9):
        # The same number of rows, other neighbours.
        alone |= {key: solved(kind, key + 1, 4)[0][key]}
    for key in range(9):
        assert np.array_equal(many[0][key], alone[key])


@pytest.mark.parametrize("kind", ["host", "torch"])
def test_exceptions_come_out_unchanged(kind):
    class OddError(Exception):
        pass

    problem = OddError("mine")

    def network(y, t, node, keys):
        raise problem

    with pytest.raises(OddError) as caught:
        solve(
            [[(0.0, 1.0)]],
            [network],
            np.arange(2, dtype=np.uint64),
            start,
            dim=D,
            place=Place(CPU, torch.float64, 2, workspace=kind),
            solver=Dopri5(),
            finished=lambda outcome: None,
        )
    assert caught.value is problem


@pytest.mark.parametrize(
    "returned", [lambda given: given, lambda given: given[:], lambda given: given.copy()]
)
def test_network_that_returns_its_input_is_stored_before_the_input_is_written(returned) -> None:
    states = np.random.default_rng(0).standard_normal((3, 5))
    given = np.zeros((3, 5))
    store = _core.HostStore()
    workspace = _core.HostWorkspace(
        given, store, lambda key: states[key], lambda _t, _node, _key: (returned(given), np.zeros(3))
    )
    _core.solve(
        [(-1.0, 1.0)],
        [workspace],
        np.arange(3, dtype=np.uint64),
        rows=3,
        dim=5,
        method="dopri5",
        precision=(1e-10, 1e-10),
        finished=lambda _outcome: None,
        keep=True,
    )
    # dz/dgamma = z (sigma - sigma^2)/2; the integrals of sigma/2 and sigma^2/2:
    growth = [np.arcsinh(np.exp(g / 2)) - np.log1p(np.exp(g)) / 2 for g in (-1.0, 1.0)]
    expected = states * np.exp(growth[1] - growth[0])
    np.testing.assert_allclose([store.take(key) for key in range(3)], expected, rtol=1e-8)


def _flow(y, t, _node, keys):
    """A network whose answer hangs on problem, time and state; q likewise."""
    problem = torch.as_tensor(keys % 100, dtype=torch.float64) + 1
    gamma = torch.as_tensor(t)
    output = torch.sin(y.double() * problem[:, None]) + torch.cos(3 * gamma)[:, None]
    return output.to(y.dtype), torch.cos(gamma * problem)


@pytest.mark.parametrize("kind", ["host", "torch"])
@pytest.mark.parametrize("method", ["dopri5", "adams"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_branch_is_to_the_last_bit_the_solve_of_its_own_legs(kind, method, dtype) -> None:
    trunk, switches = (-8.0, 3.0), (-7.9, -2.0, -1.9, 1.5, 3.0)
    branches = [[(trunk[0], switch), (switch, 5.0)] for switch in switches]
    states = np.random.default_rng(1).standard_normal((5, 6))

    def outcomes(legs, keys, branches=(), stride=0):
        found = {}
        tally = solve(
            [legs, *branches],
            [_flow] * max(len(course) for course in [legs, *branches]),
            np.array(keys, dtype=np.uint64),
            lambda key: states[key % 100],
            dim=6,
            place=Place(CPU, dtype, 4, workspace=kind),
            solver=SOLVERS[method](),
            finished=lambda outcome: found.__setitem__(outcome.key, outcome),
            record_steps=True,
            stride=stride,
        )
        return found, tally

    def told(outcome):
        names = ("status", "leg", "gamma", "log_density", "path_correction", "square", "evaluations")
        rest = ("accepted", "rejected", "ratio", "stage")
        return [getattr(outcome, name) for name in (*names, *rest)] + [outcome.steps.tolist()]

    keys = [problem + 100 * course for course in range(len(switches) + 1) for problem in range(5)]
    together, tally = outcomes([trunk], keys, branches, 100)
    single = 0
    for course, legs in enumerate([[trunk], *branches]):
        alone, own = outcomes(legs, range(5))
        single += own["evaluations"]
        for problem in range(5):
            assert told(together[problem + 100 * course]) == told(alone[problem])
    assert tally["evaluations"] < 0.85 * single


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branch": [(-7.0, 3.0)]}, "does not begin"),
        ({"solver": Dopri5(shared=True)}, "with branches"),
        ({"stride": 0}, "stride"),
        ({"keys": [250]}, "stride"),
    ],
)
def test_branches_that_cannot_be_are_refused(change, message) -> None:
    keys = np.array(change.pop("keys", [0, 100]), dtype=np.uint64)
    routes = [[(-8.0, 3.0)], change.pop("branch", [(-8.0, 1.0)])]
    options = {"stride": 100, "solver": Dopri5(), "dim": D, "place": Place(CPU, torch.float64, 2)} | change
    with pytest.raises(UsageError, match=message):
        solve(routes, [_flow], keys, start, finished=print, **options)
