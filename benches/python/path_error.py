"""Does adams' own estimate tell how far its path was off, and does correcting for it help?

    python benches/python/path_error.py [gaussian] [mixture] [digits] [photos] [scenes] [other --expert DIR]

64 points of each problem of the suite (16 of scenes, and of other: the likelihood expert of DIR beside
bundled:scenes-edm at eta 0.45), one fixed probe, float64, against `dopri5` at 1e-8 with the same probe
(scenes and other: adams at 3e-5): 10, 50 and 90 % quantiles over points of the estimate in bits/dim and of
its ratio to the error of the path that was not corrected, the share of points within a factor 3, and the
root mean square error without and with the correction, by default (which is one of the two), and with as
much of it as a pilot on the first 16 points confirms, at the preset's tolerance and at a quarter of it
(`--path-check pilot`). The error of the trace's quadrature is a part of these errors that the estimate knows
nothing of.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from suite import points
from suite.plan import ADAMS, PRESETS, REFERENCE
from suite.problems import PROBLEMS, other

from merged_diffusion import _core
from merged_diffusion.jobs.path_pilot import PILOT_IMAGES
from merged_diffusion.jobs.pilot import FINER
from merged_diffusion.likelihood.path_evidence import ASSUMED, path_evidence, unmeasured
from merged_diffusion.ode.methods import Adams

POINTS = 64
SHOWN = ("gaussian", "mixture", "digits", "photos", "scenes")
QUANTILES = (0.1, 0.5, 0.9)
FACTOR = 3.0
FINEST = ADAMS[-1]
FEW = 16


def compared(problem):
    bits = problem.dim * math.log(2)
    given = {"probe": "fixed", "dtype": "float64", "batch_size": POINTS}
    tight = {"method": "dopri5", "rtol": REFERENCE.tol, "atol": REFERENCE.tol}
    if problem.costly:
        tight = {"method": "adams", "tol": FINEST[0], "h_max": FINEST[1]}
    exact = points.scored(problem.model, problem.points, **given, **tight).log_density_nats
    print(f"{problem.title}, {len(problem.points)} points", flush=True)
    for preset, (tol, h_max) in PRESETS.items():
        options = given | {"method": "adams", "tol": tol, "h_max": h_max, "path": ASSUMED}
        found = points.scored(problem.model, problem.points, **options)
        corrected = (exact - found.log_density_nats) / bits
        correction = found.terms_nats["path_correction"] / bits
        uncorrected = corrected + correction
        usual = unmeasured(Adams(tol, h_max), (leg.expert for leg in problem.model.legs()))
        estimate = found.path_error / bits  # of a density: in nats
        ratio = estimate / np.abs(uncorrected)
        within = np.mean((ratio > 1 / FACTOR) & (ratio < FACTOR))
        finer = options | {"tol": tol / FINER, "h_max": h_max / FINER**0.25}
        fine = points.scored(problem.model, problem.points[:PILOT_IMAGES], **finer)
        evidence = path_evidence(*(split(each, bits) for each in (found, fine)))
        confirmed, by_default = evidence.applied(correction), usual.applied(correction)
        print(
            f"  {preset:<8} path error {quantiles(estimate, '.1e')}   over the error "
            f"{quantiles(ratio, '.2f')}   within a factor 3: {within:.0%}   "
            f"error {rms(uncorrected):.1e}, {rms(corrected):.1e} corrected, "
            f"{rms(uncorrected - by_default):.1e} by default; "
            f"{evidence.words()}: {rms(uncorrected - confirmed):.1e}",
            flush=True,
        )


def split(found, bits):
    """L without its correction, and the correction, of the points of the pilot, in bits/dim."""
    correction = found.terms_nats["path_correction"] / bits
    return ((found.log_density_nats / bits - correction)[:PILOT_IMAGES], correction[:PILOT_IMAGES])


def quantiles(values, form):
    return " ".join(format(value, form) for value in np.quantile(values, QUANTILES))


def rms(values):
    return math.sqrt((values**2).mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "problems", nargs="*", metavar="PROBLEM", help=f"{', '.join(SHOWN)}, other; the first without"
    )
    parser.add_argument("--expert", help="folder of the likelihood expert of other")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    unknown = set(given.problems) - {*SHOWN, "other"}
    if unknown:
        parser.error(f"no problem {', '.join(sorted(unknown))}: there are {', '.join(SHOWN)}, other")
    if ("other" in given.problems) != (given.expert is not None):
        parser.error("other takes an --expert, which the others have")
    torch.set_num_threads(given.threads)
    _core.set_threads(given.threads)
    for name in given.problems or SHOWN:
        compared(other(given.expert, FEW) if name == "other" else PROBLEMS[name](POINTS, Path()))


if __name__ == "__main__":
    main()
