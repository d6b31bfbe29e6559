"""Ends of gamma that are learned with the network, gamma(t) = b + |w| t (Kingma et al. 2021, section 5.1).

What is minimised is the whole bound, in nats per value,

    prior(gamma(1)) + reconstruction(gamma(0)) + |w|/2 E_t |eps - eps_hat(z, gamma(t))|^2

whose mean depends on the ends alone, not on how gamma gets from one to the other (their eq. 18); so the line
is all that has to be learned, and its two numbers follow the gradient like any weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from merged_diffusion.experts.card import Card
from merged_diffusion.schedules import as_input

ENDS: Final = "ends"  # the module's name in an expert in training
VALUES: Final = 192  # of an image, whose reconstruction is looked at in a step


class LearnedEnds(nn.Module):
    """b and w, the names of addtt's and of Google's files (without Google's axis)."""

    def __init__(self, gamma_range: tuple[float, float]) -> None:
        super().__init__()
        low, high = gamma_range
        self.b = nn.Parameter(torch.tensor(low))
        self.w = nn.Parameter(torch.tensor(high - low))

    def gamma(self, t: Tensor) -> Tensor:
        """gamma(t) [B] at ``t`` [B]."""
        return self.b.double() + self.w.abs().double() * t.double()

    def width(self) -> Tensor:
        """gamma(1) - gamma(0) []."""
        return self.w.abs().double()


def ends_of(b: Tensor, w: Tensor) -> tuple[float, float]:
    """The two gammas that ``b`` and ``w`` stand for."""
    return float(b), float(b) + abs(float(w))


def with_ends(card: Card, weights: Mapping[str, Tensor]) -> tuple[Card, dict[str, Tensor]]:
    """The card with the ends that were learned, if any, and the weights without them."""
    rest = dict(weights)
    b, w = (rest.pop(f"{ENDS}.{key}", None) for key in ("b", "w"))
    if b is None or w is None:
        return card, rest
    training = {"learned_from": list(card.gamma_range)} | dict(card.training or {})
    return replace(card, gamma_range=ends_of(b, w), training=training), rest


def prior_nats(x: Tensor, gamma_max: Tensor) -> Tensor:
    """KL(N(alpha x, sigma^2) || N(0, 1)) per value [B] of ``x`` [B, C, H, W] (Kingma et al. 2021, eq. 14)."""
    shrink = torch.sigmoid(-gamma_max.double())
    square = x.double().square().flatten(1).mean(dim=1)
    return (shrink * square - shrink - torch.log1p(-shrink)) / 2


def reconstruction_nats(x: Tensor, noise: Tensor, gamma_min: Tensor, levels: int, start: Tensor) -> Tensor:
    """-log p(v | z) per value [B] at ``gamma_min`` [] (Kingma et al. 2021, eq. 11 and 13).

    ``x`` [B, C, H, W] are centred pixels, ``noise`` [B, V] is that of V of each image's values, at equal
    distances from ``start`` [B] in [0, 1): an unbiased estimate of the mean over all.
    """
    flat = x.double().flatten(1)
    d, v = flat.shape[1], noise.shape[1]
    places = (start[:, None] * d + torch.arange(v, device=start.device) * (d / v)).long() % d
    values = flat.gather(1, places.to(flat.device))
    seen = values + (gamma_min / 2).exp() * noise.double()
    grid = (2 * torch.arange(levels, dtype=torch.float64, device=flat.device) + 1) / levels - 1
    logits = -0.5 * torch.exp(-gamma_min) * (seen[..., None] - grid) ** 2
    pixels = ((values + 1) * levels / 2 - 0.5).round().long()
    found: Tensor = cross_entropy(logits.flatten(0, 1), pixels.flatten(), reduction="none")
    return found.view(len(x), v).mean(dim=1)


def bound_nats(
    ends: LearnedEnds, errors: Tensor, x: Tensor, noise: Tensor, start: Tensor, levels: int
) -> Tensor:
    """The bound per value [B], from the mean squared errors in eps [B] at ``ends.gamma``."""
    first, last = ends.gamma(torch.arange(2, device=ends.b.device))
    rest = prior_nats(x, last) + reconstruction_nats(x, noise, first, levels, start)
    return as_input(rest, errors) + as_input(ends.width() / 2, errors) * errors
