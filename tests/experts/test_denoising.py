"""Whether an expert predicts the noise of the user's images, and whether its gradient is whole."""

import math
import re
import warnings

import pytest
import torch
from torch import Tensor

from merged_diffusion import load_data, load_expert, load_pair, schedules
from merged_diffusion.data import pixel_values
from merged_diffusion.errors import ExpertError, ExpertWarning
from merged_diffusion.experts import fence, products
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.checks import check_expert, checked_once
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.merge import as_model

BUNDLED = ["photos-vdm", "photos-edm", "digits-vdm", "digits-edm", "scenes-vdm", "scenes-edm"]
PHOTOS = load_expert("bundled:photos-vdm").requires_grad_(False)


def images(name: str = "photos") -> Tensor:
    data = load_data(name, split="test").select(limit=4)
    return torch.as_tensor(pixel_values(data.images, data.levels))


def declare(net, **facts: object) -> CallableExpert:
    defaults = {
        "predicts": "eps",
        "time": "gamma",
        "input": "vp",
        "pixels": "centred",
        "levels": 256,
        "gamma_range": PHOTOS.gamma_range,
        "image_shape": (3, 8, 8),
        "name": "net",
    }
    return CallableExpert(net, **{**defaults, **facts})


def alpha(gamma: Tensor) -> Tensor:
    return schedules.alpha(gamma).float().view(-1, 1, 1, 1)


def sigma(gamma: Tensor) -> Tensor:
    return schedules.sigma(gamma).float().view(-1, 1, 1, 1)


@pytest.mark.parametrize("name", BUNDLED)
def test_no_bundled_expert_is_warned_of(name: str) -> None:
    (leg,) = as_model(load_expert(f"bundled:{name}")).legs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_expert(leg.expert, images=images(name.partition("-")[0]))


