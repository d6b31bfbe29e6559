"""Exact likelihood of images under experts, by the probability-flow ODE.

    log P(v) >= log p(z_min) + dequantisation,
    log p(z_min) = log N(z_max; 0, sigma^2(gamma_max) I) + integral of tr(d(drift)/dz) dgamma

from data to noise (Song et al. 2021; Zheng et al. 2023). Each draw of each image is a problem of its own,
with its own noise, probe and step size. Terms are in nats, bits/dim at the rim.

Names are loaded when they are first used: to read kept records takes no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merged_diffusion.lazy import loader

if TYPE_CHECKING:
    from merged_diffusion.likelihood.exact import log_density, log_likelihood
    from merged_diffusion.likelihood.likelihoods import Likelihood, paired_difference
    from merged_diffusion.likelihood.together import can_share, log_likelihoods

__all__ = [
    "Likelihood",
    "can_share",
    "log_density",
    "log_likelihood",
    "log_likelihoods",
    "paired_difference",
]

_HOMES = {
    "Likelihood": "likelihoods",
    "can_share": "together",
    "log_density": "exact",
    "log_likelihood": "exact",
    "log_likelihoods": "together",
    "paired_difference": "likelihoods",
}

if not TYPE_CHECKING:  # a checker would take every name for an object
    __getattr__ = loader(__name__, _HOMES)
