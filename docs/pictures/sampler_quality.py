"""Quality of samples at few steps: the primary distance against evaluations of networks, all samplers.

    python docs/pictures/sampler_quality.py
    python docs/pictures/sampler_quality.py --renew digits photos
    python docs/pictures/sampler_quality.py --table

Draws `sampler-quality.svg` from what was measured, which `sampler-quality.json` keeps; ``--renew`` measures
pairs anew, in some minutes each. ``--table`` prints what `docs/results.md` shows.

All images are drawn from the same noise by every sampler on its usual grid, so that differences from the
exact flow's images (UniPC with 100 steps) are paired. Steps are one less than evaluations, which the
threshold takes.
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from samplers import KINDS, STYLE

import merged_diffusion as md
from merged_diffusion.errors import DataError
from merged_diffusion.plots.look import FONT, INK
from merged_diffusion.quality.jackknife import jackknife_variance

HERE = Path(__file__).parent
KEPT = HERE / "sampler-quality.json"
PAIRS = ("digits", "photos")
IMAGES = 2000
CALLS = (6, 8, 10, 14, 20)
FINE = 100
EXACT = "exact flow"


def measured(pair: str, keep: object) -> None:
    """For each sampler rows of evaluations, distance, and distance less the exact flow's with its error."""
    model = md.load_pair(pair)
    machine = md.Machine(batch_size=64, threads=1)

    def figure_of(sampler: object) -> tuple[float, dict[str, object] | None]:
        drawn = md.draw(model, range(IMAGES), sampler=sampler, machine=machine)
        evaluations = float(sum(counts.mean() for counts in drawn.evaluations.values()))
        try:
            return evaluations, md.assess(drawn.images, pair)["primary"]
        except DataError:  # too many images of one grey level
            return evaluations, None

    _, exact = figure_of(md.UniPC(FINE))
    found = {
        "images": IMAGES,
        "metric": exact["name"],
        "floor": exact["floor"],
        EXACT: exact["value"],
        "curves": {},
    }

    def row(sampler: object) -> list[float | None]:
        evaluations, own = figure_of(sampler)
        if own is None:
            return [evaluations, None, None, None]
        apart = np.array(own["replicates"]) - np.array(exact["replicates"])
        se = float(np.sqrt(jackknife_variance(tuple(apart.tolist()))))
        return [evaluations, own["value"], own["value"] - exact["value"], se]

    kinds = {name: lambda calls, kind=kind: kind(steps=calls - 1) for name, kind in KINDS.items()}
    kinds["Heun"] = lambda calls: md.Heun(calls // 2)
    for name, kind in kinds.items():
        found["curves"][name] = [row(kind(calls)) for calls in CALLS]
        keep(pair, found)


def table(kept: dict[str, dict[str, object]]) -> str:
    """The distance less the exact flow's, by evaluations."""
    lines = [f"| pair | sampler | {' | '.join(map(str, CALLS))} |", "|---" * (len(CALLS) + 2) + "|"]
    for pair, found in kept.items():
        for name, rows in found["curves"].items():
            cells = " | ".join(
                "blank images" if apart is None else f"{apart:+.3f} ± {se:.3f}" for _, _, apart, se in rows
            )
            lines.append(f"| {pair} | {name} | {cells} |")
    return "\n".join(lines)


def figure(kept: dict[str, dict[str, object]]) -> Figure:
    """A panel for each pair, a curve for each sampler, and lines of the exact flow and of an ideal model."""
    made = Figure(figsize=(8.6, 4.1), facecolor="white", layout="constrained")
    panels = made.subplots(1, len(kept), squeeze=False)[0]
    for axes, (pair, found) in zip(panels, kept.items(), strict=True):
        for name, rows in found["curves"].items():
            colour, line, marker = STYLE[name]
            calls, values, _, _ = zip(*(row for row in rows if row[1] is not None), strict=True)
            axes.plot(
                calls, values, color=colour, linestyle=line, marker=marker, markersize=3.5, lw=1.2, label=name
            )
        axes.axhline(found[EXACT], color=INK, lw=0.8, label=EXACT)
        axes.axhline(found["floor"], color=INK, lw=0.8, linestyle=":", label="an ideal model")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(CALLS, map(str, CALLS))
        axes.set_xticks((), minor=True)
        axes.set_ylim(0.8 * found["floor"], 6 * found[EXACT])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes.set_title(f"{pair}, {found['images']:,} images", fontsize=10, color=INK)
        axes.set_xlabel("evaluations of networks an image")
    panels[0].set_ylabel("primary distance from train")
    made.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return made


def main() -> None:
    """Renew what is kept, if asked, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renew", nargs="+", choices=PAIRS, default=[], metavar="PAIR")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}

    def keep(pair: str, found: dict[str, object]) -> None:
        kept[pair] = found
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    for pair in given.renew:
        measured(pair, keep)
    if given.table:
        print(table(kept))
        return
    with mpl.rc_context(
        FONT | {"svg.fonttype": "path", "svg.hashsalt": "sampler-quality", "axes.titlepad": 4}
    ):
        figure(kept).savefig(HERE / "sampler-quality.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
