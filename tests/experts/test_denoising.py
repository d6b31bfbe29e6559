"""Whether an expert predicts the noise of the user's images, and whether its gradient is whole."""

import re
import warnings

import pytest
import torch
from torch import Tensor

from merged_diffusion import load_data, load_expert, schedules
from merged_diffusion.data import pixel_values
from merged_diffusion.errors import ExpertError, ExpertWarning
from merged_diffusion.experts import checks, fence
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.checks import check_expert, checked_once
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.merge import as_model

BUNDLED = ["photos-vdm", "photos-edm", "digits-vdm", "digits-edm"]
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


def v_of_photos(z: Tensor, gamma: Tensor) -> Tensor:
    return (PHOTOS(z, gamma) - sigma(gamma) * z) / alpha(gamma)


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


WRONG = {
    "v as eps": (v_of_photos, {}, 'predicts = "v" would fit'),
    "eps as v": (PHOTOS, {"predicts": "v"}, 'predicts = "eps" would fit'),
    "eps as x0": (PHOTOS, {"predicts": "x0"}, 'predicts = "eps" would fit'),
    "minus gamma": (lambda z, gamma: PHOTOS(z, -gamma), {}, "-gamma .* would fit"),
    "half of gamma": (lambda z, gamma: PHOTOS(z, gamma / 2), {}, r"2 \* gamma would fit"),
    "z / alpha": (lambda z, gamma: PHOTOS(z / alpha(gamma), gamma), {}, "does not denoise"),
    "pixels from 0 to 1": (lambda z, gamma: PHOTOS((z + 1) / 2, gamma), {}, "no other word"),
    "minus eps": (lambda z, gamma: -PHOTOS(z, gamma), {}, "no other word"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_declaration_is_warned_of_and_the_right_word_named(case: str) -> None:
    net, facts, said = WRONG[case]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_expert(declare(net, **facts), images=images())
    texts = [str(one.message) for one in told if issubclass(one.category, ExpertWarning)]
    assert len([text for text in texts if "does not denoise" in text]) == 1
    assert any(re.search(said, text) for text in texts), texts


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

    with pytest.warns(ExpertWarning, match="too rough"):
        check_expert(declare(rounded))


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

    monkeypatch.setattr(checks, "pull", pull)
    expert = load_expert(f"bundled:{name}").requires_grad_(False)
    expert.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    x = images(name.split("-")[0])
    check_expert(expert, tuple(x.shape[1:]), images=x)
    assert len(asked) <= 11
    assert sum(asked) <= 113
    assert pulled == [9]


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
