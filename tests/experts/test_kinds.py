"""Kinds of network by name: each against its own convention, written out here once more."""

import math
import re
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

import merged_diffusion as md
from merged_diffusion.data import pixel_values
from merged_diffusion.errors import ExpertError, ExpertWarning, UsageError
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.checks import check_expert
from merged_diffusion.experts.timetables import step_gammas
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.merge import as_model

MEAN, VARIANCE = 0.1, 0.25
BETAS = (0.1, 20.0)


def per_image(values, like):
    return values.view(-1, 1, 1, 1).to(like.dtype)


def gaussian(z, gamma):
    """The noise that is expected of Gaussian data, in z = alpha x + sigma eps."""
    alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
    alpha, sigma = per_image(alpha2.sqrt(), z), per_image(sigma2.sqrt(), z)
    return sigma * (z - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)


def clean_of(x, s, eps_hat):
    """eps and the denoised image of x + s eps."""
    gamma = 2 * s.log()
    eps = eps_hat(x * per_image((1 + s**2).rsqrt(), x), gamma)
    return eps, x - per_image(s, x) * eps


def table(schedule, steps):
    """abar by the formulas of the papers, step by step."""
    if schedule == "linear":
        betas = [1000 / steps * (1e-4 + (0.02 - 1e-4) * i / (steps - 1)) for i in range(steps)]
    elif schedule == "cosine":
        f = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        betas = [min(1 - b / a, 0.999) for a, b in pairwise(f)]
    else:
        v0, v1 = (1 / (1 + math.exp(-e)) for e in (-3.0, 3.0))
        f = [(v1 - 1 / (1 + math.exp(3 - 6 * i / steps))) / (v1 - v0) for i in range(steps + 1)]
        betas = [min(1 - b / a, 0.999) for a, b in pairwise(f)]
    return np.cumprod([1 - beta for beta in betas])


def ddpm(eps_hat, schedule="linear", steps=1000, predicts="eps", scale=1.0, doubled=False):
    abar = table(schedule, steps)
    gammas = np.log((1 - abar) / abar)

    def net(z, i):
        at = np.interp((i.double() / scale).numpy(), np.arange(steps), gammas)
        gamma = torch.from_numpy(np.atleast_1d(at))
        alpha, sigma = (per_image(torch.sigmoid(sign * gamma).sqrt(), z) for sign in (-1, 1))
        eps = eps_hat(z, gamma)
        x = (z - sigma * eps) / alpha
        out = {"eps": eps, "x0": x, "v": alpha * eps - sigma * x}[predicts]
        return torch.cat([out, out + 1], dim=1) if doubled else out

    return net


def edm(eps_hat, sigma_data=0.5):
    def net(scaled, c_noise):
        s = (4 * c_noise).exp()
        r = per_image((s**2 + sigma_data**2).sqrt(), scaled)
        x = r * scaled
        _, clean = clean_of(x, s, eps_hat)
        return (clean - sigma_data**2 / r**2 * x) / (per_image(s, x) * sigma_data / r)

    return net


def flow(eps_hat, data_at=1, path="linear", scale=1.0):
    def net(x_t, t):
        t = t / scale
        if path == "linear":
            of_x, of_eps = (t, 1 - t) if data_at == 1 else (1 - t, t)
            rate_x, rate_eps = (1.0, -1.0) if data_at == 1 else (-1.0, 1.0)
        else:
            sin, cos = (math.pi / 2 * t).sin(), (math.pi / 2 * t).cos()
            of_x, of_eps = (sin, cos) if data_at == 1 else (cos, sin)
            slopes = (math.pi / 2 * cos, -math.pi / 2 * sin)
            rate_x, rate_eps = (per_image(r, x_t) for r in (slopes if data_at == 1 else slopes[::-1]))
        eps, clean = clean_of(x_t / per_image(of_x, x_t), of_eps / of_x, eps_hat)
        return rate_x * clean + rate_eps * eps

    return net


def vp_sde(eps_hat, sub=False, predicts="eps", scale=999.0):
    low, high = BETAS

    def net(x_t, label):
        t = label / scale
        a = (-(low * t + (high - low) * t**2 / 2) / 2).exp()
        std = 1 - a**2 if sub else (1 - a**2).sqrt()
        eps, _ = clean_of(x_t / per_image(a, x_t), std / a, eps_hat)
        return eps if predicts == "eps" else -eps / per_image(std, x_t)

    return net


