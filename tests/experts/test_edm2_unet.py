"""EDM2's U-Net against numbers of the public code (`tests/reference/edm2`); sizes and refusals."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import conv2d, linear

from merged_diffusion.errors import CheckpointError, ExpertError
from merged_diffusion.experts.nets.edm2_blocks import Weights, joined, normalised, shares
from merged_diffusion.experts.nets.edm2_unet import build
from merged_diffusion.schedules import per_image

# What the public configuration says beside the arguments of the network.
ROUND_IT = {"precond", "model_type", "sigma_data", "use_fp16", "img_resolution", "img_channels"}
OF_THE_LOSS = {"logvar_channels"}
SINGLE = {"rtol": 0, "atol": 5e-6}  # of the folder's README, as is the other
DOUBLE = {"rtol": 0, "atol": 1e-9}
PRECISIONS = [(torch.float32, SINGLE), (torch.float64, DOUBLE)]
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
SMALL |= {"channels_per_head": 4, "label_dim": 3}


@pytest.fixture
def network(public):
    """The reference's network in a precision."""
    folder = public.folder("edm2/cond")
    config = json.loads((folder / "config.json").read_text())
    kept = {k: v for k, v in config.items() if k not in ROUND_IT | OF_THE_LOSS and v is not None}
    weights = {k.removeprefix("unet."): v for k, v in load_file(folder / "weights.safetensors").items()}
    weights = {k: v for k, v in weights.items() if not k.startswith("logvar")}

    def make(dtype=torch.float32):
        with torch.device("meta"):
            net = build(kept, (config["img_channels"], config["img_resolution"], config["img_resolution"]))
        assert all(tensor.is_meta for tensor in net.state_dict().values())
        net.load_state_dict(weights, strict=True, assign=True)
        return net.to(dtype).eval().requires_grad_(False)

    return make


@pytest.fixture
def vectors(public):
    arrays = public.vectors("edm2/cond/network")
    return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fiu"}


def denoised(net, x, s, labels):
    """D(x; s) of Karras et al. 2022, table 1, for s float64 [B]."""
    r = (s**2 + 0.25).sqrt()
    raw = net(x * per_image(1 / r, x), s.log() / 4, labels)
    return x * per_image(0.25 / r**2, x) + raw * per_image(0.5 * s / r, x)


def awake(options=(), dtype=torch.float32, size=8):
    """A network of which nothing is zero."""
    generator = torch.Generator().manual_seed(1)
    net = build(SMALL | dict(options), (3, size, size))
    for p in net.parameters():
        # Gains, the only ones without a shape, begin as zero.
        p.data.copy_(torch.randn(p.shape, generator=generator) if p.ndim else torch.full((), 0.5))
    for buffer in net.buffers():
        buffer.copy_(2 * math.pi * torch.randn(buffer.shape, generator=generator))
    return net.to(dtype).eval()


def batch(n, dtype=torch.float32, size=8):
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x.to(dtype), torch.linspace(-1.5, 1.1, n, dtype=torch.float64), torch.arange(n) % 3


@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_bare_network_is_the_public_one(network, vectors, dtype, within):
    found = network(dtype)(vectors["F_in"].to(dtype), vectors["F_noise_label"].double(), vectors["class_ids"])
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), vectors["F_out_conv"], **within)
    torch.testing.assert_close(found.float(), vectors["F_out"], **SINGLE)


@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_denoiser_is_the_public_one(network, vectors, dtype, within):
    net = network(dtype)
    rows = zip(vectors["sigmas"], vectors["x"], vectors["D"], vectors["D_conv"], strict=True)
    for s, x, single, double in rows:
        found = denoised(net, x.to(dtype), s.expand(len(x)), vectors["class_ids"])
        torch.testing.assert_close(found.double(), double, **within)
        torch.testing.assert_close(found.float(), single, **SINGLE)


@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_every_image_has_its_own_noise_level(network, vectors, dtype, within):
    x, s = vectors["x_vec"].to(dtype), vectors["sigmas_vec"]
    found = denoised(network(dtype), x, s, vectors["class_ids"])
    torch.testing.assert_close(found.double(), vectors["D_vec_conv"], **within)
    torch.testing.assert_close(found.float(), vectors["D_vec"], **SINGLE)


@pytest.mark.parametrize("labels", [None, torch.tensor([-1, -1]), torch.zeros(2, 10)])
@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_without_labels_their_branch_is_zero_not_absent(network, vectors, dtype, within, labels):
    at = list(vectors["sigmas"]).index(1.0)
    found = denoised(network(dtype), vectors["x"][at].to(dtype), torch.ones(2).double(), labels)
    torch.testing.assert_close(found.double(), vectors["D_null_conv"], **within)
    torch.testing.assert_close(found.float(), vectors["D_null"], **SINGLE)


