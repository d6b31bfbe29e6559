"""lucidrains' U-Net against numbers of the public code (`tests/reference/lucidrains`); refusals."""

import json

import pytest
import torch
from safetensors.torch import load_file

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.nets.lucid_blocks import Norm
from merged_diffusion.experts.nets.lucid_unet import build

CASES = ("v-sigmoid", "x0-cosine")
# What the public configuration says beside the arguments of the network.
ROUND_IT = {"image_size", "timesteps", "objective", "beta_schedule", "auto_normalize"}
SINGLE = {"rtol": 0, "atol": 3e-5}  # of the folder's README, as are the others
GRADIENT = {"rtol": 1e-4, "atol": 3e-4}  # up to 8 in size, and a processor's sums differ by 4e-5 of that
DOUBLE = {"rtol": 0, "atol": 1e-9}
PRECISIONS = [(torch.float32, SINGLE), (torch.float64, DOUBLE)]
SMALL = {"dim": 8, "dim_mults": [1, 2], "attn_heads": 2, "attn_dim_head": 4}


@pytest.fixture
def network(public):
    """The network of a case in a precision."""

    def make(case, dtype=torch.float32):
        folder = public.folder(f"lucidrains/{case}")
        config = json.loads((folder / "config.json").read_text())
        kept = {k: v for k, v in config.items() if k not in ROUND_IT and v is not None}
        size = config["image_size"]
        with torch.device("meta"):
            net = build(kept, (config["channels"], size, size))
        assert all(tensor.is_meta for tensor in net.state_dict().values())
        state = load_file(folder / "weights.safetensors")
        weights = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        net.load_state_dict(weights, strict=True, assign=True)
        return net.to(dtype).eval().requires_grad_(False)

    return make


@pytest.fixture
def vectors(public):
    """The numbers of a case."""

    def read(case):
        arrays = public.vectors(f"lucidrains/{case}/network")
        return {k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fiu"}

    return read


def awake(options=(), dtype=torch.float32, shape=(3, 8, 8)):
    """A network with other weights than a new one's."""
    generator = torch.Generator().manual_seed(1)
    net = build(SMALL | dict(options), shape)
    for p in net.parameters():
        p.data.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return net.to(dtype).eval()


def batch(n, dtype=torch.float32, shape=(3, 8, 8)):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x.to(dtype), torch.linspace(0, 999, n, dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_output_is_the_public_one(network, vectors, case, dtype, within):
    net, d = network(case, dtype), vectors(case)
    for t, x, single, double in zip(d["t"], d["x"], d["out"], d["out_conv"], strict=True):
        found = net(x.to(dtype), t.expand(len(x)))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), double, **within)
        torch.testing.assert_close(found.float(), single, **SINGLE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "within"), PRECISIONS)
def test_every_image_has_its_own_step(network, vectors, case, dtype, within):
    d = vectors(case)
    found = network(case, dtype)(d["x_vec"].to(dtype), d["t_vec"])
    torch.testing.assert_close(found.double(), d["out_vec_conv"], **within)
    torch.testing.assert_close(found.float(), d["out_vec"], **SINGLE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, GRADIENT), (torch.float64, DOUBLE)])
def test_gradients_are_the_public_ones(network, vectors, case, dtype, within):
    """Compared in float64 alone: the public float32 gradients are off by 2e-4 themselves."""
    net, d = network(case, dtype), vectors(case)
    for at, expected in zip(d["vjp_at"], d["vjp_conv"], strict=True):
        x = d["x"][at].to(dtype).requires_grad_()
        out = net(x, d["t"][at].expand(len(x)))
        (found,) = torch.autograd.grad((out * d["vjp_v"]).sum(), x)
        torch.testing.assert_close(found.double(), expected, **within)


@pytest.mark.parametrize("case", CASES)
def test_prediction_of_the_noise_follows_from_the_output(network, vectors, case):
    """The public conversions: eps = alpha v + sigma z, or (z - alpha x0)/sigma."""
    net, d = network(case, torch.float64), vectors(case)
    for at, gamma in enumerate(d["gammas"]):
        z, alpha, sigma = d["x"][at].double(), torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        out = net(z, d["t"][at].expand(len(z)))
        noise, image = {
            "v-sigmoid": (alpha * out + sigma * z, alpha * z - sigma * out),
            "x0-cosine": ((z - alpha * out) / sigma, out),
        }[case]
        # A float32 output and a float32 table of the schedule, the former times alpha/sigma.
        within = 3e-5 * max(1.0, float(alpha / sigma)) + 1e-5
        torch.testing.assert_close(noise.float(), d["pred_noise"][at], rtol=1e-4, atol=within)
        torch.testing.assert_close(image.float(), d["pred_x_start"][at], rtol=1e-4, atol=1e-4)


