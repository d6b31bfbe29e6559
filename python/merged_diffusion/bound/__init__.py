"""The variational bound of images under experts, and the loss by gamma that it is made of.

    -log P(v) <= prior + reconstruction + diffusion,
    diffusion = 1/2 (gamma_max - gamma_min) E_t |eps - eps_hat(z_t, gamma(t))|^2

(Kingma et al. 2021, eq. 11-17), the expert in charge of each gamma giving eps_hat. All noise is named by
(seed, image, repeat, time), so a value does not depend on the images beside it.

Names are loaded when they are first used: to read kept records takes no torch.
"""

from merged_diffusion.lazy import attach

__getattr__, __dir__ = attach(__name__, __file__)
