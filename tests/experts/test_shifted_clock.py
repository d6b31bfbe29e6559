"""A clock that is not the training's is found, named where a slip fits, and no right one is warned of.

The networks are exact denoisers of images drawn from a normal law, so that nothing but the clock is wrong.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from merged_diffusion import CallableExpert, schedules
from merged_diffusion.errors import ExpertWarning
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.noised import Place
from merged_diffusion.experts.shifted_clock import clock_warning
from merged_diffusion.experts.timetables import SCHEDULES, step_gammas

SHAPE = (1, 8, 8)
ABAR = 1 / (1 + np.exp(step_gammas(None, "linear", 1000)))
GAMMAS = torch.as_tensor(step_gammas(None, "linear", 1000))
# Of white noise under a matrix: variances from 1/4 down to 1e-4, as images have.
BASIS = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[
    0
]
VARIANCES = torch.logspace(-0.6, -4, 64, dtype=torch.float64)


def images(seed: int, count: int = 4) -> Tensor:
    noise = torch.randn(count, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((noise * VARIANCES.sqrt()) @ BASIS.T).view(count, *SHAPE)


def eps_hat(z: Tensor, gamma: Tensor) -> Tensor:
    """The posterior mean of the noise: sigma z / (alpha^2 variance + sigma^2), in the basis."""
    alpha, sigma = (f(gamma.double()).view(-1, 1) for f in (schedules.alpha, schedules.sigma))
    away = z.double().flatten(1) @ BASIS
    return ((sigma * away / (alpha**2 * VARIANCES + sigma**2)) @ BASIS.T).view_as(z).to(z.dtype)


def at_step(z: Tensor, t: Tensor) -> Tensor:
    low = t.double().floor().clamp(0, 998).long()
    return eps_hat(z, torch.lerp(GAMMAS[low], GAMMAS[low + 1], t.double() - low))


def steps(net=at_step, **facts: object) -> CallableExpert:
    words = {"alphas_cumprod": ABAR, "image_shape": SHAPE, "pixels": "centred", "name": "net"}
    return CallableExpert.ddpm(net, **(words | facts))


def of_schedule(schedule: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The best network that was trained on a schedule with a name."""
    table = torch.as_tensor(step_gammas(None, schedule, 1000))

    def net(z: Tensor, t: Tensor) -> Tensor:
        low = t.double().floor().clamp(0, 998).long()
        return eps_hat(z, torch.lerp(table[low], table[low + 1], t.double() - low))

    return net


def by_name(trained: str, declared: str) -> CallableExpert:
    words = {"image_shape": SHAPE, "pixels": "centred", "name": "net"}
    return CallableExpert.ddpm(of_schedule(trained), schedule=declared, **words)


def said(expert: object, seed: int = 0, count: int = 4) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_expert(expert, images=images(seed, count), takes_products=False)
    return [str(one.message) for one in told if issubclass(one.category, ExpertWarning)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 4])
def test_a_right_clock_is_not_warned_of(seed: int, count: int) -> None:
    assert said(steps(), seed, count) == []


SHIFTED = {
    "twenty steps on": (lambda z, t: at_step(z, t + 20), {}),
    "gamma + 0.5": (lambda z, t: eps_hat(z, steps_gamma(t) + 0.5), {}),
    "gamma - 0.5": (lambda z, t: eps_hat(z, steps_gamma(t) - 0.5), {}),
    "a v": (
        lambda z, t: velocity(z, steps_gamma(t), 0.5),
        {"predicts": "v"},
    ),
}


def steps_gamma(t: Tensor) -> Tensor:
    low = t.double().floor().clamp(0, 998).long()
    return torch.lerp(GAMMAS[low], GAMMAS[low + 1], t.double() - low)


def velocity(z: Tensor, gamma: Tensor, by: float) -> Tensor:
    """v = (eps - sigma z) / alpha of a network that takes the noise for that of gamma + by."""
    alpha, sigma = (f(gamma + by).view(-1, 1, 1, 1) for f in (schedules.alpha, schedules.sigma))
    return ((eps_hat(z.double(), gamma + by) - sigma * z.double()) / alpha).to(z.dtype)


@pytest.mark.parametrize("case", SHIFTED)
def test_a_shifted_clock_is_told_once(case: str) -> None:
    net, facts = SHIFTED[case]
    texts = said(steps(net, **facts))
    assert len(texts) == 1, texts
    assert "clock of expert net is probably wrong" in texts[0] or "does not denoise" in texts[0]


@pytest.mark.parametrize(("power", "line"), [(0.5, "alphas_cumprod**2"), (2.0, "alphas_cumprod**0.5")])
def test_a_table_that_was_a_root_is_named(power: float, line: str) -> None:
    (text,) = said(steps(alphas_cumprod=ABAR**power))
    assert f"CallableExpert.ddpm(net, alphas_cumprod={line}, ...)" in text
    table = eval(line, {"alphas_cumprod": ABAR**power})  # noqa: S307
    assert said(steps(alphas_cumprod=table)) == []


def test_a_class_of_ones_own_is_told_another_gamma() -> None:
    class Own:
        name, gamma_range, pixels, levels = "own", (-9.0, 9.0), "centred", 256
        image_shape, conditional = SHAPE, False

        def __init__(self, by: float) -> None:
            self.by = by

        def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
            return eps_hat(z, gamma + self.by)

    assert said(Own(0.0)) == []
    (text,) = said(Own(0.5))
    assert "clock of expert own is probably wrong" in text


def test_cutting_and_the_clock_are_one_fault() -> None:
    (text,) = said(steps(lambda z, t: at_step(z, t.floor())))
    assert "cuts the fraction off" in text


@pytest.mark.parametrize("declared", SCHEDULES)
@pytest.mark.parametrize("trained", SCHEDULES)
def test_a_schedule_taken_for_another_is_named(trained: str, declared: str) -> None:
    texts = said(by_name(trained, declared))
    if trained == declared:
        assert texts == []
        return
    (text,) = texts
    assert f'CallableExpert.ddpm(net, schedule="{trained}", ...)' in text


def test_the_clock_is_looked_at_independently_of_the_upper_end() -> None:
    class Own:
        name, pixels, levels, image_shape, conditional = "own", "centred", 256, SHAPE, False
        gamma_range = (-9.0, 20.0)

        def __init__(self, by: float) -> None:
            self.by = by

        def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
            return eps_hat(z, gamma + self.by)

    place = Place(images(0), torch.device("cpu"))
    for high in (5.0, 10.0, 20.0):
        assert clock_warning(Own(0.0), place, (-9.0, high)) is None
        text = clock_warning(Own(-0.5), place, (-9.0, high))
        # Eight gammas up to 4, whatever the end: the second is -9 + 13 * 1.5 / 8 = -6.5625.
        assert "noise of gamma = -6.56 it predicts better when it is told -6.06" in text
        assert "bits/dim of the variational bound, and of the likelihood less or more" in text