def parameters(dim, mults, heads=4, d=32, channels=3):
    """Of a network whose last level alone has full attention, by hand."""
    widths, e, inner = [dim, *(dim * m for m in mults)], 4 * dim, heads * d

    def conv(c_in, c_out, k):
        return c_in * c_out * k * k + c_out

    def residual(c_in, c_out):
        own = conv(c_in, c_out, 3) + conv(c_out, c_out, 3) + 2 * c_out  # and g of two norms
        return own + (e + 1) * 2 * c_out + (conv(c_in, c_out, 1) if c_in != c_out else 0)

    def attention(c, full):
        shared = c + c * 3 * inner + conv(inner, c, 1) + 2 * 4 * inner  # norm, q k v, out, four memories
        return shared + (0 if full else c)

    total = conv(channels, dim, 7) + (dim + 1) * e + (e + 1) * e
    total += residual(2 * dim, dim) + conv(dim, channels, 1)
    last = widths[-1]
    total += 2 * residual(last, last) + attention(last, True)
    for level in range(len(mults)):
        c, below, deepest = widths[level], widths[level + 1], level == len(mults) - 1
        total += 2 * residual(c, c) + attention(c, deepest)
        total += conv(c, below, 3) if deepest else conv(4 * c, below, 1)
        total += 2 * residual(below + c, below) + attention(below, deepest) + conv(below, c, 3)
    return total


def test_default_network_has_its_size():
    with torch.device("meta"):
        net = build({"dim": 64, "dim_mults": [1, 2, 4, 8]}, (3, 32, 32))
    found = sum(p.numel() for p in net.parameters())
    assert found == parameters(64, (1, 2, 4, 8))
    assert found == 35_711_491  # of the public class, 2.3.4
    assert all(p.is_meta for p in net.parameters())


def test_defaults_are_those_of_the_public_class():
    with torch.device("meta"):
        keys = {
            key: tuple(value.shape) for key, value in build({"dim": 64}, (3, 32, 32)).state_dict().items()
        }
        said = {
            "dim": 64, "init_dim": 64, "dim_mults": [1, 2, 4, 8], "channels": 3, "self_condition": False,
            "learned_variance": False, "sinusoidal_pos_emb_theta": 10000, "dropout": 0.0,
            "attn_dim_head": [32] * 4, "attn_heads": [4] * 4, "full_attn": [False, False, False, True],
        }  # fmt: skip
        named = build(said, (3, 32, 32)).state_dict()
    assert keys == {key: tuple(value.shape) for key, value in named.items()}


def test_each_level_may_have_its_own_attention():
    net = awake({"full_attn": [True, False], "attn_heads": [1, 3], "attn_dim_head": [5, 2]})
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items() if "mem_kv" in key}
    assert shapes == {
        "downs.0.2.mem_kv": (2, 1, 4, 5),
        "downs.1.2.mem_kv": (2, 3, 2, 4),
        "mid_attn.mem_kv": (2, 3, 4, 2),
        "ups.0.2.mem_kv": (2, 3, 2, 4),
        "ups.1.2.mem_kv": (2, 1, 4, 5),
    }
    assert net(*batch(2)).shape == (2, 3, 8, 8)


def test_one_false_for_all_levels_is_as_none_and_one_true_is_full():
    """The public class takes false for no answer."""
    kinds = {}
    for full in (False, True):
        keys = awake({"full_attn": full}).state_dict()
        kinds[full] = [f"downs.{level}.2.to_out.1.g" not in keys for level in (0, 1)]
    assert kinds == {False: [False, True], True: [True, True]}


def test_first_convolution_may_have_its_own_width():
    net = awake({"init_dim": 6})
    assert net.init_conv.weight.shape == (6, 3, 7, 7)
    assert net.final_res_block.block1.proj.weight.shape == (6, 12, 3, 3)
    assert net(*batch(2)).shape == (2, 3, 8, 8)


def test_condition_on_an_estimate_is_zeros():
    """The first half of the input's channels, so that their weights have no say."""
    net, plain = awake({"self_condition": True}), awake()
    state = net.state_dict()
    weight = state["init_conv.weight"]
    assert weight.shape == (8, 6, 7, 7)
    plain.load_state_dict(state | {"init_conv.weight": weight[:, 3:]})
    # Other sums, of six thousand terms at most in each of some twenty layers, 20 * sqrt(6e3) * 2^-24.
    torch.testing.assert_close(net(*batch(2)), plain(*batch(2)), rtol=1e-4, atol=1e-4)


