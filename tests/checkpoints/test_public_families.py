"""Files of the public families: eps_hat, products and likelihood are those of the public code."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.checkpoints.public_files import SAID, checkpoint, vectors
from tests.experts.test_public_likelihood import Given, solved

import merged_diffusion as md
from merged_diffusion.likelihood import scoring
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.merge import as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Dopri5
from merged_diffusion.schedules import sigma

# Of the READMEs: of eps_hat in float32, absolute; where no double precision is asked, none is listed.
SINGLE = {
    "edm-nets": 2e-5, "edm2": 2e-5, "openai": 5e-5, "torchcfm": 1e-5, "lucidrains": 5e-5, "score-sde": 2e-5,
}  # fmt: skip
LOOSER = {"edm-nets/vp": 2e-4, "score-sde/ncsnpp-ve": 2e-4, "lucidrains/x0-cosine": 1e-3}
DOUBLE = 1e-9


def load(name, folder, dtype=torch.float64, said=None):
    expert = md.load_expert(checkpoint(name, folder), read_as=said or SAID[name])
    return expert.to(dtype)


def labels(name, expert):
    return torch.from_numpy(vectors(f"{name}/network")["class_ids"]).long() if expert.conditional else None


def rows(gamma, n):
    return torch.full((n,), float(gamma), dtype=torch.float64)


def asked(expert, d, gamma, z, cond, dtype):
    """eps_hat and sigma v^T J v of every image."""
    z = torch.from_numpy(z).to(dtype).requires_grad_(True)
    at = rows(gamma, len(z))
    eps_hat = expert(z, at, cond)
    probe = torch.from_numpy(d["probe"]).to(dtype).expand_as(z)
    (gradient,) = torch.autograd.grad((eps_hat * probe).sum(), z)
    q = sigma(at) * (gradient * probe).double().sum((1, 2, 3))
    return eps_hat.detach().double().numpy(), q.numpy()


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_noise_and_products_are_those_of_the_public_code(name, dtype, tmp_path):
    expert, d = load(name, tmp_path, dtype), vectors(f"{name}/eps")
    cond = labels(name, expert)
    is_double = dtype == torch.float64
    atol = DOUBLE if is_double else LOOSER.get(name, SINGLE[name.split("/")[0]])
    for gamma, z, eps_hat, q in zip(d["gamma"], d["z"], d["eps_hat"], d["q"], strict=True):
        found, product = asked(expert, d, gamma, z, cond, dtype)
        scale = max(1.0, float(np.abs(eps_hat).max()))
        np.testing.assert_allclose(found, eps_hat, rtol=0, atol=atol * scale, err_msg=f"gamma {gamma}")
        np.testing.assert_allclose(
            product, q, rtol=0, atol=(DOUBLE if is_double else 2e-4) * max(1, np.abs(q).max())
        )
    z, at = torch.from_numpy(d["z_vec"]).to(dtype), torch.from_numpy(d["gamma_vec"])
    with torch.no_grad():
        found = expert(z, at, cond).double().numpy()
    np.testing.assert_allclose(found, d["eps_hat_vec"], rtol=0, atol=atol * max(1, np.abs(found).max()))


def test_the_same_weights_are_another_model_as_sub_vp(tmp_path):
    d = vectors("score-sde/ddpmpp-vp/eps_subvp")
    expert = load("score-sde/ddpmpp-vp", tmp_path, said="score_sde:subvp,size=8")
    for gamma, z, eps_hat in zip(d["gamma"], d["z"], d["eps_hat"], strict=True):
        with torch.no_grad():
            found = expert(torch.from_numpy(z).double(), rows(gamma, len(z)))
        np.testing.assert_allclose(found, eps_hat, rtol=0, atol=DOUBLE)


def test_between_the_steps_of_iddpm_the_index_is_interpolated_unless_whole_steps_are_said(tmp_path):
    smooth = load("edm-nets/iddpm", tmp_path, said="edm")
    rounded = load("edm-nets/iddpm", tmp_path)
    z = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cond = torch.tensor([1])
    at = torch.linspace(-4.0, -3.98, 9, dtype=torch.float64)

    def jumps(expert):
        with torch.no_grad():
            outs = [expert(z, g[None], cond) for g in at]
        return [float((a - b).abs().max()) for a, b in pairwise(outs)]

    assert max(jumps(rounded)) > 5 * max(jumps(smooth)) > 0


@pytest.mark.parametrize("name", SAID)
def test_a_converted_folder_gives_the_same_bits(name, tmp_path):
    source = checkpoint(name, tmp_path)
    md.convert_expert(source, tmp_path / "converted", read_as=SAID[name])
    expert, again = md.load_expert(source, read_as=SAID[name]), md.load_expert(tmp_path / "converted")
    d = vectors(f"{name}/eps")
    z, at = torch.from_numpy(d["z_vec"]), torch.from_numpy(d["gamma_vec"])
    cond = labels(name, expert)
    with torch.no_grad():
        assert torch.equal(expert(z, at, cond), again(z, at, cond))
    assert again.gamma_range == expert.gamma_range


@pytest.fixture
def ours(tmp_path):
    """(model, vectors): the VP SDE of score_sde, as its likelihood.py takes it, pixels unscaled."""
    model = as_model(load("score-sde/like-vp", tmp_path), convention="paper")
    return model, vectors("score-sde/like-vp/likelihood")


def test_path_and_divergence_are_those_of_score_sde(ours):
    """Its own integral over its own times, by DOP853 at 1e-9; within what the README allows RK45 at 1e-5."""
    model, d = ours
    states, integrals = solved(model.legs(), d["x"], d["probe"], tolerance=1e-5)
    np.testing.assert_allclose(states, d["z_conv"], rtol=0, atol=2e-2)
    np.testing.assert_allclose(integrals, d["delta_logp_conv"], rtol=0, atol=1)


def test_bits_per_dim_are_those_of_score_sde(ours, monkeypatch):
    """The start alpha x and the end N(0, sigma^2) in the place of x and N(0, I) are 3e-5 bits/dim."""
    model, d = ours
    noise = (2 * d["dequant_u"].astype(np.float64) - 1) / 256
    monkeypatch.setattr(Dequantisation, "_noise", lambda _, key: noise[key].ravel())
    monkeypatch.setattr(scoring, "make_directions", lambda *_, **__: Given(d["probe"]))
    monkeypatch.setattr("merged_diffusion.scores.prepared.check_expert", lambda *_, **__: None)
    found = md.log_likelihood(
        model,
        d["img_int"],
        dequantise="uniform",
        solver=Dopri5(rtol=1e-5, atol=1e-5),
        machine=Machine(dtype="float64", batch_size=2),
    )
    np.testing.assert_allclose(found.bits_per_dim, d["bpd_conv"], rtol=0, atol=1e-2)
