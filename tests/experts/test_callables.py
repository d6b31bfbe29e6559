"""Every way of declaring a callable, made from an exact prediction, must give the exact expert back."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from merged_diffusion import _core, schedules
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.gaussian import GaussianExpert

SHAPE = (1, 2, 2)
RANGE = (-13.3, 8.764)
# A discrete schedule like DDPM's: unevenly spaced, falling in gamma or rising.
TABLE = torch.linspace(0, 1, 1001, dtype=torch.float64) ** 1.5 * 23 - 13.5

PREDICTS = ["eps", "x0", "v", "score", "eps-minus-x0", "x0-minus-eps"]
FLOWS = ["eps-minus-x0", "x0-minus-eps"]
INPUTS = ["vp", "edm", "flow"]


def own_time(gamma: Tensor) -> Tensor:
    return torch.exp(-gamma / 5)


def t01(gamma: Tensor) -> Tensor:
    return (gamma + 13.3) / 22.064


def table_time(gamma: Tensor) -> Tensor:
    """Index of gamma in TABLE, by numpy."""
    return torch.from_numpy(np.interp(gamma.numpy(), TABLE.numpy(), np.arange(1001.0)))


def table_gamma(index: Tensor) -> Tensor:
    return torch.from_numpy(np.interp(index.numpy(), np.arange(1001.0), TABLE.numpy()))


# name, time, schedule, gamma back from the time
TIMES = {
    "gamma": ("gamma", None, lambda t: t),
    "edm_sigma": ("edm_sigma", None, lambda t: 2 * t.log()),
    "log_edm_sigma_over_4": ("log_edm_sigma_over_4", None, lambda t: 8 * t),
    "t01 by function": ("t01", t01, lambda t: t * 22.064 - 13.3),
    "t01 by table": ("t01", TABLE, lambda t: table_gamma(1000 * t)),
    "timestep by table": ("timestep", TABLE, table_gamma),
    "timestep by falling array": ("timestep", TABLE.flip(0).numpy(), lambda t: table_gamma(1000 - t)),
    "callable": (own_time, None, lambda t: -5 * t.log()),
}

GAUSSIAN = GaussianExpert(SHAPE, variance=torch.tensor([0.1, 0.4, 0.9, 1.6]).view(SHAPE), mean=0.2)


def exact_network(predicts: str, back, input_: str):
    """A network in its own coordinates that knows the Gaussian: everything derived from gamma alone."""

    def net(scaled: Tensor, time: Tensor) -> Tensor:
        gamma = back(time.detach())
        alpha, sigma = (schedules.per_image(f(gamma), scaled) for f in (schedules.alpha, schedules.sigma))
        z = scaled * {"vp": torch.ones_like(alpha), "edm": alpha, "flow": alpha + sigma}[input_]
        eps = GAUSSIAN(z, gamma)
        # E[x | z] of the Gaussian without the subtraction: (sigma^2 m + alpha s^2 z)/v.
        v = alpha**2 * GAUSSIAN.variance.view(SHAPE) + sigma**2
        x = (sigma**2 * 0.2 + alpha * GAUSSIAN.variance.view(SHAPE) * z) / v
        return {
            "eps": eps,
            "x0": x,
            "v": alpha * eps - sigma * x,
            "score": -eps / sigma,
            "eps-minus-x0": eps - x,
            "x0-minus-eps": x - eps,
        }[predicts]

    return net


def states() -> tuple[Tensor, Tensor]:
    gamma = torch.tensor([-13.3, -9.0, -3.0, 0.0, 4.0, 8.764], dtype=torch.float64)
    draw = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return GAUSSIAN.sample(draw, gamma), gamma


def declare(net, **facts: object) -> CallableExpert:
    defaults = {
        "predicts": "eps",
        "time": "gamma",
        "input": "vp",
        "pixels": "centred",
        "levels": 256,
        "gamma_range": RANGE,
        "image_shape": SHAPE,
    }
    return CallableExpert(net, **{**defaults, **facts})


@pytest.mark.parametrize(("predicts", "input_", "time"), list(product(PREDICTS, INPUTS, TIMES)))
def test_every_combination_gives_the_exact_noise_back(predicts: str, input_: str, time: str) -> None:
    kind, schedule, back = TIMES[time]
    net = exact_network(predicts, back, input_)
    expert = declare(net, predicts=predicts, input=input_, time=kind, schedule=schedule)
    z, gamma = states()
    # Rounding of time moves gamma by ~3e-14 (1000 timesteps over 23), and so sigma relatively by as much;
    # x0 loses 2e-16/sigma = 2e-13 at gamma = -13.3, and z/alpha at 8.764 the rounding of 1/alpha.
    tolerance = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(expert(z, gamma), GAUSSIAN(z, gamma), **tolerance)


@pytest.mark.parametrize(("predicts", "input_"), list(product(PREDICTS, INPUTS)))
def test_vector_jacobian_product_is_the_exact_one(predicts: str, input_: str) -> None:
    expert = declare(exact_network(predicts, lambda t: t, input_), predicts=predicts, input=input_)
    z, gamma = states()
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).sign()
    z.requires_grad_()
    found, exact = (torch.autograd.grad(f(z, gamma), z, v)[0] for f in (expert, GAUSSIAN))
    # dx/dz = 1/alpha - O(sigma^2): over sigma^2 = 1.7e-6, x0 loses 1e-16/sigma.
    torch.testing.assert_close(found, exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("predicts", "bound"),
    [("eps", 0), ("v", 3e-7), ("score", 3e-7), ("eps-minus-x0", 3e-7), ("x0-minus-eps", 3e-7)],
)
def test_float32_loses_no_digits_at_low_noise(predicts: str, bound: float) -> None:
    """Given the float32 rounding of the exact output, eps_hat is off by a few roundings of that output."""
    net = exact_network(predicts, lambda t: t, "vp")
    z, gamma = (values[:1] for values in states())
    z = z.float()
    expert = declare(lambda scaled, time: net(scaled.double(), gamma).float(), predicts=predicts)
    exact = declare(net, predicts=predicts)(z.double(), gamma)
    # The largest eps_hat here is below 4.
    assert float((expert(z, gamma).double() - exact).abs().max()) <= max(bound, 1.2e-7) * 4


def test_x0_in_float32_loses_only_what_the_network_rounded() -> None:
    net = exact_network("x0", lambda t: t, "vp")
    z, gamma = (values[:1] for values in states())
    z = z.float()
    rounded = net(z.double(), gamma).float()
    expert = declare(lambda scaled, time: rounded, predicts="x0")
    alpha, sigma = float(schedules.alpha(gamma)), float(schedules.sigma(gamma))
    exact = (z.double() - alpha * rounded.double()) / sigma
    assert torch.equal(expert(z, gamma), exact.float())


def test_network_sees_one_dtype() -> None:
    seen = []

    def net(scaled: Tensor, time: Tensor) -> Tensor:
        seen.append((scaled.dtype, time.dtype, time.shape))
        return torch.zeros_like(scaled)

    z, gamma = states()
    for input_ in INPUTS:
        out = declare(net, input=input_, time="edm_sigma")(z.float(), gamma)
        assert out.dtype == torch.float32
    assert seen == [(torch.float32, torch.float32, (6,))] * 3


def test_labels_reach_a_conditional_network_and_no_other() -> None:
    labels = torch.tensor([3, 1])
    z, gamma = states()

    def by_label(scaled: Tensor, time: Tensor, label: Tensor) -> Tensor:
        return scaled * schedules.per_image(label, scaled)

    expert = declare(by_label, conditional=True)
    assert torch.equal(expert(z[:2], gamma[:2], labels), z[:2] * labels.view(2, 1, 1, 1))
    assert expert.conditional
    unconditional = declare(lambda scaled, time: 2 * scaled)
    assert torch.equal(unconditional(z[:2], gamma[:2], labels), 2 * z[:2])


def test_nothing_that_could_be_guessed_wrong_has_a_default() -> None:
    for missing in ("predicts", "time", "input", "pixels"):
        facts = {"predicts": "eps", "time": "gamma", "input": "vp", "pixels": "centred"}
        del facts[missing]
        with pytest.raises(TypeError, match=missing):
            CallableExpert(lambda z, t: z, levels=256, gamma_range=RANGE, image_shape=SHAPE, **facts)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"predicts": "noise"},
            "predicts = 'noise' is none of eps, x0, v, score, eps-minus-x0, x0-minus-eps",
        ),
        ({"time": "sigma"}, "time = 'sigma' is none of gamma, edm_sigma"),
        ({"input": "ve"}, "input = 've' is none of vp, edm, flow"),
        ({"gamma_range": (8.0, -13.0)}, "gamma range"),
        ({"time": "t01"}, "schedule"),
        ({"time": "timestep"}, "schedule"),
        ({"schedule": TABLE}, "belongs to"),
        ({"time": "timestep", "schedule": [0.0, 1.0]}, "goes beyond the schedule"),
    ],
)
def test_impossible_declarations_are_refused(facts: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        declare(lambda z, t: z, **facts)


def test_velocity_without_a_direction_is_refused_with_both_readings() -> None:
    with pytest.raises(UsageError) as refused:
        declare(lambda z, t: z, predicts="velocity")
    assert refused.value.exit_code == 2
    formulas = ("(z + alpha u)/(alpha + sigma)", "(z - alpha u)/(alpha + sigma)")
    for word in (*FLOWS, *formulas):
        assert word in str(refused.value)


def test_no_declaration_is_read_as_a_velocity_of_unknown_direction_later() -> None:
    expert = declare(lambda z, t: z, predicts="eps-minus-x0")
    expert.predicts = "velocity"
    with pytest.raises(KeyError):
        expert(*states())


# The direction in which a flow's time runs: t of noise at 1, or of data at 1.
CLOCKS = {
    "x0-minus-eps": lambda gamma: torch.sigmoid(-gamma / 2),
    "eps-minus-x0": lambda gamma: torch.sigmoid(gamma / 2),
}


@pytest.mark.parametrize("predicts", FLOWS)
def test_flow_code_is_right_with_the_word_and_the_clock_of_its_direction(predicts: str) -> None:
    """Networks of straight paths a + t (b - a) predict b - a: from noise to data, or from data to noise."""
    variance = 0.3

    def net(x_t: Tensor, t: Tensor) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        # Variances at t = 0 and at t = 1.
        first, last = (1.0, variance) if predicts == "x0-minus-eps" else (variance, 1.0)
        # E[b - a | x_t] of independent Gaussians, from the covariance of b - a with x_t.
        return x_t * (t * last - (1 - t) * first) / (t**2 * last + (1 - t) ** 2 * first)

    clock = CLOCKS[predicts]
    for time, schedule in (("t01", clock), (clock, None)):
        expert = declare(net, predicts=predicts, input="flow", time=time, schedule=schedule)
        exact = GaussianExpert(SHAPE, variance=torch.full(SHAPE, variance, dtype=torch.float64))
        z, gamma = states()
        # 1 - t at t = 1 - 0.0013 has lost 1e-16/0.0013 of it; alpha and sigma weigh it by at most 1/0.0013.
        torch.testing.assert_close(expert(z, gamma), exact(z, gamma), rtol=1e-9, atol=1e-9)


def test_a_time_without_a_schedule_names_the_line_for_either_direction_of_a_flow() -> None:
    with pytest.raises(UsageError, match=r"torch\.sigmoid\(gamma / 2\).*torch\.sigmoid\(-gamma / 2\)"):
        declare(lambda z, t: z, time="t01")


def test_networks_of_diffusers_flow_matching_predict_noise_minus_data() -> None:
    """Its sampler's own step with eps - x0 leads from a noised image to the image."""
    scheduler = pytest.importorskip("diffusers").FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[0.75])
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(2, *SHAPE, generator=generator) for _ in range(2))
    t = scheduler.timesteps
    noised = scheduler.scale_noise(x, t, eps)
    assert float(t[0]) == 750.0
    # float32: a few roundings of values below 4.
    torch.testing.assert_close(scheduler.step(eps - x, t[0], noised).prev_sample, x, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"pixels": "unit"}, "pixels = 'unit'"),
        ({"levels": 1}, "levels = 1"),
        ({"image_shape": (8, 8)}, "image_shape"),
    ],
)
def test_an_expert_that_no_images_could_have_is_refused(facts: dict[str, object], said: str) -> None:
    with pytest.raises(ExpertError, match=said):
        declare(lambda z, t: z, **facts)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda z: z[:, :, :1], "shape"),
        (lambda z: z.float(), "dtype"),
        (lambda z: z.to("meta"), "device"),
        (lambda z: (z,), "tuple"),
    ],
)
def test_output_unlike_the_input_is_refused_where_arithmetic_would_hide_it(returned, said: str) -> None:
    z, gamma = states()
    for predicts in PREDICTS:
        with pytest.raises(ExpertError, match=said):
            declare(lambda scaled, time: returned(scaled), predicts=predicts)(z, gamma)


