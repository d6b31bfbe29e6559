"""Experts compute by the same settings of torch whoever calls, and what they raise is theirs."""

import contextlib
import functools
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from merged_diffusion.bound import loss_profile, variational_bound
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import ExpertError
from merged_diffusion.experts import arithmetic, fence
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.fence import ask, fenced, pull
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.jobs.cost import time_call
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams
from merged_diffusion.quality.features import extractor
from merged_diffusion.samplers import Heun, Ode
from merged_diffusion.sampling import draw
from merged_diffusion.thresholds import find_threshold

SHAPE, LEVELS = (1, 4, 4), 16
PIXELS = np.random.default_rng(0).integers(0, LEVELS, (4, *SHAPE)).astype(np.uint8)
DATA = make_data("random", "test", PIXELS, LEVELS)


def settings():
    """Torch's settings, as a network sees them."""
    leaves = [("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn")]
    leaves += [("mkldnn", of) for of in ("matmul", "conv", "rnn")]
    return {
        "autocast": torch.is_autocast_enabled("cpu"),
        "casts to": torch.get_autocast_dtype("cpu"),
        "precision": {torch._C._get_fp32_precision_getter(*leaf) for leaf in leaves} <= {"none", "ieee"},
        "benchmark": torch.backends.cudnn.benchmark,
        "dtype": torch.get_default_dtype(),
        "device": torch.zeros(1).device.type,
        "inference": torch.is_inference_mode_enabled(),
    }


USUAL = {
    "autocast": False,
    "casts to": torch.bfloat16,
    "precision": True,
    "benchmark": False,
    "dtype": torch.float32,
    "device": "cpu",
    "inference": False,
}


class Noting(torch.autograd.Function):
    """z as it is; notes the settings of both passes."""

    seen: list = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, z):
        Noting.seen.append(settings())
        return z * 1.0

    @staticmethod
    def backward(ctx, v):
        Noting.seen.append(settings())
        return v


