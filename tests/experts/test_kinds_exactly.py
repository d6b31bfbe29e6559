"""Kinds of network by name against Gaussian data, whose optimal network is known in every convention.

The network computes with 40 digits, so that what is left is the error of the expert's own formulas.
"""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.timetables import step_gammas

MEAN, VARIANCE = mpf(1) / 10, mpf(1) / 4
LOW, HIGH = mpf(1) / 10, mpf(20)  # of beta
ROWS = 7
TOLERANCE = 1e-12


@pytest.fixture(autouse=True)
def _digits():
    with mp.workdps(40):
        yield


def noise_of(z, gamma):
    """E[eps | z] of z = alpha x + sigma eps, x ~ N(MEAN, VARIANCE)."""
    alpha2, sigma2 = 1 / (1 + mp.exp(gamma)), 1 / (1 + mp.exp(-gamma))
    return mp.sqrt(sigma2) * (z - mp.sqrt(alpha2) * MEAN) / (alpha2 * VARIANCE + sigma2)


def both_of(x, s):
    """E[eps] and E[x] given x + s eps."""
    eps = noise_of(x / mp.sqrt(1 + s**2), 2 * mp.log(s))
    return eps, x - s * eps


def edm(x, t, std):
    s = mp.exp(4 * t)
    r = mp.sqrt(s**2 + std**2)
    _, clean = both_of(r * x, s)
    return (clean - std**2 / r * x) * r / (s * std)


def flow(x, t, data_at, path, scale):
    t = t / scale
    if path == "linear":
        data, noise, to_data, to_noise = t, 1 - t, 1, -1
    else:
        data, noise = mp.sin(mp.pi * t / 2), mp.cos(mp.pi * t / 2)
        to_data, to_noise = mp.pi / 2 * noise, -mp.pi / 2 * data
    if data_at == 0:
        data, noise, to_data, to_noise = noise, data, to_noise, to_data
    eps, clean = both_of(x / data, noise / data)
    return to_data * clean + to_noise * eps


def vp_sde(x, t, sub, predicts):
    t = t / 999
    a = mp.exp(-(LOW * t + (HIGH - LOW) * t**2 / 2) / 2)
    std = 1 - a**2 if sub else mp.sqrt(1 - a**2)
    eps, _ = both_of(x / a, std / a)
    return eps if predicts == "eps" else -eps / std


def score(x, s, unit):
    eps, _ = both_of(2 * x - 1, 2 * s) if unit else both_of(x, s)
    return -eps / s


def ddpm(x, i, gammas, predicts):
    """At a step between two of the table, whose gammas are those of the expert."""
    below = min(int(mp.floor(i)), len(gammas) - 2)
    low, high = (mpf(float(gamma)) for gamma in gammas[below : below + 2])
    gamma = low + (i - below) * (high - low)
    alpha, sigma = 1 / mp.sqrt(1 + mp.exp(gamma)), 1 / mp.sqrt(1 + mp.exp(-gamma))
    eps = noise_of(x, gamma)
    clean = (x - sigma * eps) / alpha
    return {"eps": eps, "x0": clean, "v": alpha * eps - sigma * clean}[predicts]


def exactly(law, *facts):
    """An elementwise law as a network of float64."""

    def net(x, time):
        rows = [
            [float(law(mpf(float(value)), mpf(float(t)), *facts)) for value in row.flatten()]
            for row, t in zip(x, time, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64).view_as(x)

    return net


def kinds():
    for std in (0.5, 1.25):
        yield f"edm {std}", lambda std=std: CallableExpert.edm(exactly(edm, mpf(std)), sigma_data=std)
    for end in (0, 1):
        for path in ("linear", "trigonometric"):
            for scale in (1.0, 1000.0):
                facts = {"data_at": end, "path": path, "time_scale": scale}
                yield (
                    f"flow {end} {path} {scale}",
                    lambda facts=facts: CallableExpert.flow(exactly(flow, *facts.values()), **facts),
                )
    for sub in (False, True):
        for predicts in ("eps", "score"):
            facts = {"sub": sub, "predicts": predicts}
            yield (
                f"vp_sde {sub} {predicts}",
                lambda facts=facts: CallableExpert.vp_sde(exactly(vp_sde, *facts.values()), **facts),
            )
    for unit in (False, True):
        yield f"score {unit}", lambda unit=unit: CallableExpert.score(exactly(score, unit), unit=unit)
    for schedule in ("linear", "cosine", "sigmoid"):
        for predicts in ("eps", "x0", "v"):
            facts = {"schedule": schedule, "predicts": predicts}
            gammas = step_gammas(None, schedule, 1000)
            yield (
                f"ddpm {schedule} {predicts}",
                lambda facts=facts, gammas=gammas: CallableExpert.ddpm(
                    exactly(ddpm, gammas, facts["predicts"]), **facts
                ),
            )


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in kinds()])
def test_eps_hat_of_gaussian_data_is_the_closed_form(make):
    expert = make()
    low, high = expert.gamma_range
    gamma = torch.linspace(low, min(high, 9.0), ROWS, dtype=torch.float64)
    z = torch.randn(ROWS, 3, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [
        [float(noise_of(mpf(float(value)), mpf(float(g)))) for value in row.flatten()]
        for row, g in zip(z, gamma, strict=True)
    ]
    found = expert(z, gamma).flatten(1).numpy()
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale)