def test_an_exception_of_the_network_is_the_cause_of_an_expert_error() -> None:
    def broken(scaled: Tensor, time: Tensor) -> Tensor:
        raise KeyError("weights")

    z, gamma = states()
    with pytest.raises(ExpertError, match="expert broken raised KeyError") as raised:
        declare(broken)(z, gamma)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.exit_code == 4

    def interrupted(scaled: Tensor, time: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        declare(interrupted)(z, gamma)


def test_a_module_moves_and_trains_with_its_expert() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, scaled: Tensor, time: Tensor) -> Tensor:
            return self.conv(scaled)

    expert = declare(Net())
    assert isinstance(expert, Expert)
    assert expert.name == "Net"
    assert len(list(expert.parameters())) == 2
    assert expert.net.training
    expert.eval()
    assert not expert.net.training
    assert expert.to(torch.float64).net.conv.weight.dtype == torch.float64


def test_gamma_range_defaults_to_nothing_and_is_floats() -> None:
    assert declare(lambda z, t: z, gamma_range=(-12, 9)).gamma_range == (-12.0, 9.0)
    assert _core.gamma_range(-12, 9) == (-12.0, 9.0)


class NoFloat64(TorchDispatchMode):
    """Lets nothing be float64 on the meta device, which stands for one that has no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for found in tree_leaves(out):
            assert not (isinstance(found, Tensor) and found.is_meta and found.dtype == torch.float64)
        return out


@pytest.mark.parametrize(("predicts", "input_"), list(product(["eps", "v", "score", *FLOWS], INPUTS)))
@pytest.mark.parametrize("time", ["edm_sigma", "timestep by table"])
def test_clock_on_the_host_serves_a_device_without_float64(predicts: str, input_: str, time: str) -> None:
    kind, schedule, _ = TIMES[time]
    declared = declare(
        lambda z, t: z * t.view(-1, 1, 1, 1),
        predicts=predicts,
        input=input_,
        time=kind,
        schedule=schedule,
        pixels="ends",
    )
    z, gamma = states()
    with NoFloat64():
        elsewhere = Centred(declared)(z.float().to("meta"), gamma)
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", torch.float32)
