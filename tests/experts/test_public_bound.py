"""The variational bound of public networks against the public code's, with its times and noise."""

import numpy as np
import pytest
import torch

from merged_diffusion.bound import losses, random_numbers, variational_bound
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.machine import Machine

TOLERANCE = 1e-4  # bits/dim, of the folders' README


def bound_with(vectors, model, monkeypatch, dtype="float32"):
    """One time an image, with the times and noise of the vectors in the place of drawn ones."""
    shape = (len(vectors["noise"]), -1)
    monkeypatch.setattr(random_numbers, "time_offsets", lambda *_: vectors["times"].astype(np.float64))
    monkeypatch.setattr(
        random_numbers, "reconstruction_noise", lambda *_: vectors["recon_noise"].reshape(shape).astype(float)
    )

    def fill(out, seed, ids, draws):
        out[:] = vectors["noise"].reshape(shape)[ids.astype(np.int64)]

    monkeypatch.setattr(losses, "diffusion_noise", fill)
    return variational_bound(model, vectors["img_int"], times=1, machine=Machine(dtype=dtype))


def check(found, vectors):
    dim = vectors["noise"][0].size
    for name in ("prior", "recon", "diff"):
        term = {"recon": "reconstruction", "diff": "diffusion"}.get(name, name)
        bits = -found.terms_nats[term] / (dim * np.log(2))
        np.testing.assert_allclose(bits, vectors[f"{name}_bpd"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.bits_per_dim, vectors["bpd"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["base", "attn", "like"])
def test_bound_of_a_likelihood_expert_is_the_public_one(public, case, monkeypatch):
    vectors = public.vectors(f"vdm/{case}/vlb")
    check(bound_with(vectors, public.vdm(f"vdm/{case}"), monkeypatch), vectors)


def test_bound_of_a_merged_model_is_the_public_one(public, monkeypatch):
    vectors = public.vectors("merged/pair/vlb")
    model = MergedModel(
        public.vdm("merged/pair", "vdm_"),
        public.edm("merged/pair", "edm_"),
        Threshold.eta(float(vectors["eta"])),
        convention="paper",
    )
    found = bound_with(vectors, model, monkeypatch)
    check(found, vectors)
    assert found.evaluations["likelihood"].tolist() == [1, 1, 0, 0]


def test_the_conventions_differ_above_the_threshold_only(public, monkeypatch):
    vectors = public.vectors("merged/pair/vlb")
    found = {}
    for convention in ("paper", "exact"):
        experts = public.vdm("merged/pair", "vdm_"), public.edm("merged/pair", "edm_")
        model = MergedModel(*experts, Threshold.eta(0.3), convention=convention)
        found[convention] = bound_with(vectors, model, monkeypatch).bits_per_dim
    differs = np.abs(found["paper"] - found["exact"]) > 1e-9
    assert differs.tolist() == [False, False, True, True]
    assert torch.is_grad_enabled()
