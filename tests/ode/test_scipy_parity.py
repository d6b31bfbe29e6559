"""`step_control="shared"` against scipy's RK45 on the flattened batch [z, log-density]; `per-image` on one.

float64 networks: in float32 another order of sums changes counts, scipy's against itself too.
"""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from merged_diffusion import _core
from merged_diffusion.experts.gaussian import GaussianMixtureExpert
from merged_diffusion.pairs import load_pair


def flow(expert, shape, probe):
    """(gamma, z [B, d]) -> eps_hat [B, d] and q [B], one forward and one vector-Jacobian product."""

    def evaluate(gamma, z, v):
        x = torch.from_numpy(z.copy()).reshape(-1, *shape).requires_grad_()
        gammas = torch.as_tensor(gamma, dtype=torch.float64).expand(x.shape[:1])
        eps_hat = expert(x, gammas)
        (jv,) = torch.autograd.grad(eps_hat, x, torch.from_numpy(v).reshape(x.shape))
        sigma = _core.sigma(np.broadcast_to(gamma, len(z)).copy())
        return eps_hat.detach().reshape(z.shape).numpy(), sigma * (jv.reshape(z.shape).numpy() * v).sum(1)

    return lambda gamma, z, rows=slice(None): evaluate(gamma, z, probe[rows])


def scipys(legs, flows, z, tolerance):
    """The paper's pipeline: accepted times, evaluations leg by leg, and the last [z, log-density]."""
    n, d = z.shape
    state, n_evaluations, times = np.concatenate([z.ravel(), np.zeros(n)]), [], []
    for (start, end), evaluate in zip(legs, flows, strict=True):

        def drift(gamma, y, evaluate=evaluate):
            z = y[: n * d].reshape(n, d)
            eps_hat, q = evaluate(gamma, z)
            square = _core.sigma_squared(gamma)
            dz = -0.5 * square * z + 0.5 * np.sqrt(square) * eps_hat
            return np.concatenate([dz.ravel(), 0.5 * (q - square * d)])

        solution = solve_ivp(drift, (start, end), state, method="RK45", rtol=tolerance, atol=tolerance)
        assert solution.success
        state = solution.y[:, -1]
        n_evaluations.append(solution.nfev)
        times.append(solution.t[1:])
    return np.concatenate(times), n_evaluations, state


def ours(legs, flows, z, tolerance, step_control="shared", vacant=0):
    """The outcomes by problem, and the last states."""
    n, d = z.shape
    store, outcomes, workspaces = _core.HostStore(), {}, []
    for evaluate in flows:
        given = np.zeros((n + vacant, d))

        def network(t, _node, keys, given=given, evaluate=evaluate):
            return evaluate(t, given, keys.astype(int))

        workspaces.append(_core.HostWorkspace(given, store, lambda key: z[key], network))
    _core.solve(
        legs,
        workspaces,
        np.arange(n, dtype=np.uint64),
        rows=n + vacant,
        dim=d,
        step_control=step_control,
        method="dopri5",
        precision=(tolerance, tolerance),
        finished=lambda outcome: outcomes.update({outcome.key: outcome}),
        keep=True,
        record_steps=True,
    )
    return outcomes, np.stack([store.take(key) for key in range(n)])


def assert_same(legs, flows, z, tolerance):
    times, n_evaluations, state = scipys(legs, flows, z, tolerance)
    outcomes, last = ours(legs, flows, z, tolerance)
    n, d = z.shape
    width = abs(legs[-1][1] - legs[0][0])
    for key in range(n):
        assert outcomes[key].status == "ok"
        assert outcomes[key].evaluations == n_evaluations
        assert np.abs(outcomes[key].steps - times).max() <= 1e-9 * width
        assert outcomes[key].log_density == pytest.approx(state[n * d + key], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(last, state[: n * d].reshape(n, d), rtol=1e-9, atol=1e-9)


def mixtures(rng, shape, n_images):
    """Two experts that know different images, and noise around those of the first."""
    images = rng.uniform(-1, 1, (2, 5, *shape))
    experts = [
        GaussianMixtureExpert(torch.from_numpy(means), variance=0.04, gamma_range=(-10.0, 8.0))
        for means in images
    ]
    z = images[0][rng.integers(0, 5, n_images)] + 0.2 * rng.standard_normal((n_images, *shape))
    return experts, z.reshape(n_images, -1)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("n_images", [1, 7, 16])
def test_two_legs_of_mixtures_count_as_scipy(n_images, tolerance):
    rng = np.random.default_rng(n_images)
    shape = (1, 3, 4)
    experts, z = mixtures(rng, shape, n_images)
    probe = rng.choice([-1.0, 1.0], z.shape)
    flows = [flow(expert, shape, probe) for expert in experts]
    assert_same([(-8.0, -2.5), (-2.5, 7.0)], flows, z, tolerance)
    assert_same([(7.0, -2.5), (-2.5, -8.0)], flows[::-1], z, tolerance)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
@pytest.mark.parametrize(("pair", "eta"), [("digits", 0.2), ("digits", 0.6), ("photos", 0.3)])
def test_trained_networks_count_as_scipy(pair, eta, tolerance):
    rng = np.random.default_rng(3)
    legs = load_pair(pair, eta=eta).legs()
    shape = legs[0].expert.image_shape
    z = rng.uniform(-1, 1, (8, int(np.prod(shape))))
    probe = rng.choice([-1.0, 1.0], z.shape)
    for leg in legs:
        leg.expert.double()
    flows = [flow(leg.expert, shape, probe) for leg in legs]
    assert_same([(leg.start, leg.end) for leg in legs], flows, z, tolerance)


def test_per_image_is_scipy_on_that_image_alone():
    rng = np.random.default_rng(5)
    shape = (1, 3, 4)
    experts, z = mixtures(rng, shape, 6)
    probe = rng.choice([-1.0, 1.0], z.shape)
    legs = [(-8.0, -2.5), (-2.5, 7.0)]
    outcomes, _ = ours(legs, [flow(e, shape, probe) for e in experts], z, 1e-6, "per-image")
    assert len({tuple(outcome.evaluations) for outcome in outcomes.values()}) > 1
    for key in range(6):
        one = slice(key, key + 1)
        flows = [flow(e, shape, probe[one]) for e in experts]
        times, n_evaluations, state = scipys(legs, flows, z[one], 1e-6)
        assert outcomes[key].evaluations == n_evaluations
        assert np.abs(outcomes[key].steps - times).max() <= 1e-9 * 15
        assert outcomes[key].log_density == pytest.approx(state[-1], rel=1e-9)


def test_vacant_rows_do_not_count():
    rng = np.random.default_rng(6)
    shape = (1, 3, 4)
    experts, z = mixtures(rng, shape, 3)
    probe = rng.choice([-1.0, 1.0], z.shape)
    legs = [(-8.0, -2.5), (-2.5, 7.0)]
    flows = [flow(e, shape, probe) for e in experts]
    full, _ = ours(legs, flows, z, 1e-6)
    padded, _ = ours(legs, flows, z, 1e-6, vacant=5)
    for key in range(3):
        assert padded[key].evaluations == full[key].evaluations
        # Another number of rows may round a network's last bit otherwise; at loose steps that moves the next
        # ones by up to 5e-7 (SciPy's own, in test_detest.py).
        np.testing.assert_allclose(padded[key].steps, full[key].steps, rtol=5e-7, atol=5e-7)
