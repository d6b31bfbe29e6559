"""The VDM U-Net against numbers of the public code (`tests/reference/vdm`)."""

from dataclasses import replace

import pytest
import torch

from merged_diffusion.experts.nets.embedding import sinusoids
from merged_diffusion.experts.nets.vdm_unet import VdmUnet
from merged_diffusion.schedules import alpha, per_image, sigma

CASES = ("base", "attn", "like")
TOLERANCE = {"rtol": 0, "atol": 5e-5}  # of the folder's README


def vectors(public, case):
    return {
        k: torch.from_numpy(v)
        for k, v in public.vectors(f"vdm/{case}/network").items()
        if v.dtype.kind == "f"
    }


def level(value, z):
    return torch.full((len(z),), float(value), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_prediction_is_the_public_one(public, case, dtype):
    expert, d = public.vdm(f"vdm/{case}", dtype=dtype), vectors(public, case)
    for gamma, z, expected in zip(d["gamma"], d["z"], d["eps"], strict=True):
        found = expert(z.to(dtype), level(gamma, z))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_every_image_has_its_own_gamma(public, case):
    expert, d = public.vdm(f"vdm/{case}"), vectors(public, case)
    torch.testing.assert_close(expert(d["z_vec"], d["gamma_vec"].double()), d["eps_vec"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("i", [2, 4])
def test_gradients_are_the_public_ones(public, case, i):
    expert, d = public.vdm(f"vdm/{case}"), vectors(public, case)
    z = d["z"][i].requires_grad_()
    (gradient,) = torch.autograd.grad((expert(z, level(d["gamma"][i], z)) * d["vjp_v"]).sum(), z)
    # Features of slope 2 pi 2^6 make them as large as 700: the tolerance of eps_hat, of the largest.
    scale = float(d[f"vjp_g{i}"].abs().max())
    torch.testing.assert_close(gradient / scale, d[f"vjp_g{i}"] / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_gives_what_the_public_one_gives(public, case):
    expert, d = public.vdm(f"vdm/{case}"), vectors(public, case)
    outputs, names = {}, public.vectors(f"vdm/{case}/network")["act_names"]
    for name in names:
        layer = expert.model.get_submodule(str(name))
        layer.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    expert(d["z"][0], level(d["gamma"][0], d["z"][0]))
    for statistic, of in (
        ("mean", torch.mean),
        ("std", torch.std),
        ("first", lambda out: out.flatten()[0]),
    ):
        found = torch.stack([of(outputs[name]) for name in names])
        torch.testing.assert_close(found, d[f"act_{statistic}"], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_time_embedding_is_the_public_one(public, case):
    d = vectors(public, case)
    found = sinusoids(1000 * d["temb_t"], d["temb"].shape[1], torch.empty(0))
    torch.testing.assert_close(found, d["temb"], **TOLERANCE)


@pytest.mark.parametrize("case", ["base", "like"])
def test_fourier_features_are_the_public_ones(public, case):
    expert, d = public.vdm(f"vdm/{case}"), vectors(public, case)
    found = expert.model.features(d["fourier_in"])[:, 3:]
    torch.testing.assert_close(found, d["fourier_out"], **TOLERANCE)


def test_orders_of_features_differ_by_a_permutation_of_the_first_weights():
    """Google's order is all exponents of a channel, addtt's all channels of an exponent."""
    torch.manual_seed(0)
    table = {
        "embedding_dim": 16,
        "n_blocks": 1,
        "norm_groups": 4,
        "fourier_exponents": [6, 7],
        "norm_eps": 1e-6,
    }
    theirs = VdmUnet(3, **table, fourier_order="channel").eval()
    for p in theirs.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    ours = VdmUnet(3, **table).eval()
    state = theirs.state_dict()
    # Feature of channel c and exponent n: at 2 c + n of theirs, 3 n + c of ours; sines, then cosines.
    order = [0, 1, 2] + [3 + 6 * kind + 2 * c + n for kind in (0, 1) for n in (0, 1) for c in (0, 1, 2)]
    ours.load_state_dict(state | {"conv_in.weight": state["conv_in.weight"][:, order]})
    z, t = torch.rand(2, 3, 8, 8), torch.tensor([0.2, 0.9]).double()
    torch.testing.assert_close(ours(z, t), theirs(z, t), rtol=1e-5, atol=1e-5)
    unordered = VdmUnet(3, **table).eval()
    unordered.load_state_dict(state)
    assert not torch.allclose(unordered(z, t), theirs(z, t), atol=1e-3)


def test_velocity_turns_into_noise(public):
    """eps_hat = alpha F + sigma z (Zheng et al. 2023), F what the same network returns."""
    noise = public.vdm("vdm/like", dtype=torch.float64)
    d = vectors(public, "like")
    config = {"embedding_dim": 16, "n_blocks": 2, "norm_groups": 4}
    card = replace(public.vdm_card(config, 8), predicts="velocity")
    velocity = card.expert().double().eval()
    velocity.load_state_dict(noise.state_dict())
    z, gamma = d["z_vec"].double(), d["gamma_vec"].double()
    expected = per_image(alpha(gamma), z) * noise(z, gamma) + per_image(sigma(gamma), z) * z
    torch.testing.assert_close(velocity(z, gamma), expected, rtol=1e-12, atol=1e-12)


def test_network_keeps_its_own_clock(public):
    """Learned ends of gamma move the range, never the network's time."""
    expert, d = public.vdm("vdm/like"), vectors(public, "like")
    learned = replace(
        public.vdm_card({"embedding_dim": 16, "n_blocks": 2, "norm_groups": 4}, 8), gamma_range=(-11, 4)
    )
    other = learned.expert().eval()
    other.load_state_dict(expert.state_dict())
    z, gamma = d["z_vec"], d["gamma_vec"].double()
    assert torch.equal(other(z, gamma), expert(z, gamma))


def test_any_height_and_width_will_do(public):
    expert = public.vdm("vdm/base")
    assert expert(torch.rand(2, 3, 6, 10), torch.zeros(2).double()).shape == (2, 3, 6, 10)
