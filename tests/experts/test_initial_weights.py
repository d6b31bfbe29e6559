"""Networks as they begin: laws of weights, layers that are zero, dropout that is awake in training alone."""

import math

import pytest
import torch
from torch import nn

from merged_diffusion.experts.nets import by_name
from merged_diffusion.experts.nets.vdm_unet import VdmUnet

SHAPE = (3, 16, 16)
SONG = {
    "model_channels": 64,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
    "label_dim": 10,
}
NETWORKS = {
    "ddpmpp": {**SONG, "augment_dim": 9},
    "ncsnpp": SONG,
    "adm": {
        "model_channels": 64,
        "channel_mult": [1, 2],
        "num_res_blocks": 1,
        "label_dim": 10,
        "augment_dim": 9,
    },
}


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "vdm-unet":
            return VdmUnet(3, embedding_dim=64, n_blocks=2)
        return by_name.build({"architecture": name, **NETWORKS[name]}, SHAPE)


def fans(layer):
    taps = layer.weight[0, 0].numel() if layer.weight.dim() > 2 else 1
    return layer.weight.shape[1] * taps, layer.weight.shape[0] * taps


def layers(network):
    return {k: m for k, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv1d)}


def check_uniform(weight, bound, name):
    """Uniform on [-bound, bound]: the spread within five standard errors, the largest below the bound."""
    weight = weight.detach()
    n = weight.numel()
    spread = float(weight.square().mean().sqrt())
    # The variance of u^2 is 4/45 of its bound's fourth power: a relative error of the root of 0.45/sqrt(n).
    assert abs(spread / (bound / math.sqrt(3)) - 1) < 5 * 0.45 / math.sqrt(n) + 1e-6, name
    assert float(weight.abs().max()) <= bound * (1 + 1e-6), name


@pytest.mark.parametrize("name", ["ddpmpp", "ncsnpp"])
def test_ddpmpp_begins_as_edm_s_code_does(name):
    """Xavier's uniform law; gain 1e-5 for last layers, sqrt(1/5) for q, k and v; biases zero."""
    for key, layer in layers(made(name)).items():
        fan_in, fan_out = fans(layer)
        gain = 1e-5 if key.endswith(("conv1", "proj", "aux_conv")) else 1.0
        gain = math.sqrt(0.2) if key.endswith("qkv") else gain
        check_uniform(layer.weight, gain * math.sqrt(6 / (fan_in + fan_out)), key)
        assert layer.bias is None or not layer.bias.any(), key


def test_the_frequencies_of_ncsnpp_are_normal_with_spread_16():
    freqs = made("ncsnpp").map_noise.freqs
    assert len(freqs) == 64
    assert abs(float(freqs.std()) / 16 - 1) < 5 / math.sqrt(2 * 64)


def test_adm_begins_as_edm_s_code_does():
    """torch's own law, 1/sqrt(fan in), for weights and biases; last layers and augmentations are zero."""
    network = made("adm")
    zero = 0
    for key, layer in layers(network).items():
        if key.endswith(("out_layers.3", "proj_out", "out.2")) or key == "map_augment":
            assert not any(p.any() for p in layer.parameters()), key
            zero += 1
        else:
            check_uniform(layer.weight, 1 / math.sqrt(fans(layer)[0]), key)
            assert layer.bias is not None
            assert bool(layer.bias.any()), key
    # Of ten residual blocks (two halve or double), three attentions, the end and the augmentations.
    n_blocks = sum(key.endswith("out_layers.3") for key in layers(network))
    assert zero == n_blocks + sum(key.endswith("proj_out") for key in layers(network)) + 2
    labels = network.label_emb.weight.detach()
    assert abs(float(labels.std()) - 1) < 5 / math.sqrt(2 * labels.numel())


def test_adm_s_usual_options_are_those_of_the_published_network():
    """EDM's ImageNet-64 (`networks.md`, 1.2): 295,899,267 parameters, attention at 32, 16 and 8."""
    options = {"model_channels": 192, "channel_mult": [1, 2, 3, 4], "label_dim": 1000}
    with torch.device("meta"):
        network = by_name.build({"architecture": "adm", **options}, (3, 64, 64))
    assert sum(p.numel() for p in network.parameters()) == 295_899_267
    attending = {m for m in network.modules() if type(m).__name__ == "Attention"}
    # Three levels, three blocks down and four up, and the middle.
    assert len(attending) == 3 * 7 + 1
    assert {m.heads for m in attending} == {6, 9, 12}


def test_vdm_s_network_begins_as_addtt_s_does():
    """torch's own law, but zero, biases too: second convolutions, projections, attention's and the last."""
    for key, layer in layers(made("vdm-unet")).items():
        is_last = key.endswith(("net2.3", "cond_proj", "layers.3", "conv_out.2"))
        if is_last:
            assert not any(p.any() for p in layer.parameters()), key
        else:
            check_uniform(layer.weight, 1 / math.sqrt(fans(layer)[0]), key)
            check_uniform(layer.bias, 1 / math.sqrt(fans(layer)[0]), key)
    z = torch.randn(2, 3, 8, 8)
    assert torch.equal(made("vdm-unet")(z, torch.rand(2)), z)


@pytest.mark.parametrize("name", ["vdm-unet", "ddpmpp", "ncsnpp", "adm"])
def test_dropout_is_awake_in_training_alone(name):
    network = made(name)
    for p in network.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    x, t = torch.randn(2, *SHAPE), torch.rand(2)
    assert torch.equal(network.eval()(x, t), network(x, t))
    assert not torch.equal(network.train()(x, t), network(x, t))
