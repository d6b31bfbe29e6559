"""Equation 9: every loss of a denoiser is the eps loss with a weight, by name.

    L_w = 1/2 integral of w(gamma) E |eps - eps_hat(z, gamma)|^2 dgamma
        = 1/2 E_{gamma ~ p} [ w(gamma)/p(gamma) |eps - eps_hat|^2 ]

(Kingma and Gao 2023, section 2; the paper's eq. 9). w alone says what is minimised; p says where it is looked
at, and changes the noise of the gradient but not its mean. Each name has the weight and the law with which
it was published. ``share`` is w/p under that law, up to a constant factor:

    name      published as                                    share of the eps loss         law
    uniform   the bound itself, its diffusion term            1                             uniform
    edm       (s^2 + s_d^2)/(s s_d)^2 |x - D|^2, or |F|       (s^2 + s_d^2)/s_d^2           normal
    simple    |eps - eps_hat|^2                               1                             cosine
    sigmoid   sigmoid(b + gamma) in the place of 1            sigmoid(gamma + b)            uniform
    p2        |eps - eps_hat|^2/(1 + SNR)^k                   (1 + e^-gamma)^-k             cosine
    min-snr   min(SNR, m) |x - x_hat|^2                       min(1, m e^gamma)             cosine
    flow      |u - u_hat|^2, u = eps - x                      (1 + s)^2                     flow

s = sigma/alpha = exp(gamma/2), SNR = exp(-gamma). Sources: uniform Kingma et al. 2021, eq. 15; edm Karras et
al. 2022, eq. 8 and table 1; simple Ho et al. 2020, eq. 14; sigmoid Kingma and Gao 2023, and Hoogeboom et al.
2024; p2 Choi et al. 2022; min-snr Hang et al. 2023; flow Lipman et al. 2023, eq. 9. That simple, p2 and
min-snr are of the cosine law: Kingma and Gao 2023, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion.schedules import edm_sigma
from merged_diffusion.training.gamma_laws import Cosine, FlowTimes, Law, Normal, Uniform

Share = Callable[[Tensor], Tensor]
NAMES: Final = ("uniform", "edm", "simple", "sigmoid", "p2", "min-snr", "flow")


@dataclass(frozen=True)
class Numbers:
    """What the weights depend on: a card's numbers, with their published values."""

    data_std: float = 0.5  # s_d (Karras et al. 2022, table 1)
    p_mean: float = -1.2  # of ln s
    p_std: float = 1.2
    p_uniform: float = 0.0
    sigmoid_bias: float = 2.0  # b (Kingma and Gao 2023)
    p2_power: float = 1.0  # k (Choi et al. 2022)
    snr_cap: float = 5.0  # m (Hang et al. 2023)


@dataclass(frozen=True)
class LossWeight:
    """A named weight: ``law`` is its source's, ``share`` what the eps loss is multiplied by under that."""

    name: str
    law: Law
    share: Share

    def weight(self, gamma: Tensor) -> Tensor:
        """w(gamma) [B] of equation 9, up to a factor: share times density, whatever law is drawn from."""
        return self.share(gamma) * self.law.density(gamma)

    def under(self, law: Law, gamma: Tensor) -> Tensor:
        """What the eps loss at ``gamma`` [B], drawn from ``law``, is multiplied by [B]."""
        if law is self.law:
            return self.share(gamma)
        return self.weight(gamma) / law.density(gamma)


def named(name: str, gamma_range: tuple[float, float], numbers: Numbers = Numbers()) -> LossWeight:
    """The weight ``name``, of `NAMES`, over an expert's range of gamma.

    EDM's normal law goes beyond the range, as published; all others stay within.

    Examples
    --------
    >>> import torch
    >>> named("min-snr", (-13.3, 5.0)).share(torch.tensor([-4.0, 0.0]).double())
    tensor([0.0916, 1.0000], dtype=torch.float64)
    """
    normal = Normal(gamma_range, numbers.p_mean, numbers.p_std, numbers.p_uniform)
    cosine = Cosine(gamma_range)
    laws_and_shares: Mapping[str, tuple[Law, Share]] = {
        "uniform": (Uniform(gamma_range), _one),
        "edm": (normal, lambda gamma: 1 + (edm_sigma(gamma) / numbers.data_std) ** 2),
        "simple": (cosine, _one),
        "sigmoid": (Uniform(gamma_range), lambda gamma: torch.sigmoid(gamma.double() + numbers.sigmoid_bias)),
        # (1 + SNR)^-k = sigmoid(gamma)^k
        "p2": (cosine, lambda gamma: torch.sigmoid(gamma.double()) ** numbers.p2_power),
        "min-snr": (cosine, lambda gamma: (numbers.snr_cap * gamma.double().exp()).clamp(max=1)),
        "flow": (FlowTimes(gamma_range), lambda gamma: (1 + edm_sigma(gamma)) ** 2),
    }
    return LossWeight(name, *laws_and_shares[name])


def _one(gamma: Tensor) -> Tensor:
    return torch.ones_like(gamma.double())