class Linear(nn.Module):
    """Near the posterior mean of x ~ N(0, 1/3), by a product of matrices that autocast would round."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.eye(16) + 0.01 * torch.randn(16, 16, generator=generator))

    def forward(self, z, gamma):
        g = gamma.view(-1, 1, 1, 1)
        scale = torch.sigmoid(g).sqrt() / (torch.sigmoid(-g) / 3 + torch.sigmoid(g))
        z = Noting.apply(z)
        return scale * (z.flatten(1) @ self.mix).view_as(z)


def declared(net, gamma_range=(-9.0, 5.0), **facts):
    usual = {"predicts": "eps", "time": "gamma", "input": "vp", "pixels": "centred", "levels": LEVELS}
    return CallableExpert(
        net, gamma_range=gamma_range, image_shape=SHAPE, **{**usual, "name": "net", **facts}
    ).eval()


def pair():
    return declared(Linear(), (-9.0, 4.0), name="low"), declared(Linear(), (-8.0, 5.0), name="high")


class Halving(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        is_float = isinstance(out, torch.Tensor) and out.dtype == torch.float32
        return out.bfloat16().float() if is_float else out


@contextlib.contextmanager
def setting(target, name, value):
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


@contextlib.contextmanager
def called(change, value, back):
    change(value)
    try:
        yield
    finally:
        change(back)


BACKENDS = torch.backends
AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "medium": lambda: called(torch.set_float32_matmul_precision, "medium", "highest"),
    "all in tf32": lambda: setting(BACKENDS, "fp32_precision", "tf32"),
    "onednn in bf16": lambda: setting(BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
    "cuda in tf32": lambda: setting(BACKENDS.cuda.matmul, "fp32_precision", "tf32"),
    "benchmark": lambda: setting(BACKENDS.cudnn, "benchmark", True),
    "float64": lambda: called(torch.set_default_dtype, torch.float64, torch.float32),
    "float16": lambda: called(torch.set_default_dtype, torch.float16, torch.float32),
    "device": lambda: torch.device("meta"),
    "default device": lambda: called(torch.set_default_device, "meta", None),
    "mode": Halving,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


def bits(result):
    return result.bits_per_dim


CALLS = {
    "nll": lambda low, high: bits(log_likelihood(low, PIXELS, solver=Adams(tol=0.3))),
    "torch's workspace": lambda low, high: bits(
        log_likelihood(low, PIXELS, solver=Adams(tol=0.3), machine=Machine(workspace="torch"))
    ),
    "vlb": lambda low, high: bits(variational_bound(low, PIXELS, times=2)),
    "profile": lambda low, high: loss_profile(low, DATA, [-5.0, 3.0]).per_image,
    "threshold": lambda low, high: find_threshold(low, high, DATA, solver=Adams(tol=0.5)).likelihood.value,
    "heun": lambda low, high: draw(low, np.arange(2), latents=True, sampler=Heun(steps=3)).latents,
    "ode": lambda low, high: draw(low, np.arange(2), latents=True, sampler=Ode(Adams(tol=0.01))).latents,
}


@functools.cache
def plain(call):
    return CALLS[call](*pair())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ambient", AMBIENT)
def test_the_callers_settings_change_no_bit_and_reach_no_network(ambient, call):
    expected, experts = plain(call), pair()
    Noting.seen.clear()
    with AMBIENT[ambient]():
        given = {**settings(), "grad": torch.is_grad_enabled()}
        found = CALLS[call](*experts)
        assert {**settings(), "grad": torch.is_grad_enabled()} == given
    np.testing.assert_array_equal(found, expected)
    assert Noting.seen
    assert all(seen == USUAL for seen in Noting.seen)


@pytest.mark.parametrize("ambient", ["autocast", "onednn in bf16", "default device", "float16", "mode"])
def test_the_callers_settings_change_no_feature(ambient):
    images = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.uint8)
    expected = extractor("digits")(images)
    with AMBIENT[ambient]():
        np.testing.assert_array_equal(extractor("digits")(images), expected)


@pytest.mark.parametrize("ambient", ["float16", "default device", "autocast"])
def test_a_checkpoint_is_read_alike_under_any_settings(ambient):
    expected = load_expert("bundled:digits-edm").state_dict()
    with AMBIENT[ambient]():
        found = load_expert("bundled:digits-edm").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


MIXED = (
    ("fp32_precision", "tf32", BACKENDS),
    ("fp32_precision", "ieee", BACKENDS.cuda.matmul),
    ("fp32_precision", "ieee", BACKENDS.cudnn.conv),
    ("fp32_precision", "bf16", BACKENDS.mkldnn.matmul),
)


@pytest.mark.parametrize("n_set", range(1, len(MIXED) + 1))
def test_precisions_come_back_as_they_were_set_or_inherited(n_set):
    def precisions():
        return [torch._C._get_fp32_precision_getter(*leaf) for leaf in arithmetic.LEAVES]

    inside = []

    @fenced()
    def fail():
        inside.extend(precisions())
        raise ZeroDivisionError

    untouched = arithmetic.float32_switches()
    try:
        for name, value, where in MIXED[:n_set]:
            setattr(where, name, value)
        given = arithmetic.float32_switches()
        assert given.own[0] == "tf32"
        with pytest.raises(ZeroDivisionError):
            fail()
        assert set(inside) <= {"none", "ieee"}
        assert arithmetic.float32_switches() == given
    finally:
        arithmetic.set_float32_switches(untouched)


def test_an_experts_own_autocast_is_its_own():
    def half(z, gamma):
        with torch.autocast("cpu"):
            out = (z.flatten(1) @ torch.eye(16)).view_as(z)
        assert out.dtype == torch.bfloat16
        return out.float()

    z, gamma = torch.rand(2, *SHAPE), torch.zeros(2, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.float16):
        found = ask(declared(half), z, gamma)
    torch.testing.assert_close(found, z.bfloat16().float(), rtol=0, atol=0)


def test_what_an_expert_sets_does_not_reach_the_next():
    def leaving(z, gamma):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_float32_matmul_precision("medium")
        torch.set_autocast_enabled("cpu", True)
        torch.backends.cudnn.benchmark = True
        return z * 1.0

    z, gamma = torch.rand(2, *SHAPE), torch.zeros(2, dtype=torch.float64)
    with fenced(grad=True):
        ask(declared(leaving), z, gamma)
        assert settings() == USUAL
        assert torch.is_grad_enabled()


def test_inside_the_fence_another_one_sets_nothing(monkeypatch):
    def refuse(value):
        raise AssertionError(value)

    with fenced(), monkeypatch.context() as patch:
        patch.setattr(fence, "SWITCHES", [fence.Switch(s.read, refuse, s.inside) for s in fence.SWITCHES])
        patch.setattr(torch, "set_grad_enabled", refuse)
        with fenced():
            pass


def test_the_fence_loads_no_compiler():
    code = (
        "import sys, torch\nfrom merged_diffusion.experts.fence import fenced\n"
        "with torch.autocast('cpu'), fenced(): pass\n"
        "print([m for m in sys.modules if m in ('torch._dynamo', 'torch._inductor', 'triton', 'sympy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What an expert raises.


def raising(problem):
    def net(z, gamma):
        raise problem

    return net


class Pull(torch.autograd.Function):
    """z as it is; its backward pass does ``how``."""

    @staticmethod
    def forward(ctx, z, how):
        ctx.how = how
        return z * 1.0

    @staticmethod
    def backward(ctx, v):
        return ctx.how(v), None


def throw(problem):
    raise problem


def scaled(z, gamma):
    g = gamma.view(-1, 1, 1, 1)
    return z * torch.sigmoid(g).sqrt() / (torch.sigmoid(-g) / 3 + torch.sigmoid(g))


def in_place(z, gamma):
    kept = torch.sigmoid(z)
    kept.add_(1.0)
    return scaled(z, gamma) + 0 * kept


def reentrant(z, gamma):
    return checkpoint(scaled, z, gamma, use_reentrant=True)


def pulling(how):
    return lambda z, gamma: scaled(Pull.apply(z, how), gamma)


BACKWARD = {
    "in place": in_place,
    "reentrant": reentrant,
    "shape": pulling(lambda v: v[:, :, :1, :1]),
    "type": pulling(lambda v: "none"),
    "exit": pulling(lambda v: throw(SystemExit(3))),
    "stop": pulling(lambda v: throw(StopIteration())),
    "close": pulling(lambda v: throw(GeneratorExit())),
    "error": pulling(lambda v: throw(KeyError("mine"))),
}

PRODUCTS = {
    "log_likelihood": lambda net: log_likelihood(declared(net), PIXELS, solver=Adams(tol=0.3)),
    "find_threshold": lambda net: find_threshold(
        declared(net, (-9.0, 4.0)), declared(net, (-8.0, 5.0)), DATA, solver=Adams(tol=0.5)
    ),
    "check_expert": lambda net: check_expert(declared(net)),
    "time_call": lambda net: time_call(
        [declared(net)], SHAPE, Settings(data="x", machine=Machine(batch_size=2)), probes=1
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", PRODUCTS)
@pytest.mark.parametrize("fault", BACKWARD)
def test_what_a_backward_pass_raises_is_an_expert_error_that_says_what_helps(fault, call):
    with pytest.raises(ExpertError, match=r"raised .* \(its gradient\)") as caught:
        PRODUCTS[call](BACKWARD[fault])
    assert "use_reentrant=False" in caught.value.hint
    assert "in place" in caught.value.hint
    assert caught.value.exit_code == 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "problem",
    [SystemExit(3), SystemExit("mine"), StopIteration(), GeneratorExit(), KeyError("mine"), OSError()],
)
@pytest.mark.parametrize("is_declared", [True, False])
def test_what_a_forward_pass_raises_is_an_expert_error(problem, is_declared):
    expert = declared(raising(problem))
    if not is_declared:
        expert.forward = lambda z, gamma, cond=None: throw(problem)
    for call in (log_likelihood, variational_bound):
        with pytest.raises(ExpertError, match=f"net raised {type(problem).__name__}.*gamma") as caught:
            call(expert, PIXELS)
        assert caught.value.__cause__ is problem
    with pytest.raises(ExpertError, match=type(problem).__name__):
        draw(expert, np.arange(2), sampler=Heun(steps=2))


@pytest.mark.filterwarnings("ignore")
def test_a_product_that_is_not_finite_fails_its_images_alone():
    def net(z, gamma):
        is_hit = (gamma > 1).view(-1, 1, 1, 1) & (z[:, :1, :1, :1] > 0)
        return scaled(Pull.apply(z, lambda v: torch.where(is_hit, torch.nan, v)), gamma)

    found = log_likelihood(GaussianBacked(net), PIXELS, solver=Adams(tol=0.3)).allowing_failed()
    assert set(found.status) == {"ok", "nonfinite"}


class GaussianBacked(GaussianExpert):
    """A network with the facts of a Gaussian."""

    def __init__(self, net):
        super().__init__(SHAPE, variance=1 / 3, gamma_range=(-9.0, 5.0), levels=LEVELS)
        self.net = net

    def forward(self, z, gamma, cond=None):
        return self.net(z, gamma.to(z.dtype))


@pytest.mark.filterwarnings("ignore")
def test_ctrl_c_in_either_pass_stays_what_it_is():
    for net in (raising(KeyboardInterrupt()), pulling(lambda v: throw(KeyboardInterrupt()))):
        with pytest.raises(KeyboardInterrupt):
            log_likelihood(declared(net), PIXELS)


class Caller:
    def method(self, number, frame):
        raise SystemExit(143)

    __call__ = method


def function(number, frame):
    raise TimeoutError("the caller's alarm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals")
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (function, TimeoutError),
        (functools.partial(function), TimeoutError),
        (Caller(), SystemExit),
        (Caller().method, SystemExit),
    ],
)
@pytest.mark.parametrize("passes", ["forward", "backward"])
def test_what_a_signal_handler_raises_is_not_the_experts(handler, kind, passes):
    def hit(v):
        signal.raise_signal(signal.SIGUSR1)
        return v

    net = pulling(hit) if passes == "backward" else (lambda z, gamma: scaled(hit(z), gamma))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(kind) as caught:
            log_likelihood(declared(net), PIXELS)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not isinstance(caught.value, ExpertError)


def test_products_are_none_where_nothing_depends_on_z():
    z, weight = torch.rand(2, *SHAPE), torch.ones(1, requires_grad=True)
    gamma = torch.zeros(2, dtype=torch.float64)
    expert = declared(lambda z, gamma: torch.ones_like(z) * weight)
    eps_hat = ask(expert, z.requires_grad_(), gamma, grad=True)
    assert pull(expert, eps_hat, z, torch.ones_like(eps_hat)) is None


@pytest.mark.filterwarnings("ignore")
def test_two_models_of_one_pair_meet_the_same_fence():
    model = MergedModel(*pair(), Threshold.gamma(0.0))
    Noting.seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_likelihood(model, PIXELS, solver=Adams(tol=0.5))
    assert all(seen == USUAL for seen in Noting.seen)
