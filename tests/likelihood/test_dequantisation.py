"""The dequantisation term of a draw: which kinds take the mean of -log q, and what that leaves of noise."""

import math

import numpy as np
import pytest

from merged_diffusion import _core
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.ode.items import Items

LEVELS, DIM, DRAWS = 256, 12, 200
GAMMA = 2 * math.log(4 * 2 / LEVELS)  # noise of 4 levels


def terms(kind, importance=1):
    """Dequantisation terms [DRAWS] in nats of an image in the middle of the levels, and its z and pixels."""
    pixels = np.arange(122, 134, dtype=np.uint8).reshape(1, 3, 2, 2)
    items = Items(np.array([7], dtype=np.uint64), DRAWS, 0, None, importance)
    starts = Dequantisation(kind, pixels, levels=LEVELS, gamma_min=GAMMA, items=items, importance=importance)
    z = np.array([starts.start(key) for key in range(DRAWS)])
    return np.array([starts.nats(key) for key in range(DRAWS)]), z, np.tile(pixels.reshape(1, -1), (DRAWS, 1))


def test_a_draw_of_the_decoder_costs_what_a_uniform_one_does():
    """With noise of 4 levels, and the ends 30 standard deviations away, the softmax is a theta function.

    Its ripple is 2 exp(-2 pi^2 4^2), so log P(v | z) - log q(z | v) = d log(2 alpha/L) for every draw; by the
    mean of -log q it would be |eps|^2/2 off, of standard deviation sqrt(d/2).
    """
    found, _, _ = terms("decoder")
    np.testing.assert_allclose(found, DIM * math.log(2 * _core.alpha(GAMMA) / LEVELS), rtol=1e-10)


@pytest.mark.parametrize("importance", [1, 4])
def test_the_decoder_takes_each_draws_own_density(importance):
    found, z, pixels = terms("decoder", importance)
    centres = 2 * (pixels + 0.5) / LEVELS - 1
    eps = (z - _core.alpha(GAMMA) * centres) / _core.sigma(GAMMA)
    log_q = -(eps**2).sum(1) / 2 - DIM * math.log(2 * math.pi * _core.sigma(GAMMA) ** 2) / 2
    decoded = _core.decoder_log_likelihood(z, pixels, GAMMA, LEVELS)
    np.testing.assert_allclose(found, decoded - log_q, rtol=1e-10)
    # The same mean as by the constant, and 200 draws tell it within five standard errors of |eps|^2/2.
    constant = decoded + _core.dequantisation_constant("decoder", GAMMA, LEVELS, DIM)
    assert abs(constant.mean() - found.mean()) < 5 * math.sqrt(DIM / 2 / DRAWS)


@pytest.mark.filterwarnings("ignore:at gamma_min")
@pytest.mark.parametrize("kind", ["truncated-normal", "uniform"])
def test_the_other_kinds_take_the_mean(kind):
    found, _, _ = terms(kind)
    assert (found == _core.dequantisation_constant(kind, GAMMA, LEVELS, DIM)).all()
