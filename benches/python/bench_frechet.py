"""How long does a Frechet distance of 2048 features take beside SciPy's root, and what memory do moments?

Two covariances of full rank, of 6,000 draws each, by `frechet_distance` and by `scipy.linalg.sqrtm` of their
product, in one run; then the peak of a process that takes the moments of 1,000 and of 50,000 features.
"""

import os
import statistics
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch

from merged_diffusion.quality import Law, frechet_distance

DIM, N = 2048, 6_000
ROUNDS = {"ours": 5, "scipy sqrtm": 2}
SECONDS = {}

STREAM = """
import resource, sys
import numpy as np, torch
from merged_diffusion.quality import Moments
torch.set_num_threads(2)
n, batch, random = int(sys.argv[1]), 500, np.random.default_rng(0)
moments = Moments(2048)
for start in range(0, n, batch):
    moments.add(random.standard_normal((batch, 2048), dtype=np.float32), np.arange(start, start + batch))
law = moments.law()
print(law.n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def laws():
    """Two laws whose spectra fall as those of Inception features do, over four decades."""
    random = np.random.default_rng(0)
    scale = np.geomspace(1, 1e-2, DIM)
    found = []
    for shift in (0.0, 0.02):
        mix = random.standard_normal((DIM, DIM)) / np.sqrt(DIM)
        x = random.standard_normal((N, DIM)) * scale @ mix + shift
        covariance = torch.from_numpy(np.cov(x, rowvar=False))
        found.append(Law(torch.from_numpy(x.mean(axis=0)), covariance, N))
    return found


def scipys(a, b):
    """The usual formula."""
    first, second = a.covariance.numpy(), b.covariance.numpy()
    root = scipy.linalg.sqrtm(first @ second)
    shift = (a.mean - b.mean).numpy()
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


METHODS = {"ours": lambda a, b: frechet_distance(a, b).value, "scipy sqrtm": scipys}


@pytest.mark.benchmark(group="Frechet distance, 2048 features")
@pytest.mark.parametrize("method", METHODS)
def test_distance(benchmark, laws, report, method):
    value = METHODS[method](*laws)  # warm
    benchmark.pedantic(METHODS[method], args=laws, rounds=ROUNDS[method], iterations=1)
    SECONDS[method] = statistics.median(benchmark.stats.stats.data)
    ratio = SECONDS[method] / SECONDS["ours"]
    report(f"{method:<12} {SECONDS[method]:7.2f} s  {ratio:5.1f} x ours   distance {value:.8g}")


@pytest.mark.parametrize("n", [1_000, 50_000])
def test_memory_of_moments(n, report):
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(n)], capture_output=True, text=True, check=True, env=os.environ
    )
    taken, peak = map(int, done.stdout.split())
    assert taken == n
    report(f"moments of {n:6d} x 2048 features: peak {peak / 1024:.0f} MiB")
    # 16 groups of 32 MiB, one more for their sum, open blocks, torch: no features of 50,000 (800 MiB more).
    assert peak / 1024 < 1200
