"""`log_density` takes points in the coordinates that the network takes: the closed form of each kind."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import merged_diffusion as md
from merged_diffusion import schedules

SHAPE = (1, 2, 3)
VARIANCES = torch.tensor([0.3, 0.2, 0.1, 0.05, 0.02, 0.01], dtype=torch.float64)
C = 256 / 255
LOW, HIGH = -10.0, 14.0
# The flow is followed to a prior of variance 1, not alpha^2 v + sigma^2: 6 dimensions off by alpha^2 = 1e-6
# at most; Dopri5 at 1e-9, six dimensions and some hundred steps: below 1e-6. What a wrong space would do is
# 6 log C = 0.02 nats.
NEAR = 1e-4
ASKED = {
    "probes": md.Probes(kind="exact"),
    "solver": md.Dopri5(rtol=1e-9, atol=1e-9),
    "machine": md.Machine(dtype="float64"),
}
X = np.random.RandomState(0).normal(size=(3, *SHAPE)) * VARIANCES.sqrt().view(SHAPE).numpy()


def exact(x: np.ndarray, variances: Tensor, gamma: float) -> np.ndarray:
    """log N(alpha x; 0, alpha^2 v + sigma^2), nats."""
    at = torch.tensor(gamma, dtype=torch.float64)
    alpha, sigma = schedules.alpha(at), schedules.sigma(at)
    v = alpha**2 * variances + sigma**2
    z = alpha * torch.from_numpy(x).flatten(1)
    return (-0.5 * (z**2 / v + torch.log(2 * math.pi * v)).sum(1)).numpy()


class Noise(torch.nn.Module):
    """eps_hat of N(0, VARIANCES) at gamma."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.variances = VARIANCES / scale**2

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        alpha, sigma = (f(gamma.double()).view(-1, 1, 1, 1) for f in (schedules.alpha, schedules.sigma))
        return (sigma * z / (alpha**2 * self.variances.view(SHAPE) + sigma**2)).to(z.dtype)


class Velocity(torch.nn.Module):
    """eps - x of x_t = (1 - t) x + t eps."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t, v = t.double().view(-1, 1, 1, 1), VARIANCES.view(SHAPE)
        return (x * (t - (1 - t) * v) / ((1 - t) ** 2 * v + t**2)).to(x.dtype)


def noise(
    name: str, low: float, high: float, *, pixels: str = "ends", scale: float = 1.0
) -> md.CallableExpert:
    return md.CallableExpert(
        Noise(scale).eval(), predicts="eps", time="gamma", input="vp", pixels=pixels, levels=256,
        gamma_range=(low, high), image_shape=SHAPE, name=name,
    )  # fmt: skip


def test_of_a_flow_whose_pixels_are_ends() -> None:
    expert = md.CallableExpert.flow(
        Velocity().eval(), data_at=0, image_shape=SHAPE, gamma_range=(LOW, HIGH), name="flow"
    )
    assert expert.pixels == "ends"
    np.testing.assert_allclose(md.log_density(expert, X, **ASKED), exact(X, VARIANCES, LOW), atol=NEAR)


@pytest.mark.parametrize("pixels", ["ends", "centred"])
def test_of_experts_that_agree(pixels: str) -> None:
    model = md.MergedModel(
        noise("first", LOW, HIGH, pixels=pixels),
        noise("second", LOW, HIGH, pixels=pixels),
        md.Threshold.gamma(-3.0),
    )
    np.testing.assert_allclose(md.log_density(model, X, **ASKED), exact(X, VARIANCES, LOW), atol=NEAR)


def test_of_experts_under_a_gate() -> None:
    model = md.MergedModel(
        noise("first", LOW, HIGH), noise("second", LOW, HIGH), gate=md.Gate(-4.0, 0.0, (0.5, 0.5))
    )
    np.testing.assert_allclose(md.log_density(model, X, **ASKED), exact(X, VARIANCES, LOW), atol=NEAR)


def test_of_experts_that_differ_points_are_centred() -> None:
    # The same images: x = y / C, of variance v / C^2.
    model = md.MergedModel(
        noise("first", LOW, HIGH),
        noise("second", LOW, HIGH, pixels="centred", scale=C),
        md.Threshold.gamma(-3.0),
    )
    found = md.log_density(model, X / C, **ASKED)
    np.testing.assert_allclose(found, exact(X / C, VARIANCES / C**2, LOW), atol=NEAR)
    assert model.in_own_pixels() is model
