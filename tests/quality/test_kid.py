"""The kernel distance is unbiased, and the plain double sum."""

import numpy as np
import pytest

from merged_diffusion.errors import UsageError
from merged_diffusion.quality import Kernel
from merged_diffusion.quality.kid import BLOCK


def kid(features, reference):
    """The distance of ``features`` [N, D] from ``reference`` [R, D], of which the first 10,000 count."""
    kernel = Kernel(reference)
    kernel.add(features, np.arange(len(features)))
    return kernel.result()


def naive(x: np.ndarray, y: np.ndarray) -> float:
    """By the definition, over pairs."""

    def k(a, b):
        return (np.dot(a, b) / len(a) + 1) ** 3

    same_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    same_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return same_x + same_y - 2 * np.mean([k(a, b) for a in x for b in y])


def test_it_is_the_mean_over_pairs():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((12, 5)), random.standard_normal((17, 5)) + 0.3
    found = kid(x, y)
    assert found.value == pytest.approx(naive(x, y), rel=1e-12)
    assert (found.n, found.n_reference, found.se) == (12, 17, None)


def test_it_agrees_with_torch_fidelity():
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    random = np.random.default_rng(1)
    x, y = random.standard_normal((200, 32)), random.standard_normal((200, 32)) * 1.2
    kernels = [
        metric.kernel_poly(
            a, b, kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1
        )
        for a, b in ((x, x), (x, y), (y, y))
    ]
    assert kid(x, y).value == pytest.approx(metric.mmd2(*kernels), rel=1e-10)


def test_it_is_unbiased_on_equal_laws():
    random = np.random.default_rng(2)
    values = [
        kid(random.standard_normal((20, 8)), random.standard_normal((30, 8))).value for _ in range(2000)
    ]
    # The biased estimate would lie 0.4 standard deviations, 18 standard errors of this mean, above zero.
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_streamed_blocks_are_the_same_bits_whatever_the_batches():
    random = np.random.default_rng(3)
    x, y = random.standard_normal((2 * BLOCK + 300, 4)), random.standard_normal((500, 4))
    ids, results = np.arange(len(x)), []
    for size in (len(x), 64, 999):
        kernel = Kernel(y)
        for start in range(0, len(x), size):
            kernel.add(x[start : start + size], ids[start : start + size])
        results.append(kernel.result())
    assert results[0] == results[1] == results[2]
    assert results[0].n == len(x)


def test_standard_error_is_the_spread_of_repeated_draws():
    random = np.random.default_rng(4)
    y = random.standard_normal((400, 3))
    results = [kid(1.2 * random.standard_normal((8 * BLOCK, 3)), y) for _ in range(40)]
    spread = np.std([result.value for result in results], ddof=1)
    # Both are estimates: of 39 and of 40 times 7 degrees of freedom.
    assert np.sqrt(np.mean([result.se**2 for result in results])) == pytest.approx(spread, rel=0.4)


def test_one_image_is_refused():
    with pytest.raises(UsageError, match="2 or more images"):
        kid(np.ones((1, 3)), np.ones((2, 3)))
    with pytest.raises(UsageError, match="1 reference features"):
        kid(np.ones((2, 3)), np.ones((1, 3)))