@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_gradients_are_the_public_ones(network, vectors, dtype, within):
    net = network(dtype)
    for at, single, double in zip(vectors["vjp_at"], vectors["vjp"], vectors["vjp_conv"], strict=True):
        x = vectors["x"][at].to(dtype).requires_grad_()
        out = denoised(net, x, vectors["sigmas"][at].expand(len(x)), vectors["class_ids"])
        (found,) = torch.autograd.grad((out * vectors["vjp_v"]).sum(), x)
        torch.testing.assert_close(found.double(), double, **within)
        torch.testing.assert_close(found.float(), single, **SINGLE)


def parameters(channels, size=64, label_dim=1000, blocks=3):
    """Of the published networks: levels of 1 to 4 times the channels, attention at 16 and 8, heads of 64."""
    widths, e = [channels * m for m in (1, 2, 3, 4)], 4 * channels
    total = channels * e + label_dim * e  # the embedding's two layers; features are no parameters
    total += 4 * channels * 9 + channels * 3 * 9 + 1  # first and last convolution, and its gain

    def block(c_in, c_out, first_in, attends):
        convolutions = 9 * first_in * c_out + 9 * c_out * c_out
        skip = c_in * c_out if c_in != c_out else 0
        return convolutions + skip + e * c_out + 1 + (4 * c_out * c_out if attends else 0)

    kept, c = [channels], channels
    for level, width in enumerate(widths):
        attends = size >> level in (16, 8)
        if level > 0:
            total += block(c, c, c, False)
            kept.append(c)
        for _ in range(blocks):
            total += block(c, width, width, attends)
            c = width
            kept.append(c)
    total += block(c, c, c, True) + block(c, c, c, False)
    for level in (3, 2, 1, 0):
        width, attends = widths[level], size >> level in (16, 8)
        if level < 3:
            total += block(c, c, c, False)
        for _ in range(blocks + 1):
            joint = c + kept.pop()
            total += block(joint, width, joint, attends)
            c = width
    return total


@pytest.mark.parametrize(
    ("channels", "millions"),
    [(128, 125), (192, 280), (256, 498), (320, 777), (384, 1119)],  # Karras et al. 2024, tables 1 to 3
    ids=["XS", "S", "M", "L", "XL"],
)
def test_published_networks_have_their_sizes(channels, millions):
    with torch.device("meta"):
        net = build({"model_channels": channels, "label_dim": 1000}, (3, 64, 64))
    found = sum(p.numel() for p in net.parameters())
    assert found == parameters(channels)
    assert round(found / 1e6) == millions
    assert all(p.is_meta for p in net.parameters())


def test_options_shape_the_embedding():
    net = awake({"channel_mult_noise": 3, "channel_mult_emb": 5, "label_dim": 0})
    assert net.emb_noise.weight.shape == (40, 24)
    assert net.emb_label is None
    x, noise, labels = batch(2)
    assert torch.equal(net(x, noise), net(x, noise, labels))


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("kernel", [None, 1, 3])
def test_rows_of_weights_are_used_at_length_one(kernel, gain):
    """The textbook's order: the rows are divided first, then multiplied with."""
    generator = torch.Generator().manual_seed(0)
    layer = Weights(6, 4, kernel).double()
    layer.weight.data.mul_(torch.tensor([1e-3, 1.0, 40.0, 0.0]).view(-1, *[1] * (layer.weight.ndim - 1)))
    n = layer.weight[0].numel()
    rows = layer.weight.detach().flatten(1)
    unit = rows / (1e-4 + rows.norm(dim=1, keepdim=True) / n**0.5) * gain / n**0.5
    unit = unit.view_as(layer.weight)
    shape = (3, 6, 5, 5) if kernel else (3, 6)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    expected = conv2d(x, unit, padding=kernel // 2) if kernel else linear(x, unit)
    torch.testing.assert_close(layer(x, gain), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [0.5, 0.3])
def test_mixing_and_joining_keep_magnitudes(t):
    ours, theirs = shares(t)
    assert ours**2 + theirs**2 == pytest.approx(1, abs=1e-15)
    a, b = torch.ones(1, 4, 2, 2), -torch.ones(1, 12, 2, 2)
    both = joined(a, b, t)
    assert both.square().mean().item() == pytest.approx(1, abs=1e-6)
    # The say of either is its share, however many channels it has.
    weights = [part.square().sum().item() for part in both.split([4, 12], dim=1)]
    assert weights[1] / weights[0] == pytest.approx((t / (1 - t)) ** 2, abs=1e-5)


def test_a_pixel_of_nothing_has_a_gradient():
    x = torch.zeros(1, 4, 1, 2, requires_grad=True)
    normalised(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1e4))