def score(eps_hat, unit=False):
    def net(x, s):
        if unit:
            eps, _ = clean_of(2 * x - 1, 2 * s, eps_hat)
        else:
            eps, _ = clean_of(x, s, eps_hat)
        return -eps / per_image(s, x)

    return net


# What the network is, what it is declared to be, and the digits that its own formulas leave.
KINDS = {
    **{
        f"ddpm {schedule} {predicts}": (
            ddpm, {"schedule": schedule, "predicts": predicts}, "ddpm",
            {"schedule": schedule, "predicts": predicts}, 1e-8,
        )
        for schedule in ("linear", "cosine", "sigmoid") for predicts in ("eps", "x0", "v")
    },
    "ddpm doubled": (
        ddpm, {"doubled": True}, "ddpm", {"schedule": "linear", "learned_variance": True}, 1e-10,
    ),
    "ddpm rescaled": (
        ddpm, {"steps": 4000, "scale": 0.25, "schedule": "cosine"}, "ddpm",
        {"schedule": "cosine", "steps": 4000, "rescale_timesteps": True}, 1e-8,
    ),
    "edm": (edm, {}, "edm", {}, 1e-9),
    "edm of another deviation": (edm, {"sigma_data": 1.3}, "edm", {"sigma_data": 1.3}, 1e-9),
    **{
        f"flow {path} {end}": (
            flow, {"data_at": end, "path": path}, "flow", {"data_at": end, "path": path}, 1e-10,
        )
        for path in ("linear", "trigonometric") for end in (0, 1)
    },
    "flow in thousandths": (
        flow, {"data_at": 0, "scale": 1000.0}, "flow", {"data_at": 0, "time_scale": 1000.0}, 1e-10,
    ),
    **{
        f"{'sub-' if sub else ''}vp {predicts}": (
            vp_sde, {"sub": sub, "predicts": predicts}, "vp_sde", {"sub": sub, "predicts": predicts}, 1e-8,
        )
        for sub in (False, True) for predicts in ("eps", "score")
    },
    "ve": (score, {}, "score", {"sigma_range": (0.01, 50.0), "unit": False}, 1e-11),
    "ve of 0 to 1": (score, {"unit": True}, "score", {"sigma_range": (0.01, 50.0), "unit": True}, 1e-11),
}  # fmt: skip


def made(kind, eps_hat=gaussian, **rest):
    network, facts, name, declared, _ = KINDS[kind]
    return getattr(CallableExpert, name)(network(eps_hat, **facts), **declared, **rest)


@pytest.mark.parametrize("kind", KINDS)
def test_eps_hat_is_that_of_gaussian_data(kind):
    expert = made(kind, image_shape=(3, 4, 4))
    low, high = expert.gamma_range
    gamma = torch.linspace(low + 0.2, min(high, 9.0) - 0.2, 9, dtype=torch.float64)
    z = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = expert(z, gamma)
    torch.testing.assert_close(found, gaussian(z, gamma), rtol=0, atol=KINDS[kind][4])
    assert expert.pixels == "ends"


@pytest.mark.parametrize(
    "kind", ["edm", "flow linear 1", "flow trigonometric 0", "vp eps", "sub-vp score", "ve"]
)
def test_density_is_the_closed_form(kind):
    shape = (1, 4, 4)
    expert = made(kind, image_shape=shape, pixels="centred", gamma_range=(-7.5, 7.5))
    mean = torch.full(shape, MEAN, dtype=torch.float64)
    exact = md.GaussianExpert(shape, mean=mean, variance=VARIANCE, gamma_range=(-7.5, 7.5))
    x = np.random.default_rng(0).normal(MEAN, VARIANCE**0.5, (2, *shape))
    asked = {
        "solver": md.Dopri5(rtol=1e-11, atol=1e-11),
        "probes": md.Probes(kind="exact"),
        "machine": md.Machine(dtype="float64"),
    }
    found, expected = (md.log_density(each, x, **asked) for each in (expert, exact))
    np.testing.assert_allclose(found / 16 / math.log(2), expected / 16 / math.log(2), atol=1e-8)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("steps", [1000, 4000])
