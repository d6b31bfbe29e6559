"""Exact likelihood of images under experts, by the probability-flow ODE.

    log P(v) >= log p(z_min) + dequantisation,
    log p(z_min) = log N(z_max; 0, sigma^2(gamma_max) I) + integral of tr(d(drift)/dz) dgamma

from data to noise (Song et al. 2021; Zheng et al. 2023). Each draw of each image is a problem of its own,
with its own noise, probe and step size. Terms are in nats, bits/dim at the rim.

Names are loaded when they are first used: to read kept records takes no torch.
"""

from merged_diffusion.lazy import attach

__getattr__, __dir__ = attach(__name__, __file__)
