"""Is a network that is rougher than the nodes of its path told, or is a wrong number silent?

    python benches/python/rough_traces.py [--images N] [--quick] [--part waves|spikes|smooth]

a sin(b w) of every value w = U z is added to eps_hat of a Gaussian of variance 0.1 (d = 4), U the identity or
a random rotation, a b from 0.5 to 5, b to 300. Truth: DOP853 in float64 with the exact trace. Every a, b, U
is a run of N images of its own with `--quad-check all` and one probe a node. One line for each: root mean
square error in bits/dim, `se_probe`, `quadrature_error`, whether it is warned of, and the largest error in
total errors. Spikes are h M z times a Gaussian bump in gamma, of full width 0.03 to 3 at half of its height,
at five gammas, M the identity or a rotated diagonal; the trace of one comes to 0.003 to 0.3 bits/dim. Then
the share of images within 4 and 8 total errors or warned of, by quadrature or by a scan of the first image,
and the share of smooth runs (Gaussians of 20 variances; digits and photos in eights, each with a scan of its
first image under both experts) that are warned of.
"""

import argparse
import itertools
import math
import warnings

import numpy as np
import torch
from scipy.integrate import solve_ivp

import merged_diffusion as md
from merged_diffusion.experts.gamma_scan import scan_gamma
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.likelihood.quadrature_check import quadrature_check
from merged_diffusion.merge import as_model
from merged_diffusion.scores.inputs import examples
from merged_diffusion.scores.prepared import ready

DIM, VARIANCE = 4, 0.1
LOW, HIGH = -13.3, 5.0
BITS = DIM * math.log(2)
FREQUENCIES = (5, 20, 50, 100, 300)
SLOPES = (0.5, 1.5, 5.0)
SMOOTH_VARIANCES = np.geomspace(0.01, 1.0, 20)


WIDTHS = (0.03, 0.1, 0.3, 0.5, 1.0, 3.0)
CENTRES = (-9.0, -5.0, -2.0, 0.0, 2.0)
SIZES = (0.003, 0.03, 0.3)
SIGMAS = 1 / math.sqrt(8 * math.log(2))  # of a Gaussian, over its full width at half of its height
PLACE = md.Machine(device="cpu", dtype="float64").here(lambda _: 64)


class Gaussian(torch.nn.Module):
    """eps_hat of a Gaussian, and what is added to it."""

    name, levels, image_shape, conditional, pixels = "rough", 256, (1, 2, 2), False, "centred"
    gamma_range = (LOW, HIGH)
    cuts, longest = (), math.inf
    """Where the truth's integration is cut, and its longest step between the first and the last cut."""

    def __init__(self, variance=VARIANCE):
        super().__init__()
        self.variance = variance
        self.eval()

    def added(self, z, gamma):  # noqa: ARG002
        """To eps_hat at z [B, 4] and gamma [B, 1]."""
        return torch.zeros_like(z)

    def added_once(self, z, gamma):  # noqa: ARG002
        """The same of one z [4] in numpy, and its trace."""
        return np.zeros_like(z), 0.0

    def forward(self, z, gamma, cond=None):  # noqa: ARG002  (the protocol's)
        square = torch.sigmoid(gamma).to(z.dtype).view(-1, 1, 1, 1)
        own = square.sqrt() * z / (self.variance * (1 - square) + square)
        return own + self.added(z.flatten(1), gamma.to(z.dtype).view(-1, 1)).view_as(z)

    def log_density(self, z):
        """Log p of one z [4] at gamma LOW, in nats."""

        def drift(gamma, state):
            z, square = state[:DIM], 1 / (1 + math.exp(-gamma))
            sigma = math.sqrt(square)
            scale = sigma / (self.variance * (1 - square) + square)
            more, bend = self.added_once(z, gamma)
            eps_hat, trace = scale * z + more, DIM * scale + bend
            return np.append(0.5 * (sigma * eps_hat - square * z), 0.5 * (sigma * trace - DIM * square))

        state, cuts = np.append(z, 0.0), (LOW, *self.cuts, HIGH)
        for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
            longest = self.longest if 0 < number < len(cuts) - 2 else math.inf
            path = solve_ivp(
                drift, (start, stop), state, method="DOP853", rtol=1e-10, atol=1e-12, max_step=longest
            )
            state = path.y[:, -1]
        end, variance = state[:DIM], 1 / (1 + math.exp(-HIGH))
        return -0.5 * (end @ end / variance + DIM * math.log(2 * math.pi * variance)) + state[DIM]


class Rough(Gaussian):
    """And U^T a sin(b U z)."""

    def __init__(self, a, b, rotation):
        super().__init__()
        self.a, self.b, self.rotation = a, b, torch.from_numpy(rotation)

    def added(self, z, gamma):  # noqa: ARG002
        u = self.rotation.to(z.dtype)
        return self.a * torch.sin(self.b * (z @ u.T)) @ u

    def added_once(self, z, gamma):  # noqa: ARG002
        u = self.rotation.numpy()
        waves = self.b * (u @ z)
        return u.T @ (self.a * np.sin(waves)), self.a * self.b * np.cos(waves).sum()


