"""Likelihood over the threshold beside gates, as in docs/beyond.md: kept runs, paired image by image.

``python docs/pictures/gate_nll.py OUT.svg SWEEP GATE_RUN ...``: a folder of ``merged-diffusion sweep`` and
runs of ``nll --gate``, named by their folders. All is less the likelihood expert alone, over the images that
all have.
"""

import sys
from pathlib import Path

import numpy as np

import merged_diffusion as md
from merged_diffusion import plots


def main(out: Path, swept: Path, *gates: Path) -> None:
    """The curve over eta, and a line across for each gate."""
    rows = {folder.name: md.load_scores(folder) for folder in sorted(swept.iterdir()) if folder.is_dir()}
    levels = {folder.name.removeprefix("nll-"): md.load_scores(folder) for folder in gates}
    common = set.intersection(*(set(score.ids.tolist()) for score in (*rows.values(), *levels.values())))

    def less(score: md.Likelihood) -> tuple[float, float]:
        """Difference to the likelihood expert with its standard error."""
        ids, other = np.array(sorted(common)), rows["likelihood"]
        pick, base = (one.bits_per_dim[np.searchsorted(one.ids, ids)] for one in (score, other))
        clusters = other.clusters[np.searchsorted(other.ids, ids)]
        away = pick - base
        sums = np.array([(away[clusters == each] - away.mean()).sum() for each in np.unique(clusters)])
        return away.mean(), np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(away)

    etas = {float(name.removeprefix("eta-")): less(score) for name, score in rows.items() if "eta" in name}
    curve = plots.Curve("threshold", list(etas), [v for v, _ in etas.values()], [e for _, e in etas.values()])
    lines = [plots.Level("gate", f"{name} gate", *less(score)) for name, score in levels.items()]
    lines.append(plots.Level("likelihood", "likelihood expert", 0.0))
    figure = plots.over_eta([curve], lines, unit="bits/dim less the likelihood expert's")
    figure.savefig(out, metadata={"Date": None})
    for name, score in {**rows, **levels}.items():
        print(f"{name}: {less(score)[0]:+.4f} ± {less(score)[1]:.4f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
