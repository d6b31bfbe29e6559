"""The clock for tensors is the core's clock."""

import numpy as np
import pytest
import torch

from merged_diffusion import _core, schedules

CLOCK = np.linspace(-60, 60, 2401)


@pytest.mark.parametrize("name", ["alpha", "sigma", "edm_sigma"])
def test_device_twin_agrees_with_the_core(name: str) -> None:
    twin = getattr(schedules, name)(torch.from_numpy(CLOCK)).numpy()
    np.testing.assert_allclose(twin, getattr(_core, name)(CLOCK), rtol=1e-15)


@pytest.mark.parametrize("name", ["alpha", "sigma", "edm_sigma"])
def test_clock_is_float64_whatever_it_is_given(name: str) -> None:
    gamma = torch.tensor([-13.3, 5.0], dtype=torch.float32)
    assert getattr(schedules, name)(gamma).dtype == torch.float64


@pytest.mark.parametrize(
    ("device", "home"), [("cpu", "cpu"), ("mps", "cpu"), ("cuda:1", "cuda:1"), ("meta", "meta")]
)
def test_float64_lives_on_the_device_unless_it_has_none(device: str, home: str) -> None:
    assert schedules.home(torch.device(device)) == torch.device(home)


def test_widened_is_float64_where_it_was() -> None:
    z = torch.tensor([0.1], dtype=torch.float32)
    assert schedules.widened(z).dtype == torch.float64
    assert float(schedules.widened(z)) == float(z)


def test_per_image_lines_up_with_the_images() -> None:
    z = torch.zeros(2, 3, 4, 5)
    values = schedules.per_image(torch.tensor([1.0, 2.0], dtype=torch.float64), z)
    assert values.shape == (2, 1, 1, 1)
    assert values.dtype == z.dtype
    elsewhere = schedules.per_image(torch.tensor([1.0, 2.0], dtype=torch.float64), z.to("meta"))
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", z.dtype)