def test_variance_that_is_learned_follows_the_output():
    net, plain = awake({"learned_variance": True}), awake()
    state = net.state_dict()
    plain.load_state_dict(
        state | {f"final_conv.{k}": state[f"final_conv.{k}"][:3] for k in ("weight", "bias")}
    )
    out = net(*batch(2))
    assert out.shape == (2, 6, 8, 8)
    torch.testing.assert_close(out[:, :3], plain(*batch(2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("full", [False, True])
def test_a_row_does_not_see_its_neighbours(full):
    net = awake({"full_attn": [full, not full]})
    x, step = batch(4)
    together = net(x, step)
    other = x.clone()
    other[0] = 3.0
    assert torch.equal(net(other, step)[1:], together[1:])
    assert not torch.equal(net(other, step)[0], together[0])


@pytest.mark.parametrize("full", [False, True])
def test_an_image_alone_is_what_it_is_among_others(full):
    net = awake({"full_attn": [full, full]}, torch.float64)
    x, step = batch(4, torch.float64)
    # Other sums in another order: of at most 1e3 terms in each of some twenty layers, 20 * 1e3 * 2^-53.
    torch.testing.assert_close(net(x[2:3], step[2:3]), net(x, step)[2:3], rtol=4e-12, atol=4e-12)


def test_images_may_be_longer_than_high():
    shape = (1, 4, 12)
    assert awake(shape=shape)(*batch(2, shape=shape)).shape == (2, *shape)


def test_every_parameter_matters():
    net = awake({"full_attn": [False, True], "self_condition": True})
    net(*batch(4)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_output_is_smooth_in_the_step():
    """Between two steps of the training too, where a timetable's clock may stand."""
    net = awake(dtype=torch.float64)
    x, _ = batch(1, torch.float64)
    t = torch.tensor([417.3], dtype=torch.float64)
    steps = [(net(x, t + h) - net(x, t - h)) / (2 * h) for h in (1e-4, 1e-5)]
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=1e-6)


def test_a_pixel_of_nothing_has_a_gradient():
    x = torch.zeros(1, 4, 1, 2, requires_grad=True)
    out = Norm(4)(x)
    out.sum().backward()
    assert not out.any()
    assert x.grad.isfinite().all()


def test_dropout_is_of_training_only():
    net = awake({"dropout": 0.5})
    inputs = batch(2)
    assert torch.equal(net(*inputs), net(*inputs))
    net.train()
    assert not torch.equal(net(*inputs), net(*inputs))


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"dim": 0}, (3, 8, 8), "dim = 0 is not this: A whole number from 1"),
        ({"dim": 7}, (3, 8, 8), "dim = 7 is not an even number from 4"),
        ({"dim": 2}, (3, 8, 8), "dim = 2 is not an even number from 4"),
        ({"dim_mults": []}, (3, 8, 8), "dim_mults"),
        ({"dim_mults": [1, 1, 1, 1, 1]}, (3, 8, 8), "cannot be halved 4 times"),
        ({}, (3, 8, 9), "cannot be halved 1 times"),
        ({"full_attn": [True]}, (3, 8, 8), "full_attn has 1 entries for 2 levels"),
        ({"attn_heads": [1, 2, 3]}, (3, 8, 8), "attn_heads has 3 entries for 2 levels"),
        ({"attn_dim_head": [4, 0]}, (3, 8, 8), "attn_dim_head"),
        ({"channels": 1}, (3, 8, 8), "channels = 1, but image_shape"),
        ({"sinusoidal_pos_emb_theta": 1000}, (3, 8, 8), "10000: no other"),
        ({"dropout": 1}, (3, 8, 8), "dropout"),
        ({"self_condition": 1}, (3, 8, 8), "self_condition = 1 is not this: Either true or false"),
        ({"resnet_block_groups": 8}, (3, 8, 8), "resnet_block_groups is unknown"),
    ],
)
def test_table_that_fits_no_network_is_refused(change, shape, message):
    with pytest.raises(CheckpointError, match=message):
        build(SMALL | change, shape)


def test_table_without_its_size_is_refused():
    with pytest.raises(CheckpointError, match="dim is missing"):
        build({"dim_mults": [1, 2]}, (3, 8, 8))