class Spiked(Gaussian):
    """And a bump in gamma times h M z, the trace of which comes to ``size`` bits/dim."""

    def __init__(self, size, width, centre, matrix):
        super().__init__()
        self.width, self.centre, self.matrix = width * SIGMAS, centre, torch.from_numpy(matrix)
        sigma = math.sqrt(1 / (1 + math.exp(-centre)))
        area = sigma * self.width * math.sqrt(2 * math.pi) * np.trace(matrix) / DIM
        self.height = size * 2 * math.log(2) / area
        edges = (centre + k * self.width for k in (-6, -2, 0, 2, 6))
        self.cuts, self.longest = tuple(at for at in edges if LOW < at < HIGH), self.width

    def added(self, z, gamma):
        bump = self.height * torch.exp(-0.5 * ((gamma - self.centre) / self.width) ** 2)
        return bump * (z @ self.matrix.to(z.dtype))

    def added_once(self, z, gamma):
        bump = self.height * math.exp(-0.5 * ((gamma - self.centre) / self.width) ** 2)
        return bump * (self.matrix.numpy() @ z), bump * float(self.matrix.trace())


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


def has_spikes(expert, image, place=PLACE):
    """What a scan of one image says."""
    with ready([expert], place):
        told = scan_gamma(
            expert, torch.from_numpy(image), device=place.device, dtype=place.dtype, rows=place.rows
        )
        return bool(told.over(*expert.gamma_range).spikes)


def judged(name, expert, points, alpha):
    """(error in total errors [N], whether it is warned of, `se_probe` [N]) of a run."""
    found = measured(expert, points)
    truth = np.array([expert.log_density(alpha * x.ravel()) for x in points])
    off = np.abs(found.log_density_nats - truth)
    ratio, is_rough = off / found.total_error, quadrature_check(found).is_rough
    spiked = has_spikes(expert, points[0])
    warned = ", ".join(word for word, is_so in (("rough", is_rough), ("spike", spiked)) if is_so) or "silent"
    print(
        f"{name:<38} error {rms(off) / BITS:.1e}  se_probe {rms(found.se_probe) / BITS:.1e}  quadrature "
        f"{rms(found.quadrature_error) / BITS:.1e}  {warned}; at most {ratio.max():.1f} total errors",
        flush=True,
    )
    return ratio, is_rough or spiked, found.se_probe


def rough(n_images, frequencies, slopes):
    """`judged` of waves in z."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, math.sqrt(VARIANCE), (n_images, 1, 2, 2))
    dense, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    alpha = math.sqrt(1 / (1 + math.exp(LOW)))
    for name, rotation in (("diagonal", np.eye(DIM)), ("dense", dense)):
        for b in frequencies:
            for slope in slopes:
                expert = Rough(slope / b, b, rotation)
                found = judged(f"{name} b {b} a b {slope}", expert, points, alpha)
                yield *found[:2], found[2] if name == "diagonal" else None


def spikes(n_images, widths, centres, sizes):
    """`judged` of spikes in gamma."""
    rng = np.random.default_rng(2)
    points = rng.normal(0, math.sqrt(VARIANCE), (n_images, 1, 2, 2))
    u, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    alpha = math.sqrt(1 / (1 + math.exp(LOW)))
    for name, matrix in (("diagonal", np.eye(DIM)), ("dense", u @ np.diag([2.0, 1.0, 0.5, 0.5]) @ u.T)):
        for width in widths:
            for centre in centres:
                at = centre + rng.uniform(-0.35, 0.35)
                for size in sizes:
                    title = f"{name} width {width} at {at:.2f} size {size}"
                    yield *judged(title, Spiked(size, width, at, matrix), points, alpha)[:2], None


def smooth(eights):
    """Whether each smooth run is warned of."""
    rng = np.random.default_rng(1)
    for variance in SMOOTH_VARIANCES:
        points = rng.normal(0, math.sqrt(variance), (8, 1, 2, 2))
        expert = Gaussian(variance)
        yield quadrature_check(measured(expert, points)).is_rough or has_spikes(expert, points[0])
    place = md.Machine(device="cpu", dtype="float32").here(lambda _: 64)
    for name in ("digits", "photos"):
        pair, data = md.load_pair(name), md.load_data(name)
        for eight in range(eights):
            images = data.select(ids=(8 * eight, 8 * eight + 8))
            spiked = any(has_spikes(leg.expert, examples(images)[0], place) for leg in pair.legs())
            for probes in (1, 4):
                found = md.log_likelihood(pair, images, probes=md.Probes(probes, companion=True))
                yield quadrature_check(found).is_rough or spiked


def told(runs):
    """How many images are within 4 and 8 total errors, or warned of."""
    for limit in (4, 8):
        within = np.concatenate([(ratio <= limit) | warned for ratio, warned, _ in runs])
        silent = np.concatenate([ratio <= limit for ratio, warned, _ in runs if not warned] or [[True]])
        print(
            f"within {limit} total errors or warned: {within.mean():.2%} of {len(within)}; of {len(silent)} "
            f"that are not warned of {silent.mean():.2%} within"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="few frequencies, spikes and smooth runs")
    parser.add_argument(
        "--part", choices=("waves", "spikes", "smooth"), action="append", help="may be repeated; all without"
    )
    given = parser.parse_args()
    parts = given.part or ("waves", "spikes", "smooth")
    torch.set_num_threads(1)
    if "waves" in parts:
        frequencies, slopes = ((20, 100), (1.5,)) if given.quick else (FREQUENCIES, SLOPES)
        runs = list(rough(given.images, frequencies, slopes))
        told(runs)
        largest = max(errors.max() for *_, errors in runs if errors is not None)
        print(f"diagonal: se_probe at most {largest:.1e}", flush=True)
    if "spikes" in parts:
        few = (WIDTHS[:2], CENTRES[:1], SIZES[1:])
        told(list(spikes(given.images, *(few if given.quick else (WIDTHS, CENTRES, SIZES)))))
    if "smooth" in parts:
        warned = list(smooth(1 if given.quick else 10))
        print(f"smooth runs warned of: {sum(warned)} of {len(warned)}", flush=True)


if __name__ == "__main__":
    main()
