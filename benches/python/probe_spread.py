"""Is the standard error that probes are reported to leave the spread that other probes show?

    python benches/python/probe_spread.py [digits] [photos] [gaussian] [importance]

digits, photos: 64 test images of the bundled pair, each from one start (its dequantisation noise stays),
with 50 sets of probes. The root mean square of the reported standard errors over the standard deviation
within images, pooled; how often intervals of 95 % hold an image's value by the exact trace at the same nodes;
95 % intervals over resampled images.

gaussian: dense Gaussians, d = 64, 2,000 means over the same 32 points. How often the mean with 1.96 standard
errors covers the mean by the exact trace on the same path (what is left is probe noise alone), and that of
the closed form (the path's error comes in); binomial 95 % intervals.

importance: a dense Gaussian, d = 64, the bound of 16 draws on 240 images: by how much probes take it from
that of exact traces, where the draws share their probes, as they do, and where each has its own.
"""

import argparse
import math
import time

import numpy as np
import torch
from scipy.stats import binomtest
from suite import points
from suite.analysis import over_images
from suite.problems import RANGE, digits, photos

from merged_diffusion import _core
from merged_diffusion.experts.gaussian import GaussianExpert, merged_log_density
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.methods import Probes
from merged_diffusion.scores.student import student_t

IMAGES, SETS = 64, 50
NETWORK_ROWS = 64
SIDE, AVERAGED, REPEATS = 8, 32, 2000
GAUSSIAN_ROWS = 512
NORMAL = 1.96
NETWORKS = {"digits": digits, "photos": photos}
PARTS = (*NETWORKS, "gaussian", "importance")
DRAWS, DRAWN = 16, 240


def probed_anew(model, x, repeats, rows, options):
    """Values and reported standard errors [repeats, N] of points x, in bits/dim, a set of probes each."""
    again = np.tile(x, (repeats, 1, 1, 1))
    found = points.scored(model, again, batch_size=rows, **options)
    bits = x[0].size * math.log(2)
    evaluations = np.sum(list(found.evaluations.values()), axis=0).mean()
    print(f"  {evaluations:.1f} evaluations an image")
    values, errors = (v.reshape(repeats, -1) / bits for v in (-found.log_density_nats, found.se_probe))
    return values, errors, found.freedom.reshape(repeats, -1)


def rms(values):
    return math.sqrt((values**2).mean())


