"""The public networks in all their options: keys, shapes, precision, independence of rows, refusals."""

import tomllib
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from merged_diffusion.errors import CheckpointError, ExpertError, UnsupportedCheckpointError
from merged_diffusion.experts.card import card_of
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.nets.ddpmpp_blocks import Resampled

SMALL_EDM = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
SMALL_VDM = {"embedding_dim": 8, "n_blocks": 1, "norm_groups": 4}
FULL_EDM = {
    "model_channels": 128, "channel_mult": [2, 2, 2], "channel_mult_emb": 4, "num_blocks": 4,
    "attn_resolutions": [16], "dropout": 0.13, "augment_dim": 9, "label_dim": 0, "channel_mult_noise": 1,
    "embedding_type": "positional", "encoder_type": "standard", "decoder_type": "standard",
    "resample_filter": [1, 1],
}  # fmt: skip
FULL_VDM = {"embedding_dim": 128, "n_blocks": 32, "dropout_prob": 0.1, "fourier_exponents": [5, 6]}

OPTIONS = {
    "edm": [
        {},
        {"channel_mult": [2], "attn_resolutions": []},
        {"channel_mult": [1, 2, 3], "attn_resolutions": [8, 2], "num_blocks": 2},
        {"channel_mult_emb": 2, "channel_mult_noise": 2},
        {"label_dim": 5},
        {"augment_dim": 9, "label_dim": 3, "dropout": 0.0},
        {"resample_filter": [1, 3, 3, 1]},
    ],
    "vdm": [
        {},
        {"fourier_exponents": []},
        {"fourier_exponents": [6, 7], "fourier_order": "channel", "norm_eps": 1e-6},
        {"fourier_exponents": [0, 3, 5]},
        {"attention_everywhere": True, "n_attention_heads": 2},
        {"dropout_prob": 0.0, "n_blocks": 2},
        {"time_range": [-10, 4]},
    ],
}
ALL = [(kind, options) for kind in OPTIONS for options in OPTIONS[kind]]


def card(public, kind, options=(), channels=3):
    if kind == "edm":
        made = public.edm_card(SMALL_EDM | dict(options), 8, channels)
        return replace(made, labels="label_dim" in options)
    return public.vdm_card(SMALL_VDM | dict(options), 8, channels)


def awake(public, kind, options=(), channels=3, dtype=torch.float32):
    """The expert with no weight near zero."""
    expert = card(public, kind, options, channels).expert()
    generator = torch.Generator().manual_seed(1)
    for p in expert.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return expert.to(dtype).eval()


def batch(expert, n, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(n, channels, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    gamma = torch.linspace(-12, 4.9, n, dtype=torch.float64)
    return z, gamma, torch.arange(n) % 3 if expert.conditional else None


def shapes(expert):
    return {key: tuple(value.shape) for key, value in expert.state_dict().items()}


def test_edm_has_the_parameters_of_the_published_file(public):
    expert = public.edm_card(FULL_EDM, 32).blank()
    assert shapes(expert) == public.parameters("edm")
    assert sum(p.numel() for p in expert.parameters()) == 55_733_891
    assert sum(b.numel() for b in expert.buffers()) == 32


def test_conditional_edm_has_one_layer_more(public):
    found = shapes(public.edm_card(FULL_EDM | {"label_dim": 10}, 32).blank())
    more = {"model.map_label.weight": (128, 10), "model.map_label.bias": (128,)}
    assert found == public.parameters("edm") | more


def test_vdm_has_the_parameters_of_the_published_file(public):
    expert = public.vdm_card(FULL_VDM, 32).blank()
    assert shapes(expert) == public.parameters("vdm")
    assert sum(p.numel() for p in expert.parameters()) == 30_577_667


def test_index_of_a_last_convolution_tells_whether_there_is_dropout(public):
    for dropout, index in ((0.1, 3), (0.0, 2)):
        keys = shapes(card(public, "vdm", {"dropout_prob": dropout}).blank())
        assert f"model.up_blocks.0.resnet_block.net2.{index}.weight" in keys
        assert f"model.up_blocks.0.resnet_block.net2.{5 - index}.weight" not in keys


def test_attention_everywhere_follows_every_block(public):
    keys = shapes(card(public, "vdm", {"attention_everywhere": True}).blank())
    for block in ("down_blocks.0", "up_blocks.0", "up_blocks.1"):
        assert keys[f"model.{block}.attention_block.layers.1.weight"] == (24, 8, 1, 1)


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_expert_passes_the_probe_call(public, kind, options):
    expert = awake(public, kind, options)
    _, _, cond = batch(expert, 2)
    check_expert(expert, cond=cond)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "options"), ALL)
