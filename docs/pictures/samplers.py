"""Work and precision of samplers: distance from the exact flow's images against evaluations of networks.

    python docs/pictures/samplers.py
    python docs/pictures/samplers.py --renew digits photos scenes
    python docs/pictures/samplers.py --table

Draws `samplers.svg` from what was measured, which `samplers.json` keeps; ``--renew`` measures pairs anew, in
some minutes each. ``--table`` prints what `docs/results.md` shows: the error at ten evaluations, by grid.

The distance is the root of the mean square of z_min/alpha less that of UniPC with 300 steps from the same
noise: pixels are in [-1, 1]. Steps are one less than evaluations, which the threshold takes.
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import merged_diffusion as md
from merged_diffusion.plots.look import CYCLE, FONT, INK
from merged_diffusion.samplers import SIGMAS

HERE = Path(__file__).parent
KEPT = HERE / "samplers.json"
IMAGES = {"digits": 64, "photos": 64, "scenes": 8}
CALLS = (6, 8, 10, 12, 14, 16, 20, 24, 32)
TEN = 10
FINE = 300
KINDS = {
    "DPM-Solver++(2M)": lambda **words: md.Dpmpp2m(**words),
    "DPM-Solver++(3M)": lambda **words: md.Dpmpp3m(**words),
    "UniPC, order 2": lambda **words: md.UniPC(order=2, **words),
    "UniPC, order 3": lambda **words: md.UniPC(order=3, **words),
    "DEIS": lambda **words: md.Deis(**words),
    "iPNDM": lambda **words: md.Ipndm(**words),
}
MOST_SHOWN = 48  # evaluations
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4)
# Colour, line, marker.
STYLE = {
    "DPM-Solver++(2M)": (INK, "-", "o"),
    "DPM-Solver++(3M)": (INK, "--", "s"),
    "UniPC, order 2": (CYCLE[0], "-", "o"),
    "UniPC, order 3": (CYCLE[0], "--", "s"),
    "DEIS": ("#D55E00", "-", "o"),
    "iPNDM": (CYCLE[1], "-", "o"),
    "Heun": (CYCLE[2], "-", "^"),
    "ode (adams)": (CYCLE[3], "-", "D"),
}


def measured(pair: str) -> dict[str, object]:
    """For each sampler pairs of evaluations and distance; for each sampler and grid the distance at ten."""
    model, ids = md.load_pair(pair), range(IMAGES[pair])
    machine = md.Machine(batch_size=len(ids) if len(ids) < 32 else 32)

    def drawn(sampler: object) -> tuple[float, np.ndarray]:
        found = md.draw(model, ids, sampler=sampler, latents=True, machine=machine)
        return float(sum(counts.mean() for counts in found.evaluations.values())), found.latents

    _, fine = drawn(md.UniPC(FINE))
    scale = float(np.sqrt(1 / (1 + np.exp(model.gamma_range[0]))))  # alpha at the data end

    def point(sampler: object) -> tuple[float, float]:
        evaluations, latents = drawn(sampler)
        return evaluations, float(np.sqrt(np.mean((latents - fine) ** 2))) / scale

    curves = {name: [point(kind(steps=calls - 1)) for calls in CALLS] for name, kind in KINDS.items()}
    curves["Heun"] = [point(md.Heun(calls // 2)) for calls in CALLS]
    curves["ode (adams)"] = [point(md.Ode(md.Adams(tol=tol))) for tol in TOLERANCES]
    at_ten = {
        name: {word: point(kind(steps=TEN - 1, sigmas=word))[1] for word in SIGMAS}
        for name, kind in KINDS.items()
    }
    at_ten["Heun"] = {word: point(md.Heun(TEN // 2, sigmas=word))[1] for word in SIGMAS}
    return {"images": len(ids), "curves": curves, "at_ten": at_ten}


def table(kept: dict[str, dict[str, object]]) -> str:
    """The error at ten evaluations, and its part of DPM-Solver++(2M)'s on its usual grid."""
    lines = [
        f"| pair | sampler | {' | '.join(SIGMAS)} | best, as a part of DPM-Solver++(2M)'s |",
        "|---" * 6 + "|",
    ]
    for pair, found in kept.items():
        usual = found["at_ten"]["DPM-Solver++(2M)"]["logsnr"]
        for name, row in found["at_ten"].items():
            cells = " | ".join(f"{row[word]:.4f}" for word in SIGMAS)
            lines.append(f"| {pair} | {name} | {cells} | {min(row.values()) / usual:.2f} |")
    return "\n".join(lines)


def figure_of(kept: dict[str, dict[str, object]]) -> Figure:
    """A panel for each pair, a curve for each sampler on its usual grid."""
    figure = Figure(figsize=(9.6, 3.9), facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(kept), sharey=True, squeeze=False)[0]
    for axes, (pair, found) in zip(panels, kept.items(), strict=True):
        for name, points in found["curves"].items():
            colour, line, marker = STYLE[name]
            calls, distance = zip(*(p for p in points if p[0] <= MOST_SHOWN), strict=True)
            axes.plot(calls, distance, color=colour, linestyle=line, marker=marker, markersize=3.5, lw=1.2,
                      label=name)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks((6, 10, 20, 40), ("6", "10", "20", "40"))
        axes.set_xticks((), minor=True)
        axes.set_xlim(5.5, MOST_SHOWN)
        axes.set_ylim(1e-3, 3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes.set_title(f"{pair}, {found['images']} images", fontsize=10, color=INK)
        axes.set_xlabel("evaluations of networks an image")
    panels[0].set_ylabel("distance from the exact flow")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def main() -> None:
    """Renew what is kept, if asked, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renew", nargs="+", choices=sorted(IMAGES), default=[], metavar="PAIR")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    for pair in given.renew:
        kept[pair] = measured(pair)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if given.table:
        print(table(kept))
        return
    with mpl.rc_context(FONT | {"svg.fonttype": "path", "svg.hashsalt": "samplers", "axes.titlepad": 4}):
        figure_of(kept).savefig(HERE / "samplers.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
