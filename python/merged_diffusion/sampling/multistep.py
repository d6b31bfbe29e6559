"""Multistep samplers: a step is a weighted mean of the predictions of the last nodes, one evaluation a step.

With lambda = log(alpha/sigma) = -gamma/2, h = lambda_s - lambda_t, and x_hat = (z - sigma eps_hat)/alpha, the
flow is linear but for the prediction (Lu et al. 2022, proposition 4.1; Zhang and Chen 2023, ingredient 1):

    x0     z_s = (sigma_s/sigma_t) z_t + alpha_s int e^(lambda - lambda_s) x_hat dlambda
    eps    z_s = (alpha_s/alpha_t) z_t - sigma_s int e^(lambda_s - lambda) eps_hat dlambda

The integral of the exponential alone is -expm1(-h) or expm1(h). So a step is a gain, a scale and a mean,

    z_s = A z_t - G sum_j c_j p_j,    x0: A = sigma_s/sigma_t, G = alpha_s expm1(-h),
                                      eps: A = alpha_s/alpha_t, G = sigma_s expm1(h),

of the predictions p_j at lambda_j. The c_j are set by their moments at r_j = (lambda_j - lambda_t)/h: with K
nodes, sum_j c_j r_j^k = m_k for k < K, m_0 = 1. A polynomial prediction is integrated exactly where

    m_k = k! phi_(k+1)(c)/phi_1(c),   c = -h for x0, h for eps

(phi_k: Hochbruck and Ostermann 2010, eq. 2.10).

    dpmpp-2m   x0, 2 nodes, m_1 = 1/2 (Lu et al. 2022, algorithm 2)
    dpmpp-3m   x0, 3 nodes, exact. Differs from the authors' code, as diffusers has it: its m_2 is half of
               this, because it multiplies a second divided difference by what belongs to a second derivative,
               and its order is 2.
    unipc      x0, K nodes, exact, or m_1 = 1/2 where there are two (UniP of B_2(h); Zhao et al. 2023), and
               the state so predicted is corrected by the prediction at its own node, which the next step
               needs anyway: K + 1 nodes, r = 1 among them, exact, or m_1 = 1/2 for two (UniC; theorem 3.1).
               What they call order K has order K + 1, but for its first steps.
    deis       eps, K nodes, exact: polynomials in log(sigma/alpha) (Zhang and Chen 2023, ingredient 3)
    ipndm      eps, 4 nodes, c those of Adams and Bashforth for equal distances in sigma/alpha, whatever they
               are (Liu et al. 2022, with fewer nodes in the first steps: Zhang and Chen 2023): order 4 on a
               grid that is equal in sigma/alpha, 2 elsewhere.

The first steps of each leg have fewer nodes, but behind a soft joint: a history that is carried across a
switch of experts is worse (docs/design.md). Before a switch a leg's last state is not corrected, which would
take one more evaluation of its expert.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.merge import Leg
from merged_diffusion.samplers import Deis, Dpmpp2m, Dpmpp3m, Ipndm, OnGrid, UniPC
from merged_diffusion.sampling.grids import Gammas
from merged_diffusion.sampling.network import Noises

Weights = list[float]
"""Of a mean, which sum to 1: the newest node's first."""
Rule = Callable[[float, Sequence[float]], Weights]
"""From h with the sign of c, and the lengths of the steps: this one, the one before it, ..., one a node."""


@dataclass(frozen=True)
class Multistep:
    """What is predicted, from how many nodes, by which weights; ``corrects`` is UniC, by one node more."""

    predicts: Literal["x0", "eps"]
    nodes: int
    weights: Rule
    corrects: bool = False


@dataclass(frozen=True)
class Node:
    """Where a prediction [B, C, H, W] was made."""

    gamma: float
    prediction: Tensor


def method_of(sampler: OnGrid) -> Multistep:
    """The method of a sampler that has a history."""
    match sampler:
        case Dpmpp2m():
            return Multistep("x0", 2, middle)
        case Dpmpp3m():
            return Multistep("x0", 3, middle)
        case UniPC(order=order):
            return Multistep("x0", order, middle, corrects=True)
        case Deis(order=order):
            return Multistep("eps", order, exact)
        case Ipndm():
            return Multistep("eps", len(BASHFORTH), bashforth)
    raise TypeError(f"{sampler.name} has no history")


