"""How far 5,000 samples of the merged model are from the data, beside each expert's, over 5 seeds.

    python recipes/sample_quality.py photos --sampler ode --out results/photos-ode

The threshold is the pair's recommended one, fixed on held-back train before any sample was drawn. Samples are
kept in OUT, and drawn again by nobody: the same command goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

import merged_diffusion as md
from merged_diffusion.catalogue.entries import pair_card
from merged_diffusion.quality.assess import Figure
from merged_diffusion.quality.frechet import difference

SEEDS = range(5)
NUM = 5000


def main() -> None:
    """Draw, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "photos"])
    parser.add_argument("--sampler", choices=["ode", "ancestral"], default="ode")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    eta = pair_card(options.data).eta
    merged, *experts = ([measured(options, each, seed) for seed in SEEDS] for each in (eta, 0, 1))
    better = min(experts, key=lambda figures: np.mean([figure.value for figure in figures]))
    print(f"{merged[0].name} of {NUM} samples from {options.data} ({options.sampler}); an ideal model has "
          f"{merged[0].floor:.4f}\n")  # fmt: skip
    print("| seed | merged, eta " + f"{eta:g} | quality alone | likelihood alone | merged minus the better |")
    print("|---|---:|---:|---:|---:|")
    for seed, row in zip(SEEDS, zip(merged, *experts, strict=True), strict=True):
        value, se = difference(merged[seed], better[seed])
        shown = " | ".join(f"{figure.value:.4f} ± {figure.se:.4f}" for figure in row)
        print(f"| {seed} | {shown} | {value:+.4f} ± {se:.4f} |")
    found = np.array([difference(a, b)[0] / b.value for a, b in zip(merged, better, strict=True)])
    means = " | ".join(f"{np.mean([f.value for f in figures]):.4f}" for figures in (merged, *experts))
    half = stats.t.ppf(0.975, len(found) - 1) * stats.sem(found)
    print(
        f"| mean | {means} | {found.mean():+.1%} ({found.mean() - half:+.1%} to {found.mean() + half:+.1%}) |"
    )


def measured(options: argparse.Namespace, eta: float, seed: int) -> Figure:
    """The primary metric of one model's samples."""
    file = options.out / f"eta-{eta:g}-seed-{seed}-{NUM}.npz"
    asked = f"--pair {options.data} --eta {eta:g} --sampler {options.sampler} --num {NUM} --seed {seed}"
    given = ["--batch-size", "64", "--threads", options.threads, "--out", str(file), "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "merged_diffusion", "sample", *asked.split(), *given],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with np.load(file, allow_pickle=False) as drawn:
        quality = md.assess(drawn["images"], options.data, ids=drawn["ids"])
    return Figure(**quality["primary"])


if __name__ == "__main__":
    main()
