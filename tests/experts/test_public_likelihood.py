"""The package's solves of public networks against converged ones of the public code, in float64.

The references were solved by RK45 at 1e-9 with networks in double precision (`tests/reference/*/README.md`),
along given noise and probes, which stand in for the package's own streams here.
"""

import numpy as np
import pytest
import torch

from merged_diffusion import _core
from merged_diffusion.likelihood import scoring
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.likelihood.exact import log_likelihood
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.ode.flow import ProbabilityFlow
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Machine, Place
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.ode.solve import solve

SHAPE = (3, 8, 8)
STATES = {"rtol": 0, "atol": 1e-6}
LOG_DENSITY = {"rtol": 0, "atol": 1e-5}
TOLERANCE = 1e-9
CONVENTIONS = {"paper": "_conv", "exact": "_conv_scaled"}


class Given:
    """Probes [N, d] by position, in the place of drawn ones."""

    weight = 1.0

    def __init__(self, *vectors):
        self.n_products = len(vectors)
        self._vectors = [torch.from_numpy(v.reshape(len(v), -1)).double() for v in vectors]

    def directions(self, keys, node):
        return iter([vectors[keys.astype(np.int64)] for vectors in self._vectors])


def solved(legs, start, *probes, tolerance=TOLERANCE):
    """(states at the end, integrals of the trace) of rows that begin in ``start`` and pass the legs."""
    n, dim = len(start), start[0].size
    items = Items(np.arange(n, dtype=np.uint64))
    flows = [ProbabilityFlow(leg.expert, SHAPE, Given(*probes), items) for leg in legs]
    ends, integrals = np.empty((n, dim)), np.empty(n)

    def finished(outcome):
        assert outcome.status == "ok"
        integrals[outcome.key] = outcome.log_density

    solve(
        [[(leg.start, leg.end) for leg in legs]],
        flows,
        np.arange(n, dtype=np.uint64),
        lambda key: start[key].ravel().astype(np.float64),
        dim=dim,
        place=Place(torch.device("cpu"), torch.float64, n),
        solver=Dopri5(tolerance, tolerance),
        finished=finished,
        keep=lambda key, state: ends.__setitem__(key, state),
    )
    return ends.reshape(start.shape), integrals


@pytest.fixture(scope="module")
def alone(public):
    """(model, vectors) of the likelihood expert alone."""
    return as_model(public.vdm("vdm/like", dtype=torch.float64)), public.vectors("vdm/like/likelihood")


@pytest.fixture(scope="module", params=CONVENTIONS)
def merged(public, request):
    """(model, vectors, how the convention's vectors end) of a merged pair."""
    d = public.vectors("merged/pair/ode")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_", torch.float64),
        public.edm("merged/pair", "edm_", torch.float64),
        Threshold.eta(float(d["eta"])),
        convention=request.param,
    )
    return model, d, CONVENTIONS[request.param]


def test_likelihood_expert_ends_where_the_converged_reference_ends(alone):
    model, d = alone
    # At 1e-9 our own error is 1e-5 nats; at 1e-10 what is left, 7e-6, is the reference's.
    states, integrals = solved(model.legs(), d["z0"], d["probe"], tolerance=1e-10)
    np.testing.assert_allclose(states, d["z_T_conv"], **STATES)
    np.testing.assert_allclose(integrals, d["delta_logp_conv"], **LOG_DENSITY)


def test_likelihood_expert_samples_what_the_converged_reference_samples(alone):
    model, d = alone
    states, _ = solved(model.legs(toward="data"), d["sample_z_T"])
    np.testing.assert_allclose(states, d["sample_z_0_conv"], **STATES)


def test_drift_and_its_trace_are_those_of_the_reference(alone):
    model, d = alone
    (leg,) = model.legs()
    items = Items(np.zeros(1, dtype=np.uint64))
    flows = {
        "trace_probe": ProbabilityFlow(leg.expert, SHAPE, Given(d["probe"][:1]), items),
        "trace_exact": ProbabilityFlow(leg.expert, SHAPE, Given(*np.eye(192)[:, None]), items),
    }
    for i, gamma in enumerate(d["trace_gamma"]):
        z, key = torch.from_numpy(d["z0"][:1]).double().flatten(1), np.zeros(1, dtype=np.uint64)
        square = _core.sigma_squared(gamma)
        for name, flow in flows.items():
            eps_hat, q = flow(z, np.array([gamma]), key, key)
            assert float(q[0] - square * 192) / 2 == pytest.approx(d[name][i], abs=1e-6)
        drift = (square**0.5 * eps_hat - square * z) / 2
        np.testing.assert_allclose(drift.view(SHAPE), d["drift_first"][i], **STATES)


def test_merged_noise_prediction_on_both_sides_of_the_threshold(public):
    d = public.vectors("merged/pair/ode")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_"),
        public.edm("merged/pair", "edm_"),
        Threshold.eta(float(d["eta"])),
        convention="paper",
    )
    z = torch.from_numpy(d["eps_z"])
    for gamma, expected in zip(d["eps_gamma"], d["eps_hat"], strict=True):
        (expert,) = {leg.expert for leg in model.legs() if leg.start <= gamma <= leg.end}
        found = expert(z, torch.full((2,), gamma, dtype=torch.float64))
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


def test_merged_legs_end_where_the_converged_reference_ends(merged):
    model, d, suffix = merged
    low, high = model.legs()
    at_threshold, first = solved([low], d["z0"], d["probe"])
    np.testing.assert_allclose(at_threshold, d[f"z_eta{suffix}"], **STATES)
    np.testing.assert_allclose(first, d[f"delta_logp_low{suffix}"], **LOG_DENSITY)
    states, second = solved([high], at_threshold, d["probe"])
    np.testing.assert_allclose(states, d[f"z_T{suffix}"], **STATES)
    np.testing.assert_allclose(second, d[f"delta_logp_high{suffix}"], **LOG_DENSITY)


def test_merged_samples_are_those_of_the_converged_reference(merged):
    model, d, suffix = merged
    high, low = model.legs(toward="data")
    at_threshold, _ = solved([high], d["sample_z_T"])
    np.testing.assert_allclose(at_threshold, d[f"sample_z_eta{suffix}"], **STATES)
    states, _ = solved([low], at_threshold)
    np.testing.assert_allclose(states, d[f"sample_z_0{suffix}"], **STATES)


def given_streams(monkeypatch, d):
    """Let `log_likelihood` meet the reference's noise and probe."""
    monkeypatch.setattr(Dequantisation, "_noise", lambda _, key: d["eps_tn"][key].ravel().astype(np.float64))
    monkeypatch.setattr(scoring, "make_directions", lambda *_, **__: Given(d["probe"]))
    monkeypatch.setattr("merged_diffusion.scores.prepared.check_expert", lambda *_, **__: None)


def scored(model, d):
    return log_likelihood(
        model,
        d["img_int"],
        dequantise="truncated-normal",
        solver=Dopri5(rtol=1e-8, atol=1e-8),
        machine=Machine(dtype="float64", batch_size=2),
    )


def test_bits_per_dim_of_the_likelihood_expert(alone, monkeypatch):
    model, d = alone
    given_streams(monkeypatch, d)
    np.testing.assert_allclose(scored(model, d).bits_per_dim, d["bpd_k1_sigmaT"], rtol=0, atol=1e-5)


def test_bits_per_dim_of_the_merged_pair(merged, monkeypatch):
    model, d, suffix = merged
    given_streams(monkeypatch, d)
    np.testing.assert_allclose(scored(model, d).bits_per_dim, d[f"bpd_k1_sigmaT{suffix}"], rtol=0, atol=1e-5)