def test_named_schedules_have_the_gammas_of_their_papers(schedule, steps):
    abar = table(schedule, steps)
    np.testing.assert_allclose(step_gammas(None, schedule, steps), np.log((1 - abar) / abar), atol=1e-9)
    np.testing.assert_allclose(step_gammas(torch.from_numpy(abar), None, steps), np.log((1 - abar) / abar))


def test_whole_steps_are_asked_at_whole_steps():
    seen = []

    def net(z, i):
        seen.append(i)
        return z

    expert = CallableExpert.ddpm(net, schedule="linear", whole_steps=True)
    expert(torch.zeros(5, 3, 4, 4), torch.linspace(-9, 9, 5, dtype=torch.float64))
    assert torch.equal(seen[0], seen[0].round())
    assert seen[0].min() >= 0
    assert seen[0].max() <= 999


def test_a_table_of_steps_is_looked_up_by_whole_numbers():
    class Lookup(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(1000, 1)

        def forward(self, z, i):
            return z + self.table(i).view(-1, 1, 1, 1)

    expert = CallableExpert.ddpm(Lookup().eval(), schedule="linear", whole_steps=True)
    out = expert(torch.zeros(5, 3, 4, 4), torch.linspace(-9, 9, 5, dtype=torch.float64))
    assert out.isfinite().all()


@pytest.mark.parametrize(
    "how", [{"whole_steps": True}, {"learned_variance": True}, {"rescale_timesteps": True}]
)
def test_the_network_of_a_wrapper_is_seen(how):
    """By its hash, its mode and its device: a run must not mix two networks."""
    nets = [torch.nn.Conv2d(3, 6 if "learned_variance" in how else 3, 1) for _ in range(2)]

    class Net(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, z, i):
            return self.inner(z)

    experts = [CallableExpert.ddpm(Net(net).eval(), schedule="linear", steps=100, **how) for net in nets]
    one, two = (weights_sha256(expert) for expert in experts)
    assert one != two
    assert [key for key in experts[0].state_dict() if "inner" in key]
    with pytest.raises(ExpertError, match="training mode"):
        check_expert(CallableExpert.ddpm(Net(nets[0]).train(), schedule="linear", **how), shape=(3, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: CallableExpert.ddpm(net), "no schedule was given"),
        (lambda net: CallableExpert.ddpm(net, schedule="linear", alphas_cumprod=[0.9, 0.5]), "both given"),
        (lambda net: CallableExpert.ddpm(net, schedule="quadratic"), "possible are linear, cosine, sigmoid"),
        (lambda net: CallableExpert.ddpm(net, alphas_cumprod=[1.2, 0.5]), "between 0 and 1"),
        (lambda net: CallableExpert.ddpm(net, alphas_cumprod=[0.5, 0.9]), "does not fall"),
        (lambda net: CallableExpert.ddpm(net, schedule="linear", steps=10), "steps = 10"),
        (lambda net: CallableExpert.ddpm(net, schedule="linear", steps=2.5), "steps = 2.5"),
        (
            lambda net: CallableExpert.ddpm(net, schedule="linear", predicts="score"),
            "possible are eps, x0, v",
        ),
        (lambda net: CallableExpert.flow(net, data_at=1, time_scale=0), "time_scale = 0"),
        (lambda net: CallableExpert.edm(net, sigma_data=0.0), "sigma_data = 0.0"),
        (lambda net: CallableExpert.flow(net, data_at=2), "data_at = 2"),
        (lambda net: CallableExpert.flow(net, data_at=1, path="cubic"), "path = 'cubic'"),
        (lambda net: CallableExpert.vp_sde(net, beta_min=3.0, beta_max=2.0), "0 < beta_min < beta_max"),
        (lambda net: CallableExpert.vp_sde(net, predicts="v"), "possible are eps, score"),
        (lambda net: CallableExpert.score(net, unit=False, sigma_range=(1.0, 0.1)), "two rising numbers"),
        (lambda net: CallableExpert.edm(net, levles=256), "levles: no such argument"),
    ],
)
def test_what_cannot_be_declared(call, message):
    with pytest.raises(UsageError, match=message):
        call(lambda x, t: x)


