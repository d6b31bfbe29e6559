"""Train or draw the small feature networks again, and the statistics of train that come with them.

    python recipes/quality_features.py [--out DIR] [--install] [--neighbours] [NAME ...]

digits: the classifier learns on the four fifths of train that are not held back; its accuracy on the fifth
that is held back has to reach 98 %, that on test is printed. photos, scenes: the weights are drawn, not
trained. All: the law of the features over all of train, features for the kernel distance, and what an ideal
model would score at n images (n of train with replacement, against train); of 8 x 8 images that of the
pixels, too. Minutes on one core. ``--neighbours`` computes again what precision, recall, density and coverage
of train are, into the statistics in the package, and leaves all else in them as it is.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

import merged_diffusion as md
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.data.images import Data, chosen_positions, pixel_values
from merged_diffusion.files.reading import sha256_of
from merged_diffusion.quality import Moments, frechet_distance
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.features import BUNDLED, SMALL, extractor, of_network, pixels
from merged_diffusion.quality.manifolds import METRICS, MOST, Manifolds, rounded
from merged_diffusion.quality.networks import Classifier, RandomConvolutions
from merged_diffusion.quality.statistics import Statistics, collect
from merged_diffusion.quality.statistics_files import read_statistics, write_statistics

N_STORED: Final = {"digits": 1437, "photos": 4000, "scenes": 4000}
N_BALLS: Final = {"digits": 719}  # of the stored: the other half of train is left to be drawn from
MOST_PIXELS: Final = 8  # a side: the covariance of more is too large a file
FLOOR_AT: Final = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 50, 70, 100, 200, 500, 1000, 2000, 5000, 10_000)
BALLS_FROM: Final = 16  # images; of fewer the values say little
BALLS_IMAGES: Final = 6000  # over all repeats at one n: shares are known to 0.01 and better
FLOOR_IMAGES: Final = 40_000  # over all repeats at one n
LEAST_REPEATS: Final = 12
MOST_REPEATS: Final = 2000
STEPS: Final = 3000
BATCH: Final = 128
LEARNING_RATE: Final = 2e-3
NOISE: Final = 0.1  # of an input, in units of its range [-1, 1]
SMOOTHING: Final = 0.05
LEAST_ACCURACY: Final = 0.98


def main() -> None:
    """Make the files, and copy them into the package on demand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SMALL), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/features"))
    parser.add_argument("--install", action="store_true", help="copy the results into the package")
    parser.add_argument("--neighbours", action="store_true", help="only those, in the package's statistics")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.names:
        if options.neighbours:
            with_neighbours(name, BUNDLED / f"{name}.npz", options.out / f"{name}.npz")
            if options.install:
                shutil.copyfile(options.out / f"{name}.npz", BUNDLED / f"{name}.npz")
            continue
        train = md.load_data(name, split="train")
        network = trained(train) if name == "digits" else drawn(name)
        files = made(name, network, train, options.out)
        if options.install:
            BUNDLED.mkdir(exist_ok=True)
            for file in files:
                shutil.copyfile(file, BUNDLED / file.name)


def trained(train: Data) -> Classifier:
    """The classifier of digits, checked on held-back images."""
    torch.manual_seed(0)
    fit, held = hold_back(train)
    network = Classifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    x, labels = values(fit), torch.from_numpy(fit.labels)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,))
        logits = network.logits(x[rows] + NOISE * torch.randn(BATCH, *x.shape[1:]))
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    accuracy = {"held back": correct(network, held), "test": correct(network, md.load_data("digits"))}
    print("digits: accuracy " + ", ".join(f"{value:.4f} ({part})" for part, value in accuracy.items()))
    if accuracy["held back"] < LEAST_ACCURACY:
        raise SystemExit("the classifier is not good enough; look at the recipe")
    return network


def drawn(name: str) -> RandomConvolutions:
    """The random convolutions of a set."""
    network = SMALL[name].make()
    network.draw()
    return network


@torch.no_grad()
def correct(network: Classifier, data: Data) -> float:
    """The share of images that are put into their class."""
    return float((network.logits(values(data)).argmax(dim=1).numpy() == data.labels).mean())


