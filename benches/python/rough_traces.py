"""Is a network that is rougher than the nodes of its path told, or is a wrong number silent?

    python benches/python/rough_traces.py [--images N] [--quick]

a sin(b w) of every value w = U z is added to eps_hat of a Gaussian of variance 0.1 (d = 4), U the identity or
a random rotation, a b from 0.5 to 5, b to 300. Truth: DOP853 in float64 with the exact trace. Every a, b, U
is a run of N images of its own with `--quad-check all` and one probe a node. One line for each: root mean
square error in bits/dim, `se_probe`, `quadrature_error`, whether it is warned of, and the largest error in
total errors. Then the share of images within 4 and 8 total errors or warned of, and the share of smooth runs
(Gaussians of 20 variances, digits and photos in eights) that are warned of.
"""

import argparse
import math
import warnings

import numpy as np
import torch
from scipy.integrate import solve_ivp

import merged_diffusion as md
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.likelihood.quadrature_check import quadrature_check
from merged_diffusion.merge import as_model

DIM, VARIANCE = 4, 0.1
LOW, HIGH = -13.3, 5.0
BITS = DIM * math.log(2)
FREQUENCIES = (5, 20, 50, 100, 300)
SLOPES = (0.5, 1.5, 5.0)
SMOOTH_VARIANCES = np.geomspace(0.01, 1.0, 20)


class Rough(torch.nn.Module):
    """eps_hat of a Gaussian and U^T a sin(b U z)."""

    name, levels, image_shape, conditional, pixels = "rough", 256, (1, 2, 2), False, "centred"
    gamma_range = (LOW, HIGH)

    def __init__(self, a, b, rotation, variance=VARIANCE):
        super().__init__()
        self.a, self.b, self.variance, self.rotation = a, b, variance, torch.from_numpy(rotation)
        self.eval()

    def forward(self, z, gamma, cond=None):  # noqa: ARG002  (the protocol's)
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        u = self.rotation.to(z.dtype)
        waves = self.a * torch.sin(self.b * (z.flatten(1) @ u.T)) @ u
        return square.sqrt() * z / (self.variance * (1 - square) + square) + waves.view_as(z)

    def log_density(self, z):
        """Log p of one z [4] at gamma LOW, in nats."""
        u = self.rotation.numpy()

        def drift(gamma, state):
            z, square = state[:DIM], 1 / (1 + math.exp(-gamma))
            sigma, waves = math.sqrt(square), self.b * (u @ z)
            scale = sigma / (self.variance * (1 - square) + square)
            eps_hat = scale * z + u.T @ (self.a * np.sin(waves))
            trace = DIM * scale + self.a * self.b * np.cos(waves).sum()
            return np.append(0.5 * (sigma * eps_hat - square * z), 0.5 * (sigma * trace - DIM * square))

        path = solve_ivp(drift, (LOW, HIGH), np.append(z, 0.0), method="DOP853", rtol=1e-10, atol=1e-12)
        end, variance = path.y[:DIM, -1], 1 / (1 + math.exp(-HIGH))
        return -0.5 * (end @ end / variance + DIM * math.log(2 * math.pi * variance)) + path.y[DIM, -1]


def measured(expert, points):
    """The run with a companion on every image; its warning is looked at here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = Options(
            dequantise="none",
            probes=md.Probes(companion=True),
            machine=md.Machine(dtype="float64"),
            accept=md.Accept(gradient=expert.name),  # differences of a hundredth of sigma step over waves
        )
        return score_points(as_model(expert), points, options)


def rms(values):
    return math.sqrt(np.mean(np.square(values)))


def rough(n_images, frequencies, slopes):
    """(error in total errors [N], whether it is warned of) of every run."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, math.sqrt(VARIANCE), (n_images, 1, 2, 2))
    dense, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    alpha = math.sqrt(1 / (1 + math.exp(LOW)))
    for name, rotation in (("diagonal", np.eye(DIM)), ("dense", dense)):
        for b in frequencies:
            for slope in slopes:
                expert = Rough(slope / b, b, rotation)
                found = measured(expert, points)
                truth = np.array([expert.log_density(alpha * x.ravel()) for x in points])
                off = np.abs(found.log_density_nats - truth)
                ratio, check = off / found.total_error, quadrature_check(found)
                print(
                    f"{name:<8} b {b:>3} a b {slope:<3}  error {rms(off) / BITS:.1e}  se_probe "
                    f"{rms(found.se_probe) / BITS:.1e}  quadrature {rms(found.quadrature_error) / BITS:.1e}"
                    f"  {'warned' if check.is_rough else 'silent'}  at most {ratio.max():.1f} total errors",
                    flush=True,
                )
                yield ratio, check.is_rough, found.se_probe if name == "diagonal" else None


def smooth(eights):
    """Whether each smooth run is warned of."""
    rng = np.random.default_rng(1)
    for variance in SMOOTH_VARIANCES:
        points = rng.normal(0, math.sqrt(variance), (8, 1, 2, 2))
        yield quadrature_check(measured(Rough(0.0, 1.0, np.eye(DIM), variance), points)).is_rough
    for name in ("digits", "photos"):
        pair, data = md.load_pair(name), md.load_data(name)
        for eight in range(eights):
            images = data.select(ids=(8 * eight, 8 * eight + 8))
            for probes in (1, 4):
                found = md.log_likelihood(pair, images, probes=md.Probes(probes, companion=True))
                yield quadrature_check(found).is_rough


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="two frequencies, one slope, few smooth runs")
    given = parser.parse_args()
    frequencies, slopes = ((20, 100), (1.5,)) if given.quick else (FREQUENCIES, SLOPES)
    runs = list(rough(given.images, frequencies, slopes))
    for limit in (4, 8):
        told = np.concatenate([(ratio <= limit) | warned for ratio, warned, _ in runs])
        silent = np.concatenate([ratio <= limit for ratio, warned, _ in runs if not warned] or [[True]])
        print(
            f"within {limit} total errors or warned: {told.mean():.2%} of {len(told)}; of {len(silent)} that "
            f"are not warned of {silent.mean():.2%} within"
        )
    print(f"diagonal: se_probe at most {max(errors.max() for *_, errors in runs if errors is not None):.1e}")
    warned = list(smooth(1 if given.quick else 10))
    print(f"smooth runs warned of: {sum(warned)} of {len(warned)}")


if __name__ == "__main__":
    main()