def spread(name, repeats, options):
    """Reported over pooled, on a pair of networks."""
    problem = NETWORKS[name](IMAGES, None)
    print(f"{problem.title}: {IMAGES} images, {repeats} sets of probes each", flush=True)
    values, errors, freedom = probed_anew(problem.model, problem.points, repeats, NETWORK_ROWS, options)
    seen, told = values.var(axis=0, ddof=1), (errors**2).mean(axis=0)  # [images]
    ratio = over_images(lambda images: math.sqrt(told[images].mean() / seen[images].mean()), IMAGES)
    print(f"  pooled spread   {math.sqrt(seen.mean()):.5f} bits/dim")
    print(f"  reported        {math.sqrt(told.mean()):.5f}")
    print(f"  reported/pooled {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
    # Of a fresh probe a node the mean over all sets is the exact trace at the same nodes; one set is in it.
    away = (values - values.mean(axis=0)) / (errors * math.sqrt(1 - 1 / repeats))
    for law, reach in (("Student's t", student_t(freedom)), ("1.96", NORMAL)):
        held = over_images(
            lambda images, reach=reach: (np.abs(away) <= reach).mean(axis=0)[images].mean(), IMAGES
        )
        print(f"  held by {law:<11} {held.value:.2%} ({held.low:.2%} to {held.high:.2%}) of the images")
    print(f"  degrees of freedom: quantiles of 10, 50, 90 % {np.quantile(freedom, [0.1, 0.5, 0.9]).round(1)}")


def dense_pair():
    """Two Gaussians without independent pixels, merged in the middle of the path."""
    factors = torch.randn(
        2, SIDE**2, SIDE**2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    covariances = factors @ factors.mT / 256 + 0.02 * torch.eye(SIDE**2)
    likelihood, quality = (
        GaussianExpert((1, SIDE, SIDE), covariance=covariance, gamma_range=RANGE, name=name)
        for covariance, name in zip(covariances, ("fine", "coarse"), strict=True)
    )
    return MergedModel(likelihood, quality, Threshold.eta(0.4))


def coverage(repeats, options):
    """How often intervals of the mean cover the truth."""
    model = dense_pair()
    begin = torch.full((1,), model.gamma_range[0], dtype=torch.float64)
    normal = torch.randn(
        AVERAGED, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    z = model.legs()[0].expert.sample(normal, begin)
    x = z.numpy() / _core.alpha(model.gamma_range[0])
    print(f"dense Gaussians, d = {SIDE**2}: {repeats} means over {AVERAGED} points", flush=True)
    values, errors, _ = probed_anew(model, x, repeats, GAUSSIAN_ROWS, options)
    means, told = values.mean(axis=1), np.sqrt((errors**2).sum(axis=1)) / AVERAGED
    seen = means.std(ddof=1)
    print(f"  spread of the means {seen:.6f} bits/dim")
    print(f"  reported            {rms(told):.6f}, {rms(told) / seen:.3f} of it")
    bits = SIDE**2 * math.log(2)
    exact = points.scored(model, x, batch_size=AVERAGED, **options | {"probe": "exact", "probes": 1})
    closed = merged_log_density(z, [(leg.expert, leg.start, leg.end) for leg in model.legs()]).numpy()
    for truth, nats in (("exact trace, same path", exact.log_density_nats), ("closed form", closed)):
        away = means + nats.mean() / bits
        covered = int((np.abs(away) <= NORMAL * told).sum())
        low, high = binomtest(covered, repeats).proportion_ci(method="exact")
        print(
            f"  {truth:<23} covered {covered / repeats:.2%} ({low:.2%} to {high:.2%}), "
            f"mean error {away.mean():+.6f} ± {seen / math.sqrt(repeats):.6f}"
        )


def importance(images):
    """How far the noise of probes takes the bound of weighted draws, shared and of each draw's own."""
    torch.manual_seed(0)
    factor = torch.randn(SIDE**2, SIDE**2, dtype=torch.float64)
    covariance = 0.3 * factor @ factor.mT / SIDE**2 + 0.003 * torch.eye(SIDE**2, dtype=torch.float64)
    expert = GaussianExpert((1, SIDE, SIDE), covariance=covariance, gamma_range=RANGE)
    pixels = np.random.default_rng(0).normal(128, 25, (images, 1, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    print(f"dense Gaussian, d = {SIDE**2}: bounds of {DRAWS} draws, {images} images", flush=True)
    exact = log_likelihood(expert, pixels, importance=DRAWS, probes=Probes(kind="exact"))
    shared = Items.probe_names
    for name, named in (("shared", shared), ("own", Items.names)):
        Items.probe_names = named
        found = log_likelihood(expert, pixels, importance=DRAWS)
        away = found.bits_per_dim - exact.bits_per_dim
        se = away.std(ddof=1) / math.sqrt(images)
        print(
            f"  probes {name:<6} {away.mean():+.4f} ± {se:.4f} bits/dim; "
            f"reported of one image {rms(found.se_probe):.4f}"
        )
    Items.probe_names = shared


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without one")
    parser.add_argument("--probes", type=int, default=1, help="a node (default: 1)")
    parser.add_argument("--tol", type=float, help="of adams (default: its own)")
    parser.add_argument("--h-max", type=float, help="of adams (default: its own)")
    parser.add_argument(
        "--repeats", type=int, help=f"sets of probes (default: {SETS}, and {REPEATS} of gaussian)"
    )
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    parts = given.parts or PARTS
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    torch.set_num_threads(given.threads)
    _core.set_threads(given.threads)
    options = {
        "method": "adams",
        "probe": "fresh",
        "probes": given.probes,
        "tol": given.tol,
        "h_max": given.h_max,
    }
    for part in parts:
        begin = time.monotonic()
        if part == "importance":
            importance(given.repeats or DRAWN)
        elif part == "gaussian":
            coverage(given.repeats or REPEATS, options)
        else:
            spread(part, given.repeats or SETS, options)
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
