"""Samplers against numbers of the public codes (`tests/reference`), along their noise.

The references' networks and states are float32. Run in float64 along the same noise, what is left is the
references' own rounding: their READMEs' tolerances, 1e-4 for samplers of EDM, 1e-3 elsewhere.
"""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from merged_diffusion import _core
from merged_diffusion.experts.accept import Accept
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.samplers import Ancestral, Heun, Ode, Sampling
from merged_diffusion.sampling import decode, drawing, grids
from merged_diffusion.sampling.ancestral import Coefficients, ancestral, clipped_mean
from merged_diffusion.sampling.drawing import Drawing
from merged_diffusion.sampling.heun import heun
from merged_diffusion.sampling.network import Network

CPU = torch.device("cpu")
EDM_RANGE = (2 * np.log(0.002), 2 * np.log(80.0))


def tensor(array):
    return torch.from_numpy(array).double()


@pytest.mark.parametrize("name", ["uncond", "aug9", "cond"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heun_follows_edm(public, name, dtype):
    d = public.vectors(f"edm/{name}/heun")
    expert = public.edm(f"edm/{name}", dtype=dtype)
    expert.gamma_range = EDM_RANGE  # the public sampler's, which the card rounds
    # EDM's own pixels: nothing is rescaled.
    legs = as_model(expert, role="quality", convention="paper").legs(toward="data")
    cond = torch.from_numpy(d["class_labels"].argmax(1)) if "class_labels" in d else None
    asked = []

    class Recorded(Network):
        def __call__(self, leg, z, gamma):
            asked.append(_core.edm_sigma(gamma))
            return super().__call__(leg, z, gamma)

    network = Recorded(CPU, dtype, cond)
    z = _core.sigma(EDM_RANGE[1]) * tensor(d["latents"])
    how = Heun(int(d["num_steps"]))
    grid = [grids.nodes(how, legs[0].start, legs[0].end)]
    x = heun(z, legs, network, lambda _: torch.zeros(1), grid, steps=how.steps)
    assert network.calls["quality"] == int(d["nfe"])
    np.testing.assert_allclose(asked, d["sigmas_called"], rtol=1e-12)
    np.testing.assert_allclose(x, d["x"], rtol=0, atol=1e-4)
    # EDM decodes 127.5 y + 128 of its own pixels y = 2v/255 - 1.
    np.testing.assert_array_equal(decode.argmax(d["x"] * (255 / 256), 256), d["uint8"])


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", ["attn", "like"])
def test_ancestral_steps_are_those_of_the_public_vdm(public, name, clip):
    d = public.vectors(f"vdm/{name}/ancestral")
    suffix = "clip" if clip else "noclip"
    legs = as_model(public.vdm(f"vdm/{name}")).legs(toward="data")
    network = Network(CPU, torch.float32)
    gamma_t, gamma_s = (-13.3 + 18.3 * float(d[t]) for t in "ts")
    z, step = tensor(d["z_t"]), Coefficients.of(gamma_t, gamma_s)
    eps_hat = network(legs[0], z, gamma_t)
    mean = clipped_mean(z, eps_hat, gamma_t, gamma_s) if clip else step.scale * (z - step.shrink * eps_hat)
    np.testing.assert_allclose(mean + step.std * tensor(d["noise"]), d[f"z_s_{suffix}"], rtol=0, atol=2e-5)
    noises = tensor(d["noises"])
    gammas = grids.nodes(Ancestral(int(d["T"])), legs[0].start, legs[0].end)
    z = ancestral(tensor(d["z_T"]), legs, network, noises.__getitem__, gammas, clip=clip)
    np.testing.assert_allclose(z, d[f"z_0_{suffix}"], rtol=0, atol=1e-3)
    x = d[f"z_0_{suffix}"].astype(np.float64) / _core.alpha(-13.3)
    found = decode.argmax(x, 256)
    near_edge = np.abs((x + 1) * 128 - np.rint((x + 1) * 128)) < 1e-3  # where float32 decides otherwise
    np.testing.assert_array_equal(found[~near_edge], d[f"x_int_{suffix}"][~near_edge])


def test_merged_ancestral_steps_take_the_expert_that_the_reference_took(public):
    d = public.vectors("merged/pair/ancestral")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_"),
        public.edm("merged/pair", "edm_"),
        Threshold.eta(float(d["eta"])),
        convention="paper",
    )
    roles = []

    class Recorded(Network):
        def __call__(self, leg, z, gamma):
            roles.append(leg.role == "likelihood")
            return super().__call__(leg, z, gamma)

    noises = tensor(d["noises"])
    z = ancestral(
        tensor(d["z_T"]),
        model.legs(toward="data"),
        Recorded(CPU, torch.float32),
        noises.__getitem__,
        grids.nodes(Ancestral(int(d["T"])), *reversed(model.gamma_range)),
    )
    np.testing.assert_array_equal(roles, d["used_vdm"].astype(bool))
    np.testing.assert_allclose(z, d["z_0"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("convention", "suffix"), [("paper", "_conv"), ("exact", "_conv_scaled")])
def test_ode_draws_the_converged_reference_from_its_noise(public, monkeypatch, convention, suffix):
    d = public.vectors("merged/pair/ode")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_", torch.float64),
        public.edm("merged/pair", "edm_", torch.float64),
        Threshold.eta(float(d["eta"])),
        convention=convention,
    )
    # The package starts from sigma(gamma_max) times its own normal numbers.
    start = d["sample_z_T"].reshape(2, -1).astype(np.float64) / _core.sigma(model.gamma_range[1])
    monkeypatch.setattr(drawing, "normal", lambda seed, purpose, ids, dim: start[ids.astype(int)])
    how = Sampling(Ode(Dopri5(1e-9, 1e-9)))
    place = Place(CPU, torch.float64, 2)
    (found,) = Drawing(model, how, place, (3, 8, 8)).run(np.arange(2), None, accept=Accept(), latents=True)
    np.testing.assert_allclose(found.latents.reshape(2, 3, 8, 8), d[f"sample_z_0{suffix}"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.images, d[f"sample_x_int{suffix}"])


@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_ode_counts_what_scipy_counts_where_a_block_shares_its_steps(public, monkeypatch, rtol):
    d = public.vectors("merged/pair/ode")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_", torch.float64),
        public.edm("merged/pair", "edm_", torch.float64),
        Threshold.eta(float(d["eta"])),
    )
    z = d["sample_z_T"].ravel().astype(np.float64)
    network, counts = Network(CPU, torch.float64), {}
    for leg in model.legs(toward="data"):

        def drift(gamma, z, leg=leg):
            sigma = _core.sigma(gamma)
            eps_hat = network(leg, torch.from_numpy(z).view(2, 3, 8, 8), gamma).numpy().ravel()
            return 0.5 * sigma * (eps_hat - sigma * z)

        solved = solve_ivp(drift, (leg.start, leg.end), z, method="RK45", rtol=rtol, atol=rtol)
        z, counts[leg.role] = solved.y[:, -1], solved.nfev
    start = d["sample_z_T"].reshape(2, -1).astype(np.float64) / _core.sigma(model.gamma_range[1])
    monkeypatch.setattr(drawing, "normal", lambda seed, purpose, ids, dim: start[ids.astype(int)])
    how = Sampling(Ode(Dopri5(rtol, rtol, shared=True)))
    place = Place(CPU, torch.float64, 2)
    (found,) = Drawing(model, how, place, (3, 8, 8)).run(np.arange(2), None, accept=Accept(), latents=True)
    np.testing.assert_allclose(found.latents.ravel(), z, rtol=0, atol=1e-9)
    assert {role: counted.tolist() for role, counted in found.evaluations.items()} == {
        role: [count] * 2 for role, count in counts.items()
    }
