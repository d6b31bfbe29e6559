"""From two experts to the trade-off plot: likelihood and samples of a merged model over its threshold.

    python examples/trade_off.py
    python examples/trade_off.py photos --all --num 1000 --out results/photos
    python examples/trade_off.py scenes --etas 0,0.15,0.3,0.45,0.6,0.75,max,1 --tol 0.01 --out results/scenes

Writes trade-off.svg, likelihood.svg and same-noise.svg beside two sweeps; the same command goes on.
"""

import argparse
from pathlib import Path

import numpy as np

import merged_diffusion as md
from merged_diffusion import plots
from merged_diffusion.quality.assess import Figure
from merged_diffusion.sweeps.table import SweepRow

SHOWN = 14  # images of the same noise, side by side


def main() -> None:
    """Score, draw, plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pair", nargs="?", default="digits", choices=["digits", "photos", "scenes"])
    parser.add_argument("--limit", type=int, default=64, help="images to score at every threshold")
    parser.add_argument("--all", action="store_true", help="all test images instead")
    parser.add_argument("--num", type=int, default=200, help="images to draw at every threshold")
    parser.add_argument("--etas", help="thresholds with commas between (default: a grid)")
    parser.add_argument("--tol", type=float, help="tolerance of the samples' solver")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/trade-off"))
    given = parser.parse_args()

    common = {"data": given.pair, "threads": given.threads, "batch_size": 64}
    etas = None if given.etas is None else [eta_of(word) for word in given.etas.split(",")]
    scored = md.sweep(
        md.Settings.of(common | {"limit": None if given.all else given.limit}), etas, out=given.out / "nll"
    )
    drawn = md.sweep(
        md.Settings.of(common),
        etas,
        metric="sample",
        sampler=None if given.tol is None else md.Ode(md.Adams(tol=given.tol)),
        num=given.num,
        out=given.out / "sample-ode",
    )

    quality = {row.name: row.figure for row in drawn.rows}
    points = [point(row, quality[row.name]) for row in scored.rows]
    distance = next(iter(quality.values())).name
    plots.trade_off(points, distance=distance).savefig(given.out / "trade-off.svg")

    merged = [row for row in scored.rows if row.model == "merged"]
    curve = plots.Curve(
        "merged",
        [row.eta for row in merged],
        [row.paired.difference for row in merged],
        [row.paired.se for row in merged],
    )
    alone = [
        plots.Level(row.model, f"{row.name} expert", row.paired.difference, row.paired.se)
        for row in scored.rows
        if row.model != "merged"
    ]
    figure = plots.over_eta([curve], alone, unit=f"bits/dim minus those of {scored.best.name}")
    figure.savefig(given.out / "likelihood.svg")

    strips = []
    for row in drawn.rows:
        with np.load(given.out / "sample-ode" / row.folder / "samples.npz", allow_pickle=False) as kept:
            strips.append((row.name, kept["images"][:SHOWN]))
            levels_of_grey = int(kept["levels"])
    plots.strips(strips, levels=levels_of_grey).savefig(given.out / "same-noise.svg")

    for row in scored.rows:
        mean, _ = row.value
        print(f"{row.name:12} {mean:.4f} bits/dim   {distance} {quality[row.name].value:.3f}")


def eta_of(word: str) -> float | str:
    """A threshold as ``sweep --etas`` takes it: a number, or ``min`` or ``max``."""
    return word if word in ("min", "max") else float(word)


def point(row: SweepRow, quality: Figure) -> plots.Point:
    """A row in the trade-off."""
    name = f"{row.eta:.2g}" if row.model == "merged" else f"{row.name} expert"
    mean, _ = row.value
    return plots.Point(name, row.model, mean, quality.value, None, quality.se)


if __name__ == "__main__":
    main()
