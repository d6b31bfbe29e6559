"""DDPM++ under EDM's preconditioning against numbers of the public code (`tests/reference/edm`)."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from merged_diffusion.schedules import alpha, per_image, sigma

CASES = ("uncond", "aug9", "cond")
TOLERANCE = {"rtol": 0, "atol": 2e-5}  # of the folder's README, as are the others
OF_GRADIENTS = {"rtol": 0, "atol": 1e-4}


def vectors(public, case, file="denoise"):
    return {
        k: torch.from_numpy(v)
        for k, v in public.vectors(f"edm/{case}/{file}").items()
        if v.dtype.kind in "fi"
    }


def denoised(expert, x, noise, labels=None, augment=None):
    """D(x; s) of Karras et al. 2022, table 1, for s float64 [B]."""
    r = (noise**2 + 0.25).sqrt()
    raw = expert.raw(x * per_image(1 / r, x), noise, labels, augment)
    return x * per_image(0.25 / r**2, x) + raw * per_image(0.5 * noise / r, x)


def level(value, x):
    return torch.full((len(x),), float(value), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_denoiser_is_the_public_one(public, case):
    expert, d = public.edm(f"edm/{case}"), vectors(public, case)
    inputs = {"D": (d.get("class_labels"), None)}
    if "D_null" in d:
        inputs["D_null"] = (None, None)
    if "D_aug" in d:
        inputs["D_aug"] = (d.get("class_labels"), d["augment_labels"])
    for name, (labels, augment) in inputs.items():
        for s, x, expected in zip(d["sigmas"], d["x"], d[name], strict=True):
            found = denoised(expert, x, level(s, x), labels, augment)
            torch.testing.assert_close(
                found, expected, **TOLERANCE, msg=lambda m, n=name, s=s: f"{n} {s} {m}"
            )


@pytest.mark.parametrize("case", CASES)
def test_every_image_has_its_own_noise_level(public, case):
    expert, d = public.edm(f"edm/{case}"), vectors(public, case)
    found = denoised(expert, d["x_vec"], d["sigma_vec"].double(), d.get("class_labels"))
    torch.testing.assert_close(found, d["D_vec"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_bare_network_is_the_public_one(public, case):
    expert, d = public.edm(f"edm/{case}"), vectors(public, case)
    noise = d["F_noise_label"].double().expand(len(d["F_in"]))
    torch.testing.assert_close(expert.model(d["F_in"], noise, d.get("class_labels")), d["F_out"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("at", "s"), [("0p1", 0.1), ("1", 1.0)])
def test_gradients_are_the_public_ones(public, case, at, s):
    expert, d = public.edm(f"edm/{case}"), vectors(public, case)
    x = d["x"][list(d["sigmas"].numpy()).index(np.float32(s))].requires_grad_()
    found = denoised(expert, x, level(s, x), d.get("class_labels"))
    (gradient,) = torch.autograd.grad((found * d["vjp_v"]).sum(), x)
    torch.testing.assert_close(gradient, d[f"vjp_sigma{at}"], **OF_GRADIENTS)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_gives_what_the_public_one_gives(public, case):
    expert, d = public.edm(f"edm/{case}"), vectors(public, case)
    outputs, names = {}, public.vectors(f"edm/{case}/denoise")["act_names"]
    for name in names:
        layer = expert.model.get_submodule(name)
        layer.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    denoised(expert, d["x"][0], level(d["sigmas"][0], d["x"][0]), d.get("class_labels"))
    for statistic, of in (
        ("mean", torch.mean),
        ("std", torch.std),
        ("first", lambda out: out.flatten()[0]),
    ):
        found = torch.stack([of(outputs[str(name)]) for name in names])
        torch.testing.assert_close(found, d[f"act_{statistic}"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gamma", [-12.43, -4.0, 0.0, 8.764])
def test_eps_hat_is_that_of_the_denoiser(public, case, gamma):
    expert, d = public.edm(f"edm/{case}", dtype=torch.float64), vectors(public, case)
    z, labels = d["x_vec"].double(), d.get("class_labels")
    at = level(gamma, z)
    a, b = per_image(alpha(at), z), per_image(sigma(at), z)
    textbook = (z - a * denoised(expert, z / a, (at / 2).exp(), labels)) / b
    torch.testing.assert_close(expert(z, at, labels), textbook, rtol=1e-9, atol=1e-9)


def test_classes_are_their_one_hot_rows(public):
    expert, d = public.edm("edm/cond"), vectors(public, "cond")
    z, at = d["x_vec"], level(0.0, d["x_vec"])
    assert expert.conditional
    assert torch.equal(expert(z, at, d["class_ids"]), expert(z, at, d["class_labels"]))
    assert torch.equal(expert(z, at, torch.tensor([-1, -1])), expert(z, at, torch.zeros(2, 10)))
    assert not torch.allclose(expert(z, at, d["class_ids"]), expert(z, at, torch.tensor([-1, -1])))


@pytest.mark.parametrize("case", CASES)
def test_heun_steps_end_where_the_public_sampler_ends(public, case):
    """Karras et al. 2022, algorithm 1: float64 states round a float32 network."""
    expert, d = public.edm(f"edm/{case}"), vectors(public, case, "heun")
    asked, labels = [], d.get("class_labels")

    def slope(x, s):
        asked.append(float(s))
        return (x - denoised(expert, x.float(), level(s, x), labels).double()) / s

    i = torch.arange(int(d["num_steps"]), dtype=torch.float64) / (int(d["num_steps"]) - 1)
    nodes = [*(80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, torch.zeros(())]
    x = d["latents"].double() * nodes[0]
    for here, there in pairwise(nodes):
        first = slope(x, here)
        euler = x + (there - here) * first
        x = euler if there == 0 else x + (there - here) * (first + slope(euler, there)) / 2
    np.testing.assert_allclose(asked, d["sigmas_called"], rtol=1e-6)
    torch.testing.assert_close(x, d["x"], **OF_GRADIENTS)
    levels = (127.5 * x + 128).clip(0, 255).floor().byte()
    assert np.array_equal(levels, public.vectors(f"edm/{case}/heun")["uint8"])