def test_a_level_of_fewer_channels_than_a_head_does_not_attend():
    keys = awake({"channels_per_head": 9}).state_dict()
    assert "dec.4x4_in0.attn_qkv.weight" in keys  # 16 channels
    assert "dec.4x4_in0.attn_qkv.weight" not in awake({"channels_per_head": 17}).state_dict()


@pytest.mark.parametrize("labels", [None, "classes", "weights"])
def test_a_row_does_not_see_its_neighbours(labels):
    net = awake()
    x, noise, classes = batch(4)
    rows = {None: None, "classes": classes, "weights": torch.eye(3)[classes]}[labels]
    together = net(x, noise, rows)
    other = x.clone()
    other[0] = 3.0
    assert torch.equal(net(other, noise, rows)[1:], together[1:])
    assert not torch.equal(net(other, noise, rows)[0], together[0])


def test_an_image_alone_is_what_it_is_among_others():
    net = awake(dtype=torch.float64)
    x, noise, labels = batch(4, torch.float64)
    alone = net(x[2:3], noise[2:3], labels[2:3])
    # Other sums in another order: of at most 1e3 terms in each of a dozen layers, 12 * 1e3 * 2^-53.
    torch.testing.assert_close(alone, net(x, noise, labels)[2:3], rtol=2e-12, atol=2e-12)


def test_classes_are_their_one_hot_rows():
    net = awake()
    x, noise, labels = batch(3)
    assert torch.equal(net(x, noise, labels), net(x, noise, torch.eye(3)[labels]))
    assert not torch.allclose(net(x, noise, labels), net(x, noise), atol=1e-3)


@pytest.mark.parametrize("labels", [[0, 3], [-2, 0]])
def test_class_outside_of_the_known_ones_is_refused(labels):
    x, noise, _ = batch(2)
    with pytest.raises(ExpertError, match="for 3 classes; give 0 to 2, or -1"):
        awake()(x, noise, torch.tensor(labels))


def test_every_parameter_matters():
    net = awake()
    x, noise, labels = batch(4)
    net(x, noise, labels).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_output_begins_at_zero():
    x, noise, labels = batch(2)
    assert not build(SMALL, (3, 8, 8))(x, noise, labels).any()


def test_no_block_s_output_is_larger_than_the_bound():
    net, sizes = awake({"clip_act": 0.5}), []
    for name, block in [*net.enc.items(), *net.dec.items()]:
        if not name.endswith("_conv"):
            block.register_forward_hook(lambda *args: sizes.append(args[-1].abs().max().item()))
    net(*batch(2))
    assert len(sizes) == 3 + 2 + 2 + 1 + 2
    assert max(sizes) == 0.5


def test_dropout_is_of_training_only():
    net = awake({"dropout": 0.5})
    inputs = batch(2)
    assert torch.equal(net(*inputs), net(*inputs))
    net.train()
    assert not torch.equal(net(*inputs), net(*inputs))


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"model_channels": 0}, (3, 8, 8), "model_channels = 0 is not this: A whole number from 1"),
        ({"channel_mult": []}, (3, 8, 8), "channel_mult"),
        ({"channel_mult_noise": 1.5}, (3, 8, 8), "channel_mult_noise = 1.5"),
        ({"num_blocks": True}, (3, 8, 8), "num_blocks = True"),
        ({"dropout": 1.0}, (3, 8, 8), "dropout"),
        ({"res_balance": -0.1}, (3, 8, 8), "res_balance"),
        ({"clip_act": 0}, (3, 8, 8), "clip_act"),
        ({"resample_filter": [1, 3, 3, 1]}, (3, 8, 8), "Two equal numbers above 0"),
        ({"resample_filter": [1, 2]}, (3, 8, 8), "Two equal numbers above 0"),
        ({"channels_per_head": 7, "model_channels": 15}, (3, 8, 8), "30 channels cannot be split into 4"),
        ({"depth": 3}, (3, 8, 8), "depth is unknown"),
        ({}, (3, 8, 16), "no square that can be halved 1 times"),
        ({"channel_mult": [1, 1, 1, 1, 1]}, (3, 8, 8), "halved 4 times"),
    ],
)
def test_table_that_fits_no_network_is_refused(change, shape, message):
    with pytest.raises(CheckpointError, match=message):
        build(SMALL | change, shape)


def test_table_without_its_size_is_refused():
    with pytest.raises(CheckpointError, match="model_channels is missing"):
        build({"label_dim": 3}, (3, 8, 8))
