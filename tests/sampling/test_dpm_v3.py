"""DPM-Solver-v3: one limit and order whatever the statistics, two of them other samplers; and the fit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.errors import DataError, ExpertError, UsageError
from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert
from merged_diffusion.flow_statistics import (
    ModelStatistics,
    Table,
    load_model_statistics,
    model_statistics_npz,
    rounded,
)
from merged_diffusion.merge import MergedModel, Threshold, as_model
from merged_diffusion.sampling import grids
from merged_diffusion.sampling.dpm_v3 import dpm_v3
from merged_diffusion.sampling.multistep import Multistep, exact, multistep
from merged_diffusion.sampling.network import Network

SHAPE = (1, 2, 2)
LOW, HIGH = -6.0, 18.0
GENERATOR = torch.Generator().manual_seed(0)
ROTATION = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=GENERATOR))[0]
COVARIANCE = ROTATION @ torch.diag(torch.tensor([0.05, 0.2, 0.4, 0.9], dtype=torch.float64)) @ ROTATION.T
BASIS = torch.eye(4, dtype=torch.float64).view(4, *SHAPE)


def constant(linear, slope, shift, low=LOW, high=HIGH):
    gamma = np.linspace(low, high, 5)
    return Table(gamma, *(np.full((5, 1, 1, 1), value) for value in (linear, slope, shift)))


def wavy(low=LOW, high=HIGH, shape=SHAPE):
    """Smooth, different for every value, and nothing that a model has."""
    gamma = np.linspace(low, high, 200)
    at = np.arange(math.prod(shape)).reshape(shape)
    wave = np.sin(0.4 * gamma.reshape(-1, 1, 1, 1) + at)
    return Table(gamma, 0.5 + 0.4 * wave, 0.5 * np.cos(wave), 0.3 * wave)


def network():
    return Network(torch.device("cpu"), torch.float64)


def drawn(model, statistics, order, gammas, z=BASIS, **how):
    legs = model.legs(toward="data")
    return dpm_v3(z, legs, network(), grids.by_legs(gammas, legs), statistics, order, **how)


@pytest.mark.parametrize("predicts", ["x0", "eps"])
def test_two_statistics_are_the_multistep_methods_of_x0_and_eps(predicts):
    model = as_model(GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(LOW, HIGH)))
    table = constant(1.0, 0.0, 0.0) if predicts == "x0" else constant(0.0, -1.0, 0.0)
    gammas = grids.uniform(8.0, -6.0, 12)
    model = as_model(GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(LOW, 8.0)))
    legs = model.legs(toward="data")
    found = drawn(model, ModelStatistics({"likelihood": table}), 3, gammas, corrects=False)
    asked = multistep(BASIS, legs, network(), [gammas], Multistep(predicts, 3, exact))
    # Simpson's rule on 65 points of e^(t), t up to 0.6 a step: (0.6/64)^4/180 x 0.6, twelve times.
    assert (found - asked).abs().max() <= 1e-9


@pytest.mark.parametrize(("order", "corrects"), [(2, False), (3, False), (2, True), (3, True)])
def test_order_whatever_the_statistics(order, corrects):
    # From gamma = 18 on, where the first steps, of lower order, are exact to 1e-8 (test_multistep.py).
    expert = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-1.0, HIGH))
    model = as_model(expert)
    exact_end = expert.flow(BASIS, HIGH, -1.0)
    statistics = ModelStatistics({"likelihood": wavy(-1.0)})
    errors = []
    for n in (128, 256):
        found = drawn(model, statistics, order, grids.uniform(HIGH, -1.0, n), corrects=corrects)
        errors.append(float((found - exact_end).abs().max()))
    # Waves of the statistics do not fade at high noise as predictions do, so the first step's error stays:
    # of order 1 without, of order 2 with a correction.
    assert errors[1] < errors[0] / 2 ** (1.7 if not corrects else 2.7)
    assert errors[1] < 1e-2


def test_the_diagonal_gaussian_takes_one_step():
    variance = torch.tensor([0.02, 0.3, 0.9, 2.0], dtype=torch.float64)
    expert = GaussianExpert(SHAPE, covariance=torch.diag(variance), gamma_range=(-6.0, 6.0))
    images = torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    statistics = md.fit_model_statistics(expert, images.numpy())
    model = as_model(expert)
    end = expert.flow(BASIS, 6.0, -6.0)
    found = drawn(model, statistics, 2, grids.uniform(6.0, -6.0, 1))
    plain = drawn(
        model, ModelStatistics({"likelihood": constant(1.0, 0.0, 0.0)}), 2, grids.uniform(6.0, -6.0, 1)
    )
    # What is left is the spline of l through gammas 0.25 apart, and differences over 0.02.
    assert (found - end).abs().max() < 2e-3 < (plain - end).abs().max() / 100


def test_the_fit_finds_what_a_dense_gaussian_has():
    expert = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-4.0, 4.0))
    images = gaussian_images(512)
    found = md.fit_model_statistics(expert, images, spacing=0.25).tables["likelihood"]
    assert found.linear.shape == (33, *SHAPE)
    x = np.cov((images.reshape(512, 4) + 0.5) / 128 - 1, rowvar=False)
    linear = CubicSpline(found.gamma, found.linear.reshape(33, 4))
    eye, covariance = np.eye(4), COVARIANCE.numpy()

    def of_z(gamma):
        """A with sigma eps_hat = A z."""
        alpha, sigma = _core.alpha(gamma), _core.sigma(gamma)
        return sigma**2 * np.linalg.inv(alpha**2 * covariance + sigma**2 * eye)

    def of_f(gamma):
        return (of_z(gamma) - np.diag(linear(gamma))) / _core.alpha(gamma)

    for number in (6, 16, 24):
        gamma, h = float(found.gamma[number]), 1e-4
        # The signs leave of the parts off the diagonal, at most 0.5 here, 0.5/sqrt(512) on average.
        assert np.abs(found.linear[number].ravel() - np.diag(of_z(gamma))).max() < 0.09
        drift = _core.sigma(gamma) ** 2 * eye - of_z(gamma)  # dz/dlambda, and gamma = -2 lambda
        ahead, behind = (of_f(gamma - 2 * t) @ (eye + t * drift) for t in (h, -h))
        slope, f = (ahead - behind) / (2 * h), of_f(gamma)
        law = _core.alpha(gamma) ** 2 * x + _core.sigma(gamma) ** 2 * eye
        asked = np.diag(f @ law @ slope.T) / np.diag(f @ law @ f.T)
        left = np.diag(slope @ law @ slope.T) / np.diag(f @ law @ f.T) - asked**2
        # Of a regression on 512 images: the spread that it leaves, over sqrt(512), four times.
        assert (np.abs(found.slope[number].ravel() - asked) < 4 * np.sqrt(left / 512) + 0.05).all()


def gaussian_images(n):
    root = torch.linalg.cholesky(COVARIANCE * 0.1)
    x = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) @ root.T
    return (x.clamp(-0.99, 0.99) * 128 + 128).to(torch.uint8).view(n, *SHAPE).numpy()


def test_on_digits_few_steps_gain():
    model = md.load_pair("digits")
    images = md.load_data("digits", "train").select(limit=32)
    statistics = md.fit_model_statistics(model, images, spacing=0.5)

    def latents(sampler):
        return md.draw(model, range(16), sampler=sampler, latents=True).latents

    fine = latents(md.UniPC(80))
    own, plain = (
        np.square(latents(sampler) - fine).mean()
        for sampler in (
            md.DpmV3(steps=5, sigmas="quadratic", statistics=statistics),
            md.Dpmpp2m(steps=5, sigmas="quadratic"),
        )
    )
    assert own < 0.8 * plain


def test_two_legs_and_a_file(tmp_path):
    low = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-6.0, 3.0))
    high = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-4.0, 6.0))
    model = MergedModel(low, high, Threshold.gamma(-1.0))
    statistics = md.fit_model_statistics(model, gaussian_images(8), spacing=1.0)
    assert {role: (t.gamma[0], t.gamma[-1]) for role, t in statistics.tables.items()} == {
        "likelihood": (-6.0, 3.0), "quality": (-4.0, 6.0)}  # fmt: skip
    path = tmp_path / "statistics.npz"
    path.write_bytes(model_statistics_npz(statistics))
    again = load_model_statistics(path)
    assert again.sha256 == statistics.sha256
    for role, table in statistics.tables.items():
        assert np.array_equal(table.slope, rounded(table).slope)
        assert np.array_equal(again.tables[role].linear, table.linear)
    sampler = md.DpmV3(steps=6, statistics=path)
    assert md.draw(model, range(2), sampler=sampler).images.shape == (2, *SHAPE)
    # At any threshold that both experts allow.
    md.draw(MergedModel(low, high, Threshold.gamma(2.0)), range(1), sampler=sampler)


def test_what_does_not_belong_together_is_refused(tmp_path):
    expert = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-6.0, 6.0))
    with pytest.raises(UsageError, match="wants statistics"):
        md.DpmV3()
    with pytest.raises(UsageError, match=r"likelihood expert goes from gamma 6 to -6.*known from -4 to 4"):
        md.draw(expert, [0], sampler=md.DpmV3(statistics=ModelStatistics({"likelihood": wavy(-4.0, 4.0)})))
    other = ModelStatistics({"likelihood": wavy(shape=(1, 3, 3))})
    with pytest.raises(UsageError, match=r"images \[1, 3, 3\]"):
        md.draw(expert, [0], sampler=md.DpmV3(statistics=other))
    with pytest.raises(UsageError, match="statistics are of quality"):
        md.draw(expert, [0], sampler=md.DpmV3(statistics=ModelStatistics({"quality": wavy()})))
    two = GaussianExpert(SHAPE, covariance=COVARIANCE, gamma_range=(-4.0, 8.0))
    gated = MergedModel(expert, two, gate=md.Gate(-3.0, 3.0))
    both = ModelStatistics({"likelihood": wavy(), "quality": wavy()})
    with pytest.raises(UsageError, match="not under a gate"):
        md.draw(gated, [0], sampler=md.DpmV3(statistics=both))
    with pytest.raises(UsageError, match="not of a gate"):
        md.fit_model_statistics(gated, gaussian_images(8))
    with pytest.raises(UsageError, match="3 images"):
        md.fit_model_statistics(expert, gaussian_images(3))
    with pytest.raises(ExpertError, match="another likelihood expert"):
        replace(both, experts={"likelihood": "a" * 64}).check_experts({"likelihood": "b" * 64})
    path = tmp_path / "not.npz"
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match="holds no statistics"):
        md.DpmV3(statistics=path)
    with pytest.raises(UsageError, match="do not rise"):
        Table(np.zeros(5), *(np.zeros((5, 1, 1, 1)) for _ in range(3)))
    with pytest.raises(UsageError, match="not finite"):
        Table(np.arange(5.0), *(np.full((5, 1, 1, 1), np.nan) for _ in range(3)))


def test_a_table_for_each_channel_where_values_are_alike():
    # A mixture whose components are alike in all values: l is one number, and few images tell it better so.
    means = torch.tensor([-0.5, 0.5], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 1, 4, 4).contiguous()
    expert = GaussianMixtureExpert(means, variance=0.05, gamma_range=(-4.0, 4.0))
    rng = np.random.default_rng(0)
    images = (128 + 64 * rng.choice([-1, 1], (16, 1, 1, 1)) + 20 * rng.standard_normal((16, 1, 4, 4))).clip(
        0, 255
    )
    found = md.fit_model_statistics(expert, images.astype(np.uint8), spacing=1.0).tables["likelihood"]
    assert found.linear.shape[1:] == (1, 1, 1)
    assert found.slope.shape[1:] == (1, 1, 1)