# What a network is, how it is declared instead, and the word that the warning has to name.
WRONG = {
    "ddpm eps as v": ("ddpm linear eps", {"predicts": "v"}, '.ddpm(net, predicts="eps", ...)'),
    "ddpm v as eps": ("ddpm linear v", {"predicts": "eps"}, '.ddpm(net, predicts="v", ...)'),
    "ddpm x0 as eps": ("ddpm cosine x0", {"predicts": "eps"}, '.ddpm(net, predicts="x0", ...)'),
    "cosine as linear": ("ddpm cosine eps", {"schedule": "linear"}, '.ddpm(net, schedule="cosine", ...)'),
    "linear as cosine": ("ddpm linear eps", {"schedule": "cosine"}, '.ddpm(net, schedule="linear", ...)'),
    "times not rescaled": (
        "ddpm rescaled", {"rescale_timesteps": False}, ".ddpm(net, rescale_timesteps=True, ...)",
    ),
    "flow from its other end": ("flow linear 1", {"data_at": 0}, ".flow(net, data_at=1, ...)"),
    "flow from its other end, too": ("flow linear 0", {"data_at": 1}, ".flow(net, data_at=0, ...)"),
    "flow of another path": (
        "flow trigonometric 1", {"path": "linear"}, '.flow(net, path="trigonometric", ...)',
    ),
    "flow of another path and end": (
        "flow trigonometric 0", {"path": "linear", "data_at": 1},
        '.flow(net, data_at=0, path="trigonometric", ...)',
    ),
    "flow in thousandths": (
        "flow in thousandths", {"time_scale": 1.0}, ".flow(net, time_scale=1000.0, ...)",
    ),
    "vp eps as score": ("vp eps", {"predicts": "score"}, '.vp_sde(net, predicts="eps", ...)'),
    "vp score as eps": ("vp score", {"predicts": "eps"}, '.vp_sde(net, predicts="score", ...)'),
    "sub-vp as vp": ("sub-vp eps", {"sub": False}, ".vp_sde(net, sub=True, ...)"),
    "vp as sub-vp": ("vp eps", {"sub": True}, ".vp_sde(net, sub=False, ...)"),
    "ve of 0 to 1 as of -1 to 1": ("ve of 0 to 1", {"unit": False}, ".score(net, unit=True, ...)"),
    "ddpm eps as x0": ("ddpm linear eps", {"predicts": "x0"}, '.ddpm(net, predicts="eps", ...)'),
}  # fmt: skip


def bundled(name):
    """A bundled expert of ends or of centred pixels as what is asked in the tests: eps_hat of any gamma."""
    (leg,) = as_model(md.load_expert(f"bundled:{name}").requires_grad_(False)).legs()
    low, high = leg.expert.gamma_range

    def eps_hat(z, gamma):
        return leg.expert(z.float(), gamma.clamp(low, high)).to(z.dtype)

    data = md.load_data(name.partition("-")[0]).select(limit=4)
    x = torch.as_tensor(pixel_values(data.images, data.levels))
    facts = {"pixels": "centred", "levels": data.levels, "image_shape": x.shape[1:], "name": "net"}
    return eps_hat, (low, high), x, facts


def told(expert, x):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_expert(expert, images=x, takes_products=False)
    return [str(one.message) for one in found if issubclass(one.category, ExpertWarning)]


def common(kind, own):
    """The gammas that both the kind and the expert know."""
    low, high = made(kind).gamma_range
    return max(low, own[0]), min(high, own[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["photos-vdm", "digits-edm"])
def test_no_right_declaration_is_warned_of(name, kind):
    eps_hat, own, x, facts = bundled(name)
    assert told(made(kind, eps_hat, gamma_range=common(kind, own), **facts), x) == []


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", ["photos-vdm", "photos-edm", "digits-edm"])
def test_a_wrong_declaration_is_warned_of_with_the_line_to_write(name, case):
    kind, changed, line = WRONG[case]
    network, facts_of_net, constructor, declared, _ = KINDS[kind]
    eps_hat, own, x, facts = bundled(name)
    words = declared | changed
    asked = getattr(CallableExpert, constructor)(network(eps_hat, **facts_of_net), **words)
    low, high = common(kind, own)
    low, high = max(low, asked.gamma_range[0]), min(high, asked.gamma_range[1])
    wrong = getattr(CallableExpert, constructor)(
        network(eps_hat, **facts_of_net), **words, **facts, gamma_range=(low, high)
    )
    (text,) = (text for text in told(wrong, x) if "does not denoise" in text)
    assert re.search(re.escape(f"write CallableExpert{line}"), text), text
