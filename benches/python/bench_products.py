"""What does a further vector-Jacobian product of one forward call cost, in forward calls, at CIFAR size?

8 rows of 3 x 32 x 32 by the bundled networks of scenes, 2 by a DDPM++ of new weights, one thread: four
products by three ways of `product_ways`, each beside a forward call of the same round, in processor seconds.
What is told is (four products - one product) / 3 over a forward call; asked is at most 0.75.
"""

import statistics
import time

import product_ways
import pytest
import torch
from product_ways import Case, seconds

ROWS, PRODUCTS, ROUNDS = 8, 4, 5
NETWORKS = {"scenes-vdm": ROWS, "scenes-edm": ROWS, "ddpmpp": 2}


@pytest.fixture(scope="module")
def cases():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {}
    torch.set_num_threads(before)


@pytest.mark.benchmark(group="four products of 3 x 32 x 32", timer=time.process_time)
@pytest.mark.parametrize("way", ["retained", "batched", "rough"])
@pytest.mark.parametrize("network", NETWORKS)
def test_further_product(benchmark, report, cases, network, way):
    if network not in cases:
        cases[network] = [Case(network, NETWORKS[network], k) for k in (1, PRODUCTS)]
    one, several = cases[network]
    products = product_ways.WAYS[way]
    products(several)  # warm
    forward, single = [], []

    def others():
        forward.append(seconds(product_ways.forward, one))
        single.append(seconds(products, one))

    benchmark.pedantic(products, args=(several,), setup=others, rounds=ROUNDS, iterations=1)
    further = [
        (together - alone) / (PRODUCTS - 1) / call
        for together, alone, call in zip(benchmark.stats.stats.data, single, forward, strict=True)
    ]
    report(
        f"{network:<11} {way:<9} a further product {statistics.median(further):.2f} forward calls"
        f" [{min(further):.2f}, {max(further):.2f}],"
        f" the first {statistics.median(s / f for s, f in zip(single, forward, strict=True)) - 1:.2f}"
    )
