"""Each unsound expert has its own error, before a run."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert
from merged_diffusion.merge import as_model

SHAPE = (3, 8, 8)


def declare(net, **facts: object) -> CallableExpert:
    defaults = {
        "predicts": "eps",
        "time": "gamma",
        "input": "vp",
        "pixels": "centred",
        "levels": 256,
        "gamma_range": (-13.3, 8.764),
        "image_shape": SHAPE,
        "name": "net",
    }
    return CallableExpert(net, **{**defaults, **facts})


def sound(z: Tensor, time: Tensor) -> Tensor:
    return 0.9 * z


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sound_experts_pass(dtype: torch.dtype) -> None:
    experts = [
        GaussianExpert(SHAPE, variance=0.3),
        GaussianMixtureExpert(torch.zeros(2, *SHAPE), variance=0.1),
        declare(sound),
        declare(sound, image_shape=(3, None, None)),
        declare(lambda z, time: z * 0.8, input="edm"),
    ]
    for expert in experts:
        check_expert(expert, SHAPE, dtype=dtype)
        check_expert(expert, dtype=dtype)


def test_the_probe_leaves_torchs_generator_alone() -> None:
    state = torch.random.get_rng_state()
    check_expert(declare(sound))
    assert torch.equal(torch.random.get_rng_state(), state)


def mutates(z: Tensor, time: Tensor) -> Tensor:
    out = 0.9 * z
    z.mul_(2)
    return out


def returns_input(z: Tensor, time: Tensor) -> Tensor:
    return z


def returns_view(z: Tensor, time: Tensor) -> Tensor:
    return z.view_as(z)


def random(z: Tensor, time: Tensor) -> Tensor:
    return z + 0.1 * torch.randn_like(z)


def dropout(z: Tensor, time: Tensor) -> Tensor:
    return functional.dropout(z, 0.2, training=True)


def batch_norm(z: Tensor, time: Tensor) -> Tensor:
    return functional.batch_norm(z, None, None, training=True)


def nothing_finite(z: Tensor, time: Tensor) -> Tensor:
    return z / 0


def raises(z: Tensor, time: Tensor) -> Tensor:
    raise RuntimeError("size of tensor a (3) must match")


def stops_gradient(z: Tensor, time: Tensor) -> Tensor:
    return 0.9 * z.detach()


def under_no_grad(z: Tensor, time: Tensor) -> Tensor:
    with torch.no_grad():
        return 0.9 * z


FAULTS = [
    (mutates, "changes its input"),
    (returns_input, "returned its input, or a view of it"),
    (returns_view, "returned its input, or a view of it"),
    (random, "answered two equal calls differently"),
    (dropout, "answered two equal calls differently"),
    (batch_norm, "when another is in the batch"),
    (nothing_finite, "non-finite values at all of gamma = -13.3, "),
    (raises, "raised RuntimeError: size of tensor a"),
    (stops_gradient, "stops its gradient"),
    (under_no_grad, "stops its gradient"),
    (lambda z, time: z[:, :1] * 2, "returned shape"),
    (lambda z, time: (2 * z).double(), "returned dtype"),
    (lambda z, time: (2 * z).to("meta"), "returned device"),
    (lambda z, time: [2 * z], "returned list"),
]


@pytest.mark.parametrize(("net", "said"), FAULTS)
def test_a_callable_that_is_unsound_has_its_own_error(net, said: str) -> None:
    with pytest.raises(ExpertError, match=said) as refused:
        check_expert(declare(net))
    assert refused.value.exit_code == 4
    assert refused.value.fields["expert"] == "net"


class Protocolar:
    """An expert that is no module of the package: exceptions and outputs are its own."""

    name, gamma_range, pixels, levels = "own", (-10.0, 5.0), "centred", 256
    image_shape, conditional = SHAPE, False

    def __init__(self, net) -> None:
        self.net = net

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.net(z, gamma)


@pytest.mark.parametrize(("net", "said"), [*FAULTS[:6], *FAULTS[7:]])
def test_an_expert_of_the_users_own_class_is_probed_alike(net, said: str) -> None:
    with pytest.raises(ExpertError, match=said):
        check_expert(Protocolar(net))


def test_the_exception_of_a_callable_is_the_cause() -> None:
    for expert in (declare(raises), Protocolar(raises)):
        with pytest.raises(ExpertError) as refused:
            check_expert(expert)
        assert isinstance(refused.value.__cause__, RuntimeError)


def test_ctrl_c_passes_through() -> None:
    def interrupted(z: Tensor, time: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_expert(Protocolar(interrupted))


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        return 0.9 * self.layer(z)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(3), nn.Identity()])
def test_a_network_in_training_mode_is_refused_and_in_evaluation_mode_not(layer: nn.Module) -> None:
    expert = declare(Wrapped(layer))
    with pytest.raises(ExpertError, match=r"in training mode .*call \.eval\(\)"):
        check_expert(expert)
    check_expert(expert.eval())


def test_batch_coupled_allows_what_depends_on_the_batch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_expert(declare(batch_norm), batch_coupled=True)


@pytest.mark.parametrize("limit", [-12.0, 0.0, 8.0])
def test_nan_at_one_gamma_is_left_to_the_solver(limit: float) -> None:
    def explodes(z: Tensor, time: Tensor) -> Tensor:
        return torch.where(time.view(-1, 1, 1, 1) > limit, torch.nan, 0.9 * z)

    check_expert(declare(explodes))


def test_a_constant_needs_no_gradient() -> None:
    check_expert(Protocolar(lambda z, gamma: torch.ones_like(z)))


def test_a_conditional_expert_needs_labels() -> None:
    def by_label(z: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        return z * labels.to(z.dtype).view(-1, 1, 1, 1)

    expert = declare(by_label, conditional=True)
    with pytest.raises(UsageError, match="conditional"):
        check_expert(expert)
    check_expert(expert, cond=torch.tensor([1, 2]))

    def changes_labels(z: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        labels.add_(1)
        return 0.9 * z

    with pytest.raises(ExpertError, match="changes its input"):
        check_expert(declare(changes_labels, conditional=True), cond=torch.tensor([1, 2]))


def test_images_of_another_shape_are_refused_before_the_network_sees_them() -> None:
    with pytest.raises(ExpertError, match=r"takes images of shape \(3, 8, 8\), not \(3, 4, 4\)"):
        check_expert(declare(sound), (3, 4, 4))
    check_expert(declare(sound, image_shape=(3, None, None)), (3, 4, 6))


def test_parametrisation_that_cannot_be_right_at_high_noise_is_warned_of() -> None:
    for wrong, net in [
        ("eps", lambda z, t: -0.9 * z),
        ("score", sound),
        ("eps", lambda z, t: 0.01 * z[:, [1, 2, 0]]),
    ]:
        with pytest.warns(UserWarning, match="nearly pure noise"):
            check_expert(declare(net, predicts=wrong))


def test_the_warning_reaches_an_expert_of_ends_pixels_inside_a_model() -> None:
    expert = declare(lambda z, t: -0.9 * z, pixels="ends")
    (leg,) = as_model(expert).legs()
    with pytest.warns(UserWarning, match="nearly pure noise"):
        check_expert(leg.expert)


@pytest.mark.parametrize("net", [sound, lambda z, t: z / 1.1])
def test_plausible_callables_are_not_warned_of(net) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_expert(declare(net))
        # At gamma = -3 z is mostly data, and nothing can be said.
        check_expert(declare(lambda z, t: -0.9 * z, gamma_range=(-13.3, -3.0)))


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.03])
def test_a_small_mean_over_the_batch_is_refused_by_what_white_neighbours_do(share: float) -> None:
    """Of nine rows four or five are white beside each other one: the mean moves by a value of 0.4 to 0.6."""
    with pytest.raises(ExpertError, match="when another is in the batch") as refused:
        check_expert(declare(lambda z, t: 0.9 * z + share * z.mean()))
    said = float(str(refused.value).split("differently, by ")[1].split(",")[0])
    assert 0.3 * share < said < 0.8 * share


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_precision_is_taken_for_company(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 3, 3))
    net = net.eval().to(dtype)
    pad = functional.pad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too rough for its gradient to be checked, and not trained
        check_expert(declare(lambda z, t: 0.9 * z + pad(net(z.to(dtype)).float(), (1, 1, 1, 1))))


def test_a_row_alone_is_answered_as_among_others() -> None:
    with pytest.raises(ExpertError, match="when another is in the batch"):
        check_expert(declare(lambda z, t: 0.9 * z * (1 + 0.1 * len(z))))


STEPS = torch.linspace(-13.3, 8.764, 100, dtype=torch.float64)


def by_level(z: Tensor, t: Tensor) -> Tensor:
    return z * (0.5 + 0.4 * t.view(-1, 1, 1, 1) / 99)


@pytest.mark.parametrize(
    ("net", "is_cut"),
    [
        (lambda z, t: by_level(z, t.floor()), True),
        (lambda z, t: by_level(z, t.long()), True),
        (by_level, False),
        (lambda z, t: by_level(z, t.round()), False),
        (sound, False),
    ],
)
def test_a_network_that_cuts_its_timesteps_is_told_from_one_that_rounds_or_ignores_them(
    net, is_cut: bool
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_expert(declare(net, time="timestep", schedule=STEPS))
    cut = [str(one.message) for one in told if "cuts the fraction off" in str(one.message)]
    assert len(cut) == is_cut
    assert all("whole_steps=True" in text for text in cut)