def test_a_row_does_not_see_its_neighbours(public, kind, options, channels):
    expert = awake(public, kind, options, channels)
    z, gamma, cond = batch(expert, 16, channels)
    together = expert(z, gamma, cond)
    other = z.clone()
    other[0] = 3.0
    assert torch.equal(expert(other, gamma, cond)[1:], together[1:])


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_every_parameter_matters(public, kind, options):
    expert = awake(public, kind, options)
    z, gamma, cond = batch(expert, 4)
    expert(z, gamma, cond).square().sum().backward()
    idle = [name for name, p in expert.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == (["model.map_augment.weight"] if "augment_dim" in options else [])


class NoSingle(TorchDispatchMode):
    """Refuses every float32 tensor that an operation makes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert all(not isinstance(t, torch.Tensor) or t.dtype != torch.float32 for t in tree_leaves(out)), (
            func
        )
        return out


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_nothing_is_single_in_a_double_network(public, kind, options):
    expert = awake(public, kind, options, dtype=torch.float64)
    z, gamma, cond = batch(expert, 2, dtype=torch.float64)
    with NoSingle():
        expert(z, gamma, cond)


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_vector_jacobian_product_is_the_directional_derivative(public, kind, options):
    expert = awake(public, kind, options, dtype=torch.float64)
    z, gamma, cond = batch(expert, 2, dtype=torch.float64)
    # Features of slope 2 pi 2^7 = 800: the difference is off by (800 step)^2/6, and by 1e-16/step.
    v, step = torch.randn(z.shape, generator=torch.Generator().manual_seed(3)).double(), 1e-7
    state = z.clone().requires_grad_()
    (pulled,) = torch.autograd.grad((expert(state, gamma, cond) * v).sum(), state)
    with torch.no_grad():
        difference = (expert(z + step * v, gamma, cond) - expert(z - step * v, gamma, cond)) / (2 * step)
    expected, scale = (difference * v).sum(), (difference * v).abs().sum()
    assert abs((pulled * v).sum() - expected) < 1e-7 * scale


@pytest.mark.parametrize("kind", OPTIONS)
def test_dropout_is_of_training_only(public, kind):
    expert = awake(public, kind)
    z, gamma, _ = batch(expert, 2)
    assert torch.equal(expert(z, gamma), expert(z, gamma))
    expert.train()
    assert not torch.equal(expert(z, gamma), expert(z, gamma))


def test_new_networks_begin_as_the_public_ones(public):
    vdm, edm = (card(public, kind).expert().eval() for kind in ("vdm", "edm"))
    z, gamma, _ = batch(vdm, 3)
    assert torch.equal(vdm(z, gamma), z)
    weight = edm.model.dec["8x8_aux_conv"].weight
    assert 0 < weight.abs().max() <= 1e-5 * (6 / (9 * (8 + 3))) ** 0.5
    assert not edm.model.dec["8x8_aux_conv"].bias.any()


def test_box_filter_halves_by_the_mean_and_doubles_by_copies():
    x = torch.randn(2, 3, 6, 6)
    for resample, like in (("down", avg_pool2d(x, 2)), ("up", interpolate(x, scale_factor=2))):
        layer = Resampled(3, 5, 3, resample, [1, 1])
        torch.testing.assert_close(layer(x), conv2d(like, layer.weight, layer.bias, padding=1))


def test_filter_is_that_of_the_file(public):
    expert = awake(public, "edm")
    z, gamma, _ = batch(expert, 2)
    before = expert(z, gamma)
    expert.load_state_dict({k: 2 * v if "filter" in k else v for k, v in expert.state_dict().items()})
    assert not torch.allclose(expert(z, gamma), before, atol=1e-3)


@pytest.mark.parametrize("labels", [[0, 3], [-2, 0]])
def test_class_outside_of_the_known_ones_is_refused(public, labels):
    expert = awake(public, "edm", {"label_dim": 3})
    z, gamma, _ = batch(expert, 2)
    with pytest.raises(ExpertError, match="for 3 classes; give 0 to 2, or -1"):
        expert(z, gamma, torch.tensor(labels))


def test_weights_of_classes_have_a_row_for_every_image(public):
    expert = awake(public, "edm", {"label_dim": 3})
    z, gamma, _ = batch(expert, 2)
    with pytest.raises(ExpertError, match=r"shape \[2, 4\] for 2 images of 3 classes"):
        expert(z, gamma, torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("edm", {"model_channels": None}, "model_channels"),
        ("edm", {"num_blocks": 0}, "num_blocks = 0 is not this: A whole number from 1"),
        ("edm", {"num_blocks": True}, "num_blocks = True"),
        ("edm", {"num_blocks": 1 << 20}, "num_blocks"),
        ("edm", {"channel_mult": []}, "channel_mult"),
        ("edm", {"channel_mult": [1] * 65}, "channel_mult"),
        ("edm", {"channel_mult": [1, 1, 1, 1, 1]}, "halved 4 times"),
        ("edm", {"model_channels": 2}, "2 channels cannot be normalised"),
        ("edm", {"model_channels": 130}, "130 channels cannot be normalised in 32 groups"),
        ("edm", {"model_channels": 33, "channel_mult_noise": 1}, "33 is odd"),
        ("edm", {"dropout": 1.0}, "dropout"),
        ("edm", {"dropout": float("nan")}, "dropout"),
        ("edm", {"resample_filter": [1, 2, 1]}, "odd number"),
        ("edm", {"depth": 3}, "depth is unknown"),
        ("edm", {"architecture": "dit"}, "'dit' is no network of this kind"),
        ("edm", {"architecture": "vdm-unet"}, "'vdm-unet' is no network of this kind"),
        ("vdm", {"architecture": "ddpmpp"}, "'ddpmpp' is none of kind 'vdm'"),
        ("vdm", {"embedding_dim": 7}, "must be even"),
        ("vdm", {"norm_groups": 3}, "norm_groups = 3"),
        ("vdm", {"n_attention_heads": 5}, "n_attention_heads = 5"),
        ("vdm", {"fourier_order": "row"}, "'frequency' or 'channel'"),
        ("vdm", {"fourier_exponents": [-1]}, "fourier_exponents"),
        ("vdm", {"time_range": [5, -13.3]}, "time_range"),
        ("vdm", {"norm_eps": 0}, "norm_eps"),
        ("vdm", {"n_blocks": "many"}, "n_blocks"),
    ],
)
def test_table_that_fits_no_network_is_refused(public, kind, change, message):
    with pytest.raises(CheckpointError, match=message):
        card(public, kind, change).blank()


@pytest.mark.parametrize("key", ["model_channels", "channel_mult"])
def test_table_without_its_sizes_is_refused(public, key):
    table = {k: v for k, v in SMALL_EDM.items() if k != key}
    with pytest.raises(CheckpointError, match=f"{key} is missing"):
        public.edm_card(table, 8).blank()


@pytest.mark.parametrize(
    ("key", "value"),
    [("embedding_type", "zero"), ("encoder_type", "skip"), ("decoder_type", "skip")],
)
def test_forms_that_nobody_has_published_are_named_and_refused(public, key, value):
    with pytest.raises(UnsupportedCheckpointError, match=f"{key} = '{value}' belongs to another network"):
        public.edm_card(SMALL_EDM | {key: value}, 8).blank()


def test_image_that_is_no_square_is_refused(public):
    wide = replace(public.edm_card(SMALL_EDM, 8), image_shape=(3, 8, 16))
    with pytest.raises(CheckpointError, match="not a square"):
        wide.blank()


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_blank_expert_is_filled_by_a_file(public, kind, options):
    full = awake(public, kind, options)
    blank = card(public, kind, options).blank()
    assert all(p.is_meta for p in blank.parameters())
    blank.load_state_dict(full.state_dict(), strict=True, assign=True)
    z, gamma, cond = batch(full, 2)
    assert torch.equal(blank.eval()(z, gamma, cond), full(z, gamma, cond))


def test_new_weights_are_named_by_their_seed(public):
    made = card(public, "edm")
    one, same, other = (made.expert(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["model.map_layer0.weight"], other["model.map_layer0.weight"])


@pytest.mark.parametrize(("kind", "options"), ALL)
def test_card_survives_its_file(public, kind, options):
    made = card(public, kind, options)
    read = card_of(tomllib.loads(made.toml()), "card.toml")
    assert read.network == made.network
    assert shapes(read.blank()) == shapes(made.blank())


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("edm", {"labels": True}, "labels = true, but network.label_dim = 0"),
        ("edm", {"predicts": "velocity"}, "predicts = 'velocity'"),
        ("vdm", {"predicts": "x0"}, "'eps' or 'velocity'"),
    ],
)
def test_card_that_contradicts_itself_is_refused(public, kind, change, message):
    with pytest.raises(CheckpointError, match=message):
        card_of(tomllib.loads(replace(card(public, kind), **change).toml()), "card.toml")


FROZEN_VELOCITY = """format = 1
name = "i-dode"
kind = "vdm"
predicts = "velocity"
time = "gamma"
input = "vp"
pixels = "centred"
levels = 256
image_shape = [3, 0, 0]
gamma_range = [-13.3, 5.0]
labels = false
licence = ""
source = ""
precision = "float32"

[network]
architecture = "vdm-unet"
embedding_dim = 8
n_blocks = 1
n_attention_heads = 1
dropout_prob = 0.0
norm_groups = 4
attention_everywhere = false
fourier_exponents = [6, 7]
fourier_order = "channel"
norm_eps = 1e-06
time_range = [-13.3, 5.0]

[converted]
format = "flax-msgpack"
file = "ckpt-31.flax"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
precision = "float32"
"""


def test_velocity_of_a_card_that_was_written_earlier_keeps_its_meaning():
    """eps_hat = alpha F + sigma z; the words of a sign came after it, and are none of a card of this kind."""
    old = card_of(tomllib.loads(FROZEN_VELOCITY), "card.toml")
    expert = old.expert().double()
    z = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gamma = torch.tensor([-6.0, 2.0], dtype=torch.float64)
    alpha, sigma = (torch.sigmoid(sign * gamma).sqrt().view(2, 1, 1, 1) for sign in (-1, 1))
    with torch.no_grad():
        found, raw = expert(z, gamma), expert.raw(z, gamma)
    torch.testing.assert_close(found, alpha * raw + sigma * z, rtol=1e-12, atol=1e-12)
    assert 'predicts = "velocity"' in old.toml()
    for word in ("eps-minus-x0", "x0-minus-eps"):
        changed = FROZEN_VELOCITY.replace('"velocity"', f'"{word}"')
        with pytest.raises(CheckpointError, match=r"eps_hat = alpha F \+ sigma z"):
            card_of(tomllib.loads(changed), "card.toml")


def test_velocity_is_a_card_of_kind_vdm(public):
    made = replace(card(public, "vdm"), predicts="velocity")
    assert card_of(tomllib.loads(made.toml()), "card.toml").expert().predicts == "velocity"
