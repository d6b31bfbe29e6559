"""The variational bound of images under experts, and the loss by gamma that it is made of.

    -log P(v) <= prior + reconstruction + diffusion,
    diffusion = 1/2 (gamma_max - gamma_min) E_t |eps - eps_hat(z_t, gamma(t))|^2

(Kingma et al. 2021, eq. 11-17), the expert in charge of each gamma giving eps_hat. All noise is named by
(seed, image, repeat, time), so a value does not depend on the images beside it.

Names are loaded when they are first used: to read kept records takes no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merged_diffusion.lazy import loader

if TYPE_CHECKING:
    from merged_diffusion.bound.bounds import Bound
    from merged_diffusion.bound.profile import Profile, loss_profile
    from merged_diffusion.bound.variational import variational_bound

__all__ = ["Bound", "Profile", "loss_profile", "variational_bound"]

_HOMES = {
    "Bound": "bounds",
    "Profile": "profile",
    "loss_profile": "profile",
    "variational_bound": "variational",
}

if not TYPE_CHECKING:  # a checker would take every name for an object
    __getattr__ = loader(__name__, _HOMES)
