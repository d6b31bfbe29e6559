"""How much work do k colours of a probe save at an equal error of probes, at CIFAR size?

    python benches/python/equal_work.py [--pair scenes] [--images 8] [--products 1,4,9] [--sets 2]

The exact likelihood of test images of a bundled pair at its recommended threshold, k products a node. Work in
forward calls: network evaluations times what one with k products costs beside a forward call, measured on
the pair's own experts. Noise: mean of the squares of `se_probe` over images and sets of probes; its interval
of 95 % is the law of a ratio of two such means, with their degrees of freedom. At an equal error, averaging
as many runs as it takes, the work is noise x work of one run: saved is that of the first k over that of each.
"""

import argparse
import time

import numpy as np
import torch
from product_ways import Case, forward, least, retained
from scipy.stats import f as ratio_law

import merged_diffusion as md
from merged_diffusion import _core

ROUNDS = 5


def noise(found):
    """Mean square of ``se_probe`` of all results, and the degrees of freedom of this mean."""
    squares = np.concatenate([each.se_probe**2 for each in found])
    freedom = np.concatenate([each.freedom for each in found])
    return squares.mean(), squares.sum() ** 2 / (squares**2 / freedom).sum()


def cost(pair, n_rows, numbers):
    """A forward call with k products over a forward call, mean of the pair's two experts, for each k."""
    both = []
    for role in ("vdm", "edm"):
        cases = {k: Case(f"{pair}-{role}", n_rows, k) for k in numbers}
        calls = {0: lambda cases=cases: forward(cases[numbers[0]])}
        calls |= {k: lambda case=case: retained(case) for k, case in cases.items()}
        spent = least(calls, ROUNDS)
        both.append({k: spent[k] / spent[0] for k in numbers})
    return {k: np.mean([one[k] for one in both]) for k in numbers}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", choices=["scenes"], default="scenes")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--products", default="1,4,9", help="k, the one that others are compared with first")
    parser.add_argument("--sets", type=int, default=2, help="of probes: seeds 0, 1, ...")
    given = parser.parse_args()
    torch.set_num_threads(1)
    _core.set_threads(1)
    numbers = [int(k) for k in given.products.split(",")]
    model, data = md.load_pair(given.pair), md.load_data(given.pair)
    every = len(data) // given.images
    data = data[: every * given.images : every]
    one = cost(given.pair, given.images, numbers)
    print(f"{given.pair}: {given.images} images, {given.sets} sets of probes each", flush=True)
    first = None
    for k in numbers:
        begin = time.process_time()
        found = [
            md.log_likelihood(
                model,
                data,
                seed=seed,
                probes=md.Probes(k),
                machine=md.Machine(batch_size=given.images),
            )
            for seed in range(given.sets)
        ]
        spent = (time.process_time() - begin) / given.sets / given.images
        evaluations = np.mean([sum(each.evaluations.values()) for each in found])
        mean, freedom = noise(found)
        calls = evaluations * one[k]
        first = first or (mean, freedom, calls)
        ratio, saved = first[0] / mean, first[0] * first[2] / (mean * calls)
        compared = ""
        if k != numbers[0]:
            reach = ratio_law.ppf([0.975, 0.025], first[1], freedom)
            low, high = saved / reach
            compared = (
                f"variance 1/{ratio:.1f}, {calls / first[2]:.2f} times the work, "
                f"saved at an equal error {saved:.1f} times ({low:.1f} to {high:.1f}); "
            )
        print(
            f"  k = {k}: se_probe {mean**0.5:.4f} bits/dim an image; {evaluations:.1f} evaluations of "
            f"{one[k]:.2f} forward calls, {calls:.0f} in all; {compared}{spent:.1f} s an image",
            flush=True,
        )


if __name__ == "__main__":
    main()
