"""Do intervals of all stated errors hold the true value?

    python benches/python/total_intervals.py NAME --out DIR [--probes K] [--preset P] [--seeds S]

NAME is digits or photos (the bundled pair at its threshold), or other: the likelihood expert of ``--expert``
beside bundled:scenes-edm at eta 0.45. Each of 64 test images (8 of other) is solved from one start (its
dequantisation noise stays) with S sets of probes, with a companion (``--quad-check all``) and nothing else
asked for. The truth is the suite's: the exact trace along the path of a tight tolerance, of other 36 colours
along such a path (3,072 products are too many), which leave about 4e-4 bits/dim.

Printed are the root mean square error and what is stated of it in parts; how often 95 % intervals
(`Likelihood.interval(total=True)`) hold the truth, with an interval over resampled images; and how often the
mean of 16 images, each with one of its sets, is held by the root of the sum of their squares (2,000 draws by
Student's t). What is measured is kept in DIR, as the suite does: in its folder the truth is there already.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from suite import points
from suite.analysis import over_images
from suite.measure import measured
from suite.plan import PRESETS
from suite.problems import digits, other, photos
from suite.setting import Setting
from suite.store import Store

from merged_diffusion import _core
from merged_diffusion.scores.student import student_t

IMAGES, FEW = 64, 8
BLOCK = 8  # sets of probes that are measured and kept together
ROWS = 64
RECOMBINED, DRAWS = 16, 2000
PARTS = ("values", "se_probe", "quadrature_error", "path_error", "freedom", "low", "high")


def problem_of(name, expert, images):
    if name != "other":
        return {"digits": digits, "photos": photos}[name](images, None)
    return other(expert, FEW)


def block_of(problem, options, number):
    """`PARTS` [BLOCK, N] of as many sets of probes, in nats."""
    again = np.tile(problem.points, (BLOCK, 1, 1, 1))
    rows = min(ROWS, len(again))
    found = points.scored(problem.model, again, seed=number, batch_size=rows, companion=True, **options)
    low, high = found.interval(total=True).T
    parts = {"low": low, "high": high}
    parts |= {name: getattr(found, name) for name in PARTS if name not in parts}
    return {name: part.reshape(BLOCK, -1).tolist() for name, part in parts.items()}


def rms(values):
    return math.sqrt(np.square(values).mean())


def held_means(values, errors, freedom, truth):
    """How often means of images, each with one of its sets, are held by the errors of their images."""
    rng = np.random.default_rng(0)
    n_sets, n = values.shape
    held = 0
    for _ in range(DRAWS):
        images, sets = rng.integers(n, size=RECOMBINED), rng.integers(n_sets, size=RECOMBINED)
        squares = errors[sets, images] ** 2
        degrees = squares.sum() ** 2 / (squares**2 / freedom[sets, images]).sum()
        away = (values[sets, images] - truth[images]).sum()
        held += abs(away) <= student_t(np.array([degrees]))[0] * math.sqrt(squares.sum())
    return held / DRAWS


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=("digits", "photos", "other"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--expert", help="folder of the likelihood expert of other")
    parser.add_argument("--probes", type=int, default=1)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default")
    parser.add_argument("--images", type=int, default=IMAGES, help="as of the suite in DIR (default: 64)")
    parser.add_argument("--seeds", type=int, default=24, help="sets of probes, in eights (default: 24)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    _core.set_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    store, problem = Store(given.out / "full"), problem_of(given.name, given.expert, given.images)
    tol, h_max = PRESETS[given.preset]
    options = {"method": "adams", "probe": "fresh", "probes": given.probes, "tol": tol, "h_max": h_max}
    blocks = [
        store.kept(
            problem.name,
            f"total-{given.preset}-{given.probes}-{number}",
            lambda number=number: block_of(problem, options, number),
        )
        for number in range(given.seeds // BLOCK)
    ]
    parts = {name: np.concatenate([np.array(block[name], dtype=float) for block in blocks]) for name in PARTS}
    tight = Setting("adams", **problem.exact_by)
    truth = store.found(problem.name, tight, lambda: measured(problem, tight)).nats
    report(given, parts, truth, problem.dim * math.log(2))


def report(given, parts, truth, bits):
    values, low, high, freedom = (parts[name] for name in ("values", "low", "high", "freedom"))
    off = values - truth
    held = (low <= truth) & (truth <= high)
    errors = {name: parts[name] for name in ("se_probe", "quadrature_error", "path_error")}
    total = np.sqrt(sum(error**2 for error in errors.values()))
    found = over_images(lambda images: held[:, images].mean(), len(truth))
    print(
        f"{given.name}, {given.preset}, {given.probes} probes, {values.shape[1]} images x {len(values)} sets"
    )
    print(f"  error {rms(off) / bits:.5f} bits/dim, mean {off.mean() / bits:+.5f}")
    print("  stated " + ", ".join(f"{name} {rms(error) / bits:.5f}" for name, error in errors.items()))
    print(f"  total {rms(total) / bits:.5f}, {rms(total) / rms(off):.3f} of the error")
    print(f"  intervals hold {found.value:.2%} ({found.low:.2%} to {found.high:.2%})")
    grown = freedom * (total / errors["se_probe"]) ** 4
    print(f"  means of {RECOMBINED}: {held_means(values, total, grown, truth):.2%}", flush=True)


if __name__ == "__main__":
    main()