def values(data: Data) -> torch.Tensor:
    """What the networks see."""
    return torch.from_numpy(pixel_values(data.images, data.levels)).float()


@torch.no_grad()
def made(name: str, network: Classifier | RandomConvolutions, train: Data, out: Path) -> list[Path]:
    """Weights and statistics as files."""
    _, shape, levels = SMALL[name]
    network.eval()
    raw = of_network(name, network, "", shape, levels)
    network.whitening.fit(torch.from_numpy(raw(train.images)))
    weights = out / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    extractors = {f"{name}.npz": of_network(name, network, sha256_of(weights), shape, levels)}
    if max(shape) <= MOST_PIXELS:
        extractors[f"{name}-pixels.npz"] = pixels(shape, levels)
    for file, extract in extractors.items():
        stored = N_STORED[name] if extract.name != "pixels" else 0
        statistics = collect(train, extract, stored, groups=False)
        if statistics.reference is not None:
            # Half precision moves a kernel distance by 1e-6 of its terms, and halves the file.
            statistics = replace(statistics, reference=statistics.reference.astype(np.float16))
        rows = floor(extract(train.images), statistics)
        write_statistics(out / file, replace(statistics, floor=rows))
        if stored:
            with_neighbours(name, out / file, out / file, extract)
    return [weights, *(out / file for file in extractors)]


def floor(features: np.ndarray, statistics: Statistics) -> tuple[tuple[int, float], ...]:
    """(n, mean distance from train of n of its images), drawn with replacement as a model draws them."""
    rows = []
    for n in FLOOR_AT:
        random = np.random.default_rng(n)
        distances = []
        for _ in range(min(MOST_REPEATS, max(LEAST_REPEATS, FLOOR_IMAGES // n))):
            moments = Moments(features.shape[1])
            moments.add(features[random.integers(len(features), size=n)], np.arange(n))
            distances.append(frechet_distance(moments, statistics.law).value)
        rows.append((n, float(np.mean(distances))))
        print(f"  floor at {n}: {rows[-1][1]:.4g} ({len(distances)} draws, sd {np.std(distances):.2g})")
    return tuple(rows)


def with_neighbours(name: str, source: Path, target: Path, extract: Extractor | None = None) -> None:
    """Statistics and what train's neighbours say.

    The balls are spanned by the stored features, of digits by a half of them; what n images of train score is
    that of n others of them, drawn without replacement: a second draw of an image would lie in its first.
    """
    statistics, train = read_statistics(source), md.load_data(name, split="train")
    statistics = replace(statistics, calibration=Calibration(N_BALLS.get(name)))
    features = (extract or extractor(name))(train.images)
    stored = np.sort(chosen_positions(len(train), len(statistics.reference)))
    if N_BALLS.get(name):
        stored = stored[np.sort(chosen_positions(len(stored), N_BALLS[name]))]
    others = np.setdiff1d(np.arange(len(train)), stored)
    most = min(MOST, len(others))
    counts = sorted({*(n for n in FLOOR_AT if BALLS_FROM <= n <= most), most})
    balls, rows = Manifolds(statistics.ball_features), {metric: [] for metric in METRICS}
    for n in counts:
        random, found = np.random.default_rng(n), []
        for _ in range(max(1, BALLS_IMAGES // n)):
            drawn = rounded(features[random.choice(others, n, replace=False)], statistics.reference.dtype)
            shares = balls.of(drawn, np.zeros(n, dtype=np.int64))  # one group: no error is asked for
            found.append({key: share.value for key, share in shares.items()})
        for metric in METRICS:
            rows[metric].append((n, float(np.mean([values[metric] for values in found]))))
        print(
            f"  {name} at {n}: " + ", ".join(f"{key} {rows[key][-1][1]:.3f}" for key in METRICS), flush=True
        )
    floors = {metric: tuple(values) for metric, values in rows.items()}
    with np.load(source, allow_pickle=False) as held:  # so that the other arrays keep their bits
        arrays = {key: held[key] for key in held.files}
    found = Calibration(N_BALLS.get(name), floors)
    np.savez(target, allow_pickle=False, **arrays | {"neighbours": np.array(found.as_json())})


if __name__ == "__main__":
    main()
