"""Experts of ends pixels, seen from centred space: y = c x, so variance c^2 s^2 there is s^2 here."""

import pytest
import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.gaussian import GaussianExpert


@pytest.mark.parametrize("levels", [4, 17, 256])
@pytest.mark.parametrize("gamma", [-12.43, -4.0, 8.764])
def test_exact_convention_turns_an_expert_of_ends_into_one_of_centred_pixels(
    levels: int, gamma: float
) -> None:
    c = levels / (levels - 1)
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.1]], dtype=torch.float64)
    ends = GaussianExpert((1, 1, 2), covariance=c**2 * covariance, mean=0.1 * c, pixels="ends", levels=levels)
    centred = GaussianExpert((1, 1, 2), covariance=covariance, mean=0.1, levels=levels)
    z, at = (
        torch.linspace(-2, 3, 10, dtype=torch.float64).view(5, 1, 1, 2),
        torch.full((5,), gamma, dtype=torch.float64),
    )
    view = Centred(ends)
    torch.testing.assert_close(view(z, at), centred(z, at), rtol=1e-12, atol=1e-13)


def test_exact_convention_is_the_denoiser_of_the_papers_section() -> None:
    """x_hat = (255/256) D((256/255) z/alpha; (256/255) sigma_edm), D exact for variance 0.25."""
    ends = GaussianExpert((1, 1, 1), variance=0.25, pixels="ends")
    z, gamma = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1), torch.full((9,), -3.0).double()
    alpha, sigma, s = (float(f(gamma[:1])) for f in (schedules.alpha, schedules.sigma, schedules.edm_sigma))
    c = 256 / 255
    x_hat = (1 / c) * (c * z / alpha) * 0.25 / (0.25 + (c * s) ** 2)
    found = Centred(ends)(z, gamma)
    torch.testing.assert_close(found, (z - alpha * x_hat) / sigma, rtol=1e-12, atol=1e-12)


def test_a_centred_view_is_an_expert_with_the_facts_of_its_own() -> None:
    ends = GaussianExpert(
        (1, 2, 2), variance=0.3, pixels="ends", levels=17, gamma_range=(-7.0, 8.0), name="g"
    )
    view = Centred(ends)
    assert isinstance(view, Expert)
    facts = ("name", "gamma_range", "levels", "image_shape", "conditional")
    assert all(getattr(view, fact) == getattr(ends, fact) for fact in facts)
    assert view.pixels == "centred"
    assert "17/16" in repr(view)


def test_a_centred_view_keeps_the_dtype_and_passes_labels_on() -> None:
    seen = []

    class Recording(GaussianExpert):
        def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
            seen.append((z.dtype, gamma.dtype, cond))
            return z.clone()

    labels = torch.tensor([1, 2])
    view = Centred(Recording((3, 4, 4), variance=1.0, pixels="ends"))
    out = view(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.float64), labels)
    assert out.dtype == torch.float32
    assert seen == [(torch.float32, torch.float64, labels)]
