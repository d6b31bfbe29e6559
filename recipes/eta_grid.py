"""The whole eta grid of a bundled set on all 360 test images, with the same noise and probes in every row.

    python recipes/eta_grid.py photos
    python recipes/eta_grid.py photos --method dopri5

Prints a markdown table: both experts alone, every threshold of the grid, and the full-covariance Gaussian.
The recommended eta was chosen on the held-back part of train; nothing here chooses.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.catalogue.entries import pair_card
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.merge import as_model
from merged_diffusion.training.baseline import gaussian_bits_per_dim

SOLVERS = {"adams": md.Adams(), "dopri5": md.Dopri5()}


def main() -> None:
    """Score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "photos"])
    parser.add_argument("--method", choices=SOLVERS, default="adams")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _core.set_threads(options.threads)
    begin = time.monotonic()

    card, data = pair_card(options.data), md.load_data(options.data)
    likelihood, quality = md.load_expert(card.likelihood), md.load_expert(card.quality)

    def score(model: object) -> Likelihood:
        return md.log_likelihood(model, data, solver=SOLVERS[options.method])  # type: ignore[arg-type]

    alone = {
        "likelihood": score(as_model(likelihood, role="likelihood")),
        "quality": score(as_model(quality, role="quality")),
    }
    grid = _core.eta_grid(likelihood.gamma_range, quality.gamma_range, eta_range=card.eta_range)
    merged = {
        eta: score(md.MergedModel(likelihood, quality, md.Threshold.eta(eta), eta_range=card.eta_range))
        for eta in sorted({*grid, card.eta})
    }
    print(f"{options.data}, {len(data)} test images, recommended eta {card.eta}\n")
    print("| model | bits/dim | minus likelihood | minus quality | evaluations |\n|---|---|---|---|---|")
    rows = {f"{name} alone": result for name, result in alone.items()}
    rows |= {f"eta {eta:.4f}".rstrip("0"): result for eta, result in merged.items()}
    for name, result in rows.items():
        differences = [md.paired_difference(result, other) for other in alone.values()]
        columns = [f"{d.difference:+.4f} ± {d.se:.4f}" if d.se else "" for d in differences]
        evaluations = result.summary().evaluations["total"]
        print(f"| {name} | {result.mean:.4f} ± {result.se:.4f} | {' | '.join(columns)} | {evaluations:.0f} |")

    best, last = merged[card.eta], merged[max(grid)]
    difference = md.paired_difference(best, last)
    print(f"\nrecommended minus eta_max: {difference.difference:+.4f} ± {difference.se:.4f}")
    gaussian = gaussian_bits_per_dim(md.load_data(options.data, split="train"), data)
    excess = _core.paired_difference(best.bits_per_dim, gaussian, best.clusters)
    print(f"full-covariance Gaussian: {np.mean(gaussian):.4f}")
    print(f"recommended minus Gaussian: {excess['difference']:+.4f} ± {excess['se']:.4f}")
    print(f"{time.monotonic() - begin:.0f} s, {options.threads} threads")


if __name__ == "__main__":
    main()