def multistep(
    z: Tensor, legs: Sequence[Leg], network: Noises, grid: Sequence[Gammas], method: Multistep
) -> Tensor:
    """z_min [B, C, H, W] of z [B, C, H, W] at the first leg's start, along ``legs`` and their gammas."""
    before = z
    history: list[Node] = []
    for leg, gammas in zip(legs, grid, strict=True):
        for gamma_t, gamma_s in pairwise(gammas.tolist()):
            eps_hat = network(leg, z, gamma_t)
            predicted = eps_hat
            if method.predicts == "x0":
                predicted = (z - _core.sigma(gamma_t) * eps_hat) / _core.alpha(gamma_t)
            here = Node(gamma_t, predicted)
            if method.corrects and history:
                z = _step(before, history[0].gamma, gamma_t, [here, *history], method)
            history = [here, *history][: method.nodes]
            before, z = z, _step(z, gamma_t, gamma_s, history, method)
        if not leg.soft:
            history = []
    return z


def _step(z: Tensor, gamma_t: float, gamma_s: float, nodes: Sequence[Node], method: Multistep) -> Tensor:
    """From gamma_t to gamma_s; where the first node is at gamma_s itself, it corrects."""
    h = (gamma_t - gamma_s) / 2
    if method.predicts == "x0":
        c, gain, scale = -h, _core.sigma(gamma_s) / _core.sigma(gamma_t), _core.alpha(gamma_s)
    else:
        c, gain, scale = h, _core.alpha(gamma_s) / _core.alpha(gamma_t), _core.sigma(gamma_s)
    lengths = [(a.gamma - b.gamma) / 2 for b, a in pairwise(nodes)]
    weights = _corrector(c, lengths) if nodes[0].gamma == gamma_s else method.weights(c, [h, *lengths])
    mean = weights[0] * nodes[0].prediction
    for weight, node in zip(weights[1:], nodes[1:], strict=True):
        mean = mean + weight * node.prediction
    return gain * z - scale * math.expm1(c) * mean


def exact(c: float, lengths: Sequence[float]) -> Weights:
    """Of the polynomial through all nodes."""
    back = -np.cumsum([0.0, *lengths[1:]]) / lengths[0]
    return _weights(back, exact_moments(c, len(lengths)))


def middle(c: float, lengths: Sequence[float]) -> Weights:
    """`exact`, but from two nodes the value in the middle of the step, on the line through both."""
    if len(lengths) != 2:
        return exact(c, lengths)
    weight = lengths[0] / (2 * lengths[1])
    return [1 + weight, -weight]


BASHFORTH: Final = (
    [1.0],
    [3 / 2, -1 / 2],
    [23 / 12, -16 / 12, 5 / 12],
    [55 / 24, -59 / 24, 37 / 24, -9 / 24],
)


def bashforth(c: float, lengths: Sequence[float]) -> Weights:  # noqa: ARG001
    """Of equal distances, whatever they are (Hairer et al. 1993, III.1, table 1.1)."""
    return BASHFORTH[len(lengths) - 1]


def _corrector(c: float, lengths: Sequence[float]) -> Weights:
    """From the prediction at the end of a step of length ``lengths[0]`` and those from its start back."""
    if len(lengths) == 1:
        return [0.5, 0.5]
    back = -np.cumsum([-lengths[0], *lengths]) / lengths[0]
    return _weights(back, exact_moments(c, len(back)))


def _weights(ratios: Gammas, moments: Gammas) -> Weights:
    """With those moments [K] at nodes [K] in units of the step, from its start."""
    found: Weights = np.linalg.solve(np.vander(ratios, increasing=True).T, moments).tolist()
    return found


def exact_moments(c: float, count: int) -> Gammas:
    """m_k = k! phi_(k+1)(c)/phi_1(c) [count]: the means of r^k under the weight e^(c (1 - r)) on [0, 1]."""
    phi = [_phi(k, c) for k in range(1, count + 1)]
    return np.array([math.factorial(k) * value / phi[0] for k, value in enumerate(phi)])


def _phi(k: int, c: float) -> float:
    """phi_k(c) = sum_n c^n/(n + k)!, k >= 1; from phi_(k+1) = (phi_k - 1/k!)/c where nothing cancels."""
    if abs(c) < 2:  # the terms left out: 2^30/31!, 1e-25
        return math.fsum(c**n / math.factorial(n + k) for n in range(30))
    value = math.expm1(c) / c
    for number in range(1, k):
        value = (value - 1 / math.factorial(number)) / c
    return value
