"""How far DPM-Solver-v3 is from the exact flow's images at few evaluations, beside other samplers.

    python benches/python/dpm_v3.py digits photos scenes

Statistics are measured on held-back train images (``--images``) at gammas ``--spacing`` apart. The distance
is the root of the mean square of z_min/alpha less that of UniPC with 200 steps from the same noise: pixels
are in [-1, 1]. For each number of evaluations, of which the threshold takes one, each sampler on the best of
three grids, and which that is.
"""

import argparse
import time

import numpy as np

import merged_diffusion as md
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.samplers import SIGMAS

DRAWN = {"digits": 32, "photos": 32, "scenes": 8}
CALLS = (6, 8, 10, 14, 20)


def measured(pair, n, spacing):
    model, ids = md.load_pair(pair), range(DRAWN[pair])
    _, held_back = hold_back(md.load_data(pair, "train"))
    begin = time.perf_counter()
    statistics = md.fit_model_statistics(model, held_back.select(limit=n), spacing=spacing)
    print(f"{pair}: statistics of {n} images in {time.perf_counter() - begin:.0f} s")
    kinds = {
        "DPM-Solver++(2M)": md.Dpmpp2m,
        "UniPC, order 2": lambda steps, sigmas: md.UniPC(steps, order=2, sigmas=sigmas),
        "iPNDM": md.Ipndm,
        "DPM-Solver-v3, order 2": lambda steps, sigmas: md.DpmV3(steps, 2, sigmas, statistics),
        "DPM-Solver-v3, order 3": lambda steps, sigmas: md.DpmV3(steps, 3, sigmas, statistics),
    }

    def latents(sampler):
        machine = md.Machine(batch_size=len(ids))
        return md.draw(model, ids, sampler=sampler, latents=True, machine=machine).latents

    fine = latents(md.UniPC(200))
    alpha = 1 / np.sqrt(1 + np.exp(model.gamma_range[0]))
    for name, kind in kinds.items():
        cells = []
        for calls in CALLS:
            found = {w: np.sqrt(np.mean((latents(kind(calls - 1, sigmas=w)) - fine) ** 2)) for w in SIGMAS}
            word = min(found, key=found.get)
            cells.append(f"{found[word] / alpha:.4f} {word}")
        print(f"| {pair} | {name} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", nargs="+", choices=DRAWN)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--spacing", type=float, default=0.25)
    given = parser.parse_args()
    for pair in given.pairs:
        measured(pair, given.images, given.spacing)


if __name__ == "__main__":
    main()
