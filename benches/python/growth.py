"""How do time, memory and evaluations an image grow with the images, beside the flattened pipeline?

    python benches/python/growth.py
    python benches/python/growth.py --problem mixture

By default on two merged Gaussians of natural spectra, d = 3072. adams on 64 to 4,096 images in its usual
batches, then in batches of other sizes; the paper's pipeline (SciPy RK45 at 1e-5, all images flattened into
one state, one fixed probe) on 1 to 1,024. Each line is a process of its own; memory is the peak of resident
memory above what was there before the solve, the images included, which take 8 d bytes each. "first" is the
mean over the first 64 images, the same ones in all lines (the first n of fewer).
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch
from suite import points
from suite.measure import measured, watched
from suite.problems import PROBLEMS
from suite.setting import Setting

from merged_diffusion import _core
from merged_diffusion.scores.usual_rows import scoring_rows

IMAGES = (64, 256, 1024, 4096)
BATCHES = ((64, 1), (64, 16), (256, 256), (1024, 1024))  # images, rows of a network call
FLATTENED = (1, 4, 16, 64, 256, 1024)
PAPER = Setting("scipy", 1e-5)
FIRST = 64
MIB = 1 << 20


def measure(name, n, rows):
    """One line's figures; without rows those of the flattened pipeline."""
    problem = PROBLEMS[name](n, None)
    # What torch does once, at its first derivative, is not counted.
    points.scored(problem.model, problem.points[:1], method="adams", tol=0.1)
    begin = time.process_time()
    if rows is None:
        found = measured(problem, PAPER)
        nats, evaluations = found.nats, found.evaluations
        seconds, peak = found.seconds, found.peak_bytes
    else:
        found, seconds, peak = watched(
            lambda: points.scored(problem.model, problem.points, method="adams", batch_size=rows)
        )
        nats = found.log_density_nats
        evaluations = np.sum(list(found.evaluations.values()), axis=0)
    busy = time.process_time() - begin
    return {
        "evaluations": float(evaluations.mean()),
        "first": float(evaluations[:FIRST].mean()),
        "bits": problem.bits_per_dim(nats[:FIRST]).tolist(),
        "seconds": seconds,
        "busy": busy,
        "peak": peak,
    }


def line(given, solver, n, rows):
    """Measure in a process of its own, and print."""
    words = [sys.executable, __file__, "--threads", str(given.threads), "--problem", given.problem]
    words += ["--images", str(n)] + ([] if rows is None else ["--rows", str(rows)])
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    columns = [
        f"{n:,}",
        "all" if rows is None else f"{rows:,}",
        f"{found['evaluations']:.2f}",
        f"{found['first']:.2f}",
        f"{1e3 * found['busy'] / n:.1f}",
        f"{1e3 * found['seconds'] / n:.1f}",
        "" if found["peak"] is None else f"{found['peak'] / MIB:.0f}",
    ]
    print(f"| {solver} | {' | '.join(columns)} |", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--largest", type=int, default=max(IMAGES), help="leave out lines of more images")
    parser.add_argument("--images", type=int, help="one line alone, as JSON")
    parser.add_argument("--rows", type=int, help="of that line: by adams, in network calls of so many rows")
    parser.add_argument("--problem", choices=["gaussian", "mixture"], default="gaussian")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    _core.set_threads(given.threads)
    if given.images:
        print(json.dumps(measure(given.problem, given.images, given.rows)))
        return
    print("| solver | images | rows | evaluations | first | ms of processor | ms | peak MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    usual = [(n, scoring_rows(n, "cpu")) for n in IMAGES]
    lines = [("adams", n, rows) for n, rows in (*usual, *BATCHES) if n <= given.largest]
    bits = np.array([line(given, *words)["bits"] for words in lines])
    for n in FLATTENED:
        if n <= given.largest:
            line(given, "flattened", n, None)
    away = np.abs(bits - bits[0]).max()
    print(f"\nadams: the first {FIRST} images differ by at most {away:.1e} bits/dim between lines")


if __name__ == "__main__":
    main()