@pytest.mark.parametrize("variance", [0.2, 0.3, 1.0])
def test_no_closed_form_is_warned_of(variance: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_expert(GaussianExpert((3, 8, 8), variance=variance), images=images())


@pytest.mark.parametrize(("height", "rate"), [(0.5, 10.0), (0.1, 50.0), (0.05, 100.0), (0.005, 1000.0)])
def test_an_expert_that_waves_is_not_refused(height: float, rate: float) -> None:
    check_expert(declare(lambda z, gamma: PHOTOS(z, gamma) + height * torch.sin(rate * z)))


# Of a network of eps: what is declared, what becomes of it, and what is said.
WRONG = {
    "v as eps": (
        lambda net: lambda z, g: (net(z, g) - sigma(g) * z) / alpha(g),
        {},
        'predicts = "v" would fit',
    ),
    "eps as v": (lambda net: net, {"predicts": "v"}, 'predicts = "eps" would fit'),
    "eps as x0": (lambda net: net, {"predicts": "x0"}, 'predicts = "eps" would fit'),
    "eps as score": (lambda net: net, {"predicts": "score"}, 'predicts = "eps" would fit'),
    "minus gamma": (lambda net: lambda z, g: net(z, -g), {}, "-gamma .* would fit"),
    "half of gamma": (lambda net: lambda z, g: net(z, g / 2), {}, r"2 \* gamma would fit"),
    "twice gamma": (lambda net: lambda z, g: net(z, 2 * g), {}, "gamma / 2 would fit"),
    "z / alpha": (lambda net: lambda z, g: net(z / alpha(g), g), {}, "alpha z in place of z would fit"),
    "z as edm": (lambda net: net, {"input": "edm"}, 'input = "vp" would fit'),
    "taken for 0 to 1": (
        lambda net: lambda z, g: net((z + 1) / 2, g),
        {},
        "2 z - 1 in place of z .* would fit",
    ),
    "trained on 0 to 1": (
        lambda net: (
            lambda z, g: net(
                (2 * z - alpha(g)) / (alpha(g) ** 2 + 4 * sigma(g) ** 2).sqrt(), g + 2 * math.log(2)
            )
        ),
        {},
        "pixels from 0 to 1.* would fit",
    ),
    "minus eps": (lambda net: lambda z, g: -net(z, g), {}, "minus what it returns would fit"),
}


# The line to paste, where it is one.
PASTED = {
    "v as eps": 'CallableExpert(net, predicts="v", ...)',
    "eps as v": 'CallableExpert(net, predicts="eps", ...)',
    "eps as x0": 'CallableExpert(net, predicts="eps", ...)',
    "eps as score": 'CallableExpert(net, predicts="eps", ...)',
    "minus gamma": "CallableExpert(net, time=lambda gamma: -gamma, ...)",
    "half of gamma": "CallableExpert(net, time=lambda gamma: 2 * gamma, ...)",
    "twice gamma": "CallableExpert(net, time=lambda gamma: gamma / 2, ...)",
    "z as edm": 'CallableExpert(net, input="vp", ...)',
    "taken for 0 to 1": "CallableExpert(lambda z, *rest: net(2 * z - 1, *rest), ...)",
    "minus eps": "CallableExpert(lambda z, *rest: -net(z, *rest), ...)",
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", BUNDLED)
def test_a_wrong_declaration_is_warned_of_and_the_right_word_named(name: str, case: str) -> None:
    wrapped, facts, said = WRONG[case]
    (leg,) = as_model(load_expert(f"bundled:{name}").requires_grad_(False)).legs()
    x = images(name.partition("-")[0])
    own = {"gamma_range": leg.expert.gamma_range, "image_shape": x.shape[1:], "levels": leg.expert.levels}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_expert(declare(wrapped(leg.expert), **own, **facts), images=x, takes_products=False)
    texts = [str(one.message) for one in told if issubclass(one.category, ExpertWarning)]
    assert len([text for text in texts if "does not denoise" in text]) == 1
    assert any(re.search(said, text) for text in texts), texts
    if case in PASTED:
        (text,) = (text for text in texts if "does not denoise" in text)
        net, line = wrapped(leg.expert), PASTED[case]
        assert text.endswith(f"; write {line}")
        assert len(texts) == 1
        # What is pasted is a declaration that nothing is said of.
        words = {name: value for name, value in facts.items() if f"{name}=" not in line}
        argument = line.removeprefix("CallableExpert(").removesuffix(", ...)")
        pasted = eval(f"declare({argument}, **facts)", {"declare": declare, "net": net, "facts": own | words})  # noqa: S307
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_expert(pasted, images=x, takes_products=False)


def test_a_card_with_the_wrong_word_is_told_the_right_one() -> None:
    expert = load_expert("bundled:digits-vdm").requires_grad_(False)
    expert.predicts = "velocity"
    with pytest.warns(ExpertWarning, match='would fit, .*; write predicts = "eps" in its card.toml$'):
        check_expert(expert, images=images("digits"), takes_products=False)


@pytest.mark.parametrize("table", [True, False])
def test_the_line_of_a_schedule_that_runs_the_other_way_is_one(table: bool) -> None:
    low, high = PHOTOS.gamma_range
    if table:
        schedule, other = torch.linspace(low, high, 100), f"{low + high:.10g} - torch.as_tensor(schedule)"
    else:
        schedule = lambda gamma: (gamma - low) / (high - low)  # noqa: E731
        other = f"lambda gamma: schedule({low + high:.10g} - gamma)"

    def net(z: Tensor, t: Tensor) -> Tensor:
        return PHOTOS(z, high - t.double() * (high - low))

    with pytest.warns(ExpertWarning, match="the schedule reversed would fit") as told:
        check_expert(declare(net, time="t01", schedule=schedule), images=images(), takes_products=False)
    assert str(told[0].message).endswith(f"; write CallableExpert(net, schedule={other}, ...)")
    turned = eval(other, {"schedule": schedule, "torch": torch})  # noqa: S307
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_expert(declare(net, time="t01", schedule=turned), images=images(), takes_products=False)


def cosine_gammas(n: int = 200) -> Tensor:
    """Nichol and Dhariwal 2021, eq. 17, at timesteps 0 to n - 1: not symmetric about any gamma."""
    angle = (torch.arange(n, dtype=torch.float64) / n + 0.008) / 1.008 * math.pi / 2
    alphas_bar = (angle.cos() / math.cos(0.008 / 1.008 * math.pi / 2)).square()[1:] * (1 - 1e-4)
    return -torch.logit(alphas_bar)


def test_a_table_from_its_other_end_is_told_so() -> None:
    table = cosine_gammas()
    gammas = {"gamma_range": (-7.5, 5.0)}

    def net(z: Tensor, t: Tensor) -> Tensor:
        low = t.long().clamp(max=len(table) - 2)
        return PHOTOS(z, torch.lerp(table[low], table[low + 1], t.double() - low))

    declared = declare(net, time="timestep", schedule=table.flip(0), **gammas)
    with pytest.warns(ExpertWarning, match="the time reversed would fit") as told:
        check_expert(declared, images=images(), takes_products=False)
    line = "; write CallableExpert(net, schedule=torch.as_tensor(schedule).flip(0), ...)"
    assert str(told[0].message).endswith(line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound = declare(net, time="timestep", schedule=table, **gammas)
        check_expert(sound, images=images(), takes_products=False)


@pytest.mark.parametrize("predicts", ["x0-minus-eps", "eps-minus-x0"])
@pytest.mark.parametrize("takes_other", [True, False])
def test_the_other_convention_of_flow_matching_is_recognised(predicts: str, takes_other: bool) -> None:
    """From noise to data and back: velocity and time both run the other way, or the time alone."""
    sign = 1 if predicts == "eps-minus-x0" else -1

    def net(x: Tensor, t: Tensor) -> Tensor:
        gamma = sign * 2 * torch.logit(t.double())  # of sigmoid(sign gamma / 2)
        scale = (schedules.alpha(gamma) + schedules.sigma(gamma)).view(-1, 1, 1, 1).to(x.dtype)
        alpha, noise = (f(gamma).view(-1, 1, 1, 1).to(x.dtype) for f in (schedules.alpha, schedules.sigma))
        z = x * scale
        eps = PHOTOS(z, gamma)
        return sign * (eps - (z - noise * eps) / alpha)

    other = {"x0-minus-eps": "eps-minus-x0", "eps-minus-x0": "x0-minus-eps"}[predicts]
    wrong = {"schedule": lambda gamma: torch.sigmoid(-sign * gamma / 2), "time": "t01", "input": "flow"}
    declared = declare(net, predicts=other if takes_other else predicts, **wrong)
    with pytest.warns(ExpertWarning, match="the time reversed would fit") as told:
        check_expert(declared, images=images(), takes_products=False)
    words = f'predicts="{predicts}", ' if takes_other else ""
    line = f"; write CallableExpert(net, {words}schedule=lambda gamma: 1 - schedule(gamma), ...)"
    assert str(told[0].message).endswith(line)


def test_of_a_time_with_a_schedule_the_line_leaves_the_schedule_out() -> None:
    low, high = PHOTOS.gamma_range
    expert = declare(PHOTOS, time="t01", schedule=lambda gamma: (gamma - low) / (high - low))
    with pytest.warns(
        ExpertWarning, match=r'; write CallableExpert\(net, time="gamma", schedule=None, ...\)$'
    ):
        check_expert(expert, images=images(), takes_products=False)


@pytest.mark.parametrize(("declared", "other"), [("eps", "score"), ("score", "eps")])
def test_without_images_a_sign_is_told_from_the_noise(declared: str, other: str) -> None:
    def net(z: Tensor, gamma: Tensor) -> Tensor:
        return PHOTOS(z, gamma) * (1 if other == "eps" else -1 / sigma(gamma))

    with pytest.warns(
        UserWarning, match=rf'trained for\?; else write CallableExpert\(net, predicts="{other}", ...\)$'
    ):
        check_expert(declare(net, predicts=declared), takes_products=False)


def self_conditioned(z: Tensor, gamma: Tensor) -> Tensor:
    with torch.no_grad():
        first = PHOTOS(z, gamma)
    return 0.5 * first + 0.5 * PHOTOS(z, gamma)


def detached_channel(z: Tensor, gamma: Tensor) -> Tensor:
    out = PHOTOS(z, gamma)
    return torch.cat([out[:, :1].detach(), out[:, 1:]], 1)


def detached_in_the_middle(z: Tensor, gamma: Tensor) -> Tensor:
    out = PHOTOS(z, gamma)
    middle = ((gamma > -3) & (gamma < 0)).view(-1, 1, 1, 1)
    return torch.where(middle, 0.5 * out + 0.5 * out.detach(), out)


@pytest.mark.parametrize("net", [self_conditioned, detached_channel, detached_in_the_middle])
def test_an_expert_with_part_of_its_gradient_missing_is_refused(net) -> None:
    with pytest.raises(ExpertError, match="part of its gradient missing") as refused:
        check_expert(declare(net))
    assert "--accept-gradient net" in str(refused.value)
    with pytest.warns(ExpertWarning, match="part of its gradient missing"):
        check_expert(declare(net), accept_gradient=("net",))
    check_expert(declare(net), takes_products=False)


def test_an_expert_in_half_precision_is_remarked_not_refused() -> None:
    def rounded(z: Tensor, gamma: Tensor) -> Tensor:
        return PHOTOS(z, gamma).bfloat16().float()

    def half_detached(z: Tensor, gamma: Tensor) -> Tensor:
        out = PHOTOS(z, gamma)
        return (0.5 * out + 0.5 * out.detach()).bfloat16().float()

    with pytest.warns(ExpertWarning, match="too rough") as told:
        check_expert(declare(rounded))
    assert "may be missing" not in str(told[0].message)
    with pytest.warns(ExpertWarning, match="too rough .* part of it may be missing"):
        check_expert(declare(half_detached))


@pytest.mark.parametrize("net", [self_conditioned, detached_channel, detached_in_the_middle])
def test_part_of_the_gradient_of_an_expert_that_couples_its_batch_is_missed_too(net) -> None:
    def coupled(z: Tensor, gamma: Tensor) -> Tensor:
        return net(z, gamma) + 0.01 * (z - z.mean(0, keepdim=True))

    def whole(z: Tensor, gamma: Tensor) -> Tensor:
        return PHOTOS(z, gamma) + 0.01 * (z - z.mean(0, keepdim=True))

    with pytest.raises(ExpertError, match="part of its gradient missing"):
        check_expert(declare(coupled), batch_coupled=True)
    check_expert(declare(whole), batch_coupled=True)


@pytest.mark.parametrize("window", [(-3.0, 0.0), (-8.0, -5.0), (1.0, 4.0)])
def test_what_an_expert_does_at_middle_gammas_alone_is_found(window: tuple[float, float]) -> None:
    def inside(gamma: Tensor) -> Tensor:
        return ((gamma > window[0]) & (gamma < window[1])).view(-1, 1, 1, 1)

    def draws(z: Tensor, gamma: Tensor) -> Tensor:
        out = PHOTOS(z, gamma)
        return torch.where(inside(gamma), out + 0.05 * torch.randn_like(out), out)

    def mixes(z: Tensor, gamma: Tensor) -> Tensor:
        out = PHOTOS(z, gamma)
        return torch.where(inside(gamma), out + 0.05 * (z - z.mean(0, keepdim=True)), out)

    with pytest.raises(ExpertError, match="two equal calls differently"):
        check_expert(declare(draws))
    with pytest.raises(ExpertError, match="when another is in the batch"):
        check_expert(declare(mixes))


@pytest.mark.parametrize("name", BUNDLED)
def test_a_trained_expert_is_asked_eleven_times_and_for_one_product(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, pulled = [], []

    def pull(expert: object, eps_hat: Tensor, *given: Tensor) -> Tensor | None:
        pulled.append(len(eps_hat))
        return fence.pull(expert, eps_hat, *given)

    monkeypatch.setattr(products, "pull", pull)
    legs = [*load_pair(name.split("-")[0]).legs(), *as_model(load_expert(f"bundled:{name}")).legs()]
    x = images(name.split("-")[0])
    for leg in legs:
        if leg.expert.name != name:
            continue
        leg.expert.requires_grad_(False)
        handle = leg.expert.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
        check_expert(leg.expert, tuple(x.shape[1:]), over=(leg.start, leg.end), images=x)
        handle.remove()
        assert len(asked) <= 11
        assert sum(asked) <= 113
        assert pulled == [9]
        asked.clear()
        pulled.clear()


def test_one_command_looks_at_an_expert_once_over_the_same_gammas() -> None:
    asked: list[int] = []

    def counted(z: Tensor, gamma: Tensor) -> Tensor:
        asked.append(len(z))
        return PHOTOS(z, gamma)

    def spent(**facts: object) -> int:
        before = len(asked)
        check_expert(expert, **facts)
        return len(asked) - before

    expert = declare(counted)
    with checked_once():
        whole = spent(images=images())
        assert whole > 0
        assert spent(images=images()) == spent(over=(-8.0, 0.0)) == spent(takes_products=False) == 0
        assert spent(shape=(3, 8, 8)) > 0
        assert spent(batch_coupled=True) > 0
    with checked_once():
        assert spent(over=(-8.0, 0.0)) > 0
        assert spent(over=(-8.0, 1.0)) > 0
        assert spent(over=(-8.0, 1.0), images=images()) > 0
    assert spent(images=images()) == whole


@pytest.mark.parametrize("pair", ["photos", "digits"])
@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_no_bundled_expert_is_warned_of_on_any_leg(pair: str, at: float) -> None:
    for leg in load_pair(pair).legs():
        low, high = leg.expert.gamma_range
        middle = low + at * (high - low)
        for over in ((low, middle), (middle, high)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_expert(leg.expert.requires_grad_(False), over=over, images=images(pair))
