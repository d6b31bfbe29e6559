"""Any callable as an expert: the likelihood of eight photo patches under networks of one's own.

Here the two "networks" are posterior means in closed form, so that the script needs no weights: one predicts
noise from (z, gamma) as VDM does, one denoises z/alpha at a noise level as EDM does. Run it with

    python examples/callable_expert.py
"""

import torch
from torch import Tensor

import merged_diffusion as md

SHAPE = (3, 8, 8)


def noise_of_a_narrow_gaussian(z: Tensor, gamma: Tensor) -> Tensor:
    """eps_hat of x ~ N(0, 0.3): sigma z / (alpha^2 0.3 + sigma^2)."""
    variance = torch.sigmoid(gamma).view(-1, 1, 1, 1)
    return variance.sqrt() * z / ((1 - variance) * 0.3 + variance)


def denoiser_of_a_wide_gaussian(y: Tensor, level: Tensor) -> Tensor:
    """E[x | y] of x ~ N(0, 0.5), y = x + level * eps."""
    return y * 0.5 / (0.5 + level.view(-1, 1, 1, 1) ** 2)


likelihood = md.CallableExpert(
    noise_of_a_narrow_gaussian,
    predicts="eps",
    time="gamma",
    input="vp",
    pixels="centred",
    levels=256,
    gamma_range=(-13.3, 5.0),
    image_shape=SHAPE,
)
quality = md.CallableExpert(
    denoiser_of_a_wide_gaussian,
    predicts="x0",
    time="edm_sigma",
    input="edm",
    pixels="ends",
    levels=256,
    gamma_range=(-12.43, 8.764),
    image_shape=SHAPE,
)

model = md.MergedModel(likelihood, quality, md.Threshold.eta(0.3))
print(model)
print(md.log_likelihood(model, md.load_data("photos", split="test").select(limit=8)))
