"""How long does dequantisation noise take beside scipy's, for a batch of 512 CIFAR-sized images?

512 x 3072 at tau = 3.0187: ours in both precisions against `scipy.stats.truncnorm.rvs`, and against the plain
normal numbers of numpy and torch, which are not truncated and not keyed. Medians of seven.
"""

import statistics

import numpy as np
import pytest
import torch
from scipy import stats

from merged_diffusion import _core

ROWS, DIM, TAU = 512, 3072, 3.0187
ROUNDS = 7
IMAGES, DRAWS = np.arange(ROWS, dtype=np.uint64), np.zeros(ROWS, np.uint64)
GENERATOR = np.random.default_rng(0)
OUT = {dtype: np.empty((ROWS, DIM), dtype) for dtype in ("float32", "float64")}


def ours(dtype):
    _core.fill_truncated_normal(OUT[dtype], TAU, 0, IMAGES, DRAWS)


SAMPLERS = {
    "truncnorm.rvs": lambda: stats.truncnorm.rvs(-TAU, TAU, size=(ROWS, DIM), random_state=GENERATOR),
    "ours float32": lambda: ours("float32"),
    "ours float64": lambda: ours("float64"),
    "numpy normal": lambda: GENERATOR.standard_normal((ROWS, DIM)),
    "torch normal": lambda: torch.randn(ROWS, DIM),
}
MEDIAN = {}


@pytest.mark.benchmark(group="512 x 3072 truncated normal")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler(benchmark, report, sampler):
    benchmark.pedantic(SAMPLERS[sampler], rounds=ROUNDS, iterations=1, warmup_rounds=2)
    seconds = benchmark.stats.stats.data
    MEDIAN[sampler] = statistics.median(seconds)
    ratio = MEDIAN["truncnorm.rvs"] / MEDIAN[sampler]
    report(
        f"{sampler:<14} {1e3 * MEDIAN[sampler]:8.2f} ms [{1e3 * min(seconds):.2f}, {1e3 * max(seconds):.2f}]"
        f"  {ratio:6.1f} x truncnorm.rvs"
    )
