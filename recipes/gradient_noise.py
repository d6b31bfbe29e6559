"""How noisy is the gradient of a training step, by the law that its noise levels are drawn from?

The gradient of a batch is taken many times, with other images, noise and gammas: with its mean g and the mean
squared distance of a batch's gradient from g (both unbiased), the noise is that distance over |g|^2.
All laws give the same mean, so that a ratio of distances is what importance sampling gains: so many times
fewer images would do.

    python recipes/gradient_noise.py --data photos --expert bundled:photos-vdm
    python recipes/gradient_noise.py --data digits --recipe recipes/digits-vdm.toml --steps 300
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from merged_diffusion.data import load_data
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.data.images import pixel_values
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.training.aims import Aim
from merged_diffusion.training.loss_weights import NAMES, Numbers, named

LAWS = {  # sampling, and whether times are spread over the batch
    "uniform, independent": ("uniform", False),
    "uniform, spread": ("uniform", True),
    "published, spread": ("published", True),
    "importance, spread": ("importance", True),
}


def parts(data, expert, aim, batch, generator):
    """The rows of a step."""
    chosen = torch.randint(len(data), (batch,), generator=generator).numpy()
    x = torch.from_numpy(pixel_values(data.images[chosen], data.levels, expert.pixels)).float()
    return x, torch.randn(x.shape, generator=generator), aim.draw(batch, generator)


def step(data, expert, aim, batch, generator):
    """The gradient of one batch, flat; the profile learns of it."""
    x, eps, told = parts(data, expert, aim, batch, generator)
    losses, errors = aim.losses(expert, x, eps, told)
    found = torch.autograd.grad(losses.mean(), list(expert.parameters()))
    aim.learn(told, errors)
    return torch.cat([g.flatten() for g in found]).double()


def noise(data, expert, aim, batch, n):
    """|g|^2 and the mean squared distance from g over ``n`` batches, and the latter's standard error."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(60 if aim.profile is not None else 0):
        with torch.no_grad():
            x, eps, told = parts(data, expert, aim, 256, generator)
            aim.learn(told, aim.losses(expert, x, eps, told)[1])
    gradients = torch.stack([step(data, expert, aim, batch, generator) for _ in range(n)])
    mean = gradients.mean(0)
    squares = (gradients - mean).square().sum(1) * n / (n - 1)
    return (
        float(mean.square().sum() - squares.mean() / n),
        float(squares.mean()),
        float(squares.std() / n**0.5),
    )


def trained(expert, data, steps, batch):
    """A few hundred steps of Adam, for a network that is still young."""
    aim = Aim.of(named("uniform", expert.gamma_range), expert.gamma_range)
    optimiser = torch.optim.Adam(expert.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x, eps, told = parts(data, expert, aim, batch, generator)
        optimiser.zero_grad()
        aim.losses(expert, x, eps, told)[0].mean().backward()
        optimiser.step()


def main() -> None:
    """Print a row for each weight and law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--expert")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--weights", nargs="+", choices=NAMES, default=["uniform"])
    given = parser.parse_args()
    data, _ = hold_back(load_data(given.data, split="train"))
    expert = load_expert(given.expert) if given.expert else read_card(given.recipe).expert(0)
    expert.requires_grad_(True)
    if given.steps:
        trained(expert, data, given.steps, given.batch)
    expert.eval()
    numbers = Numbers() if isinstance(expert, VdmExpert) else Numbers(data_std=expert.data_std)
    print(
        f"{given.expert or given.recipe}, {given.steps} steps; {given.batches} batches of {given.batch}",
        flush=True,
    )
    for name in given.weights:
        base = None
        for law, (sampling, spreads) in LAWS.items():
            weight = named(name, expert.gamma_range, numbers)
            if sampling == "published" and type(weight.law).__name__ == "Uniform":
                continue
            aim = Aim.of(weight, expert.gamma_range, sampling=sampling, spreads=spreads)
            g, distance, error = noise(data, expert, aim, given.batch, given.batches)
            base = base or distance
            print(
                f"{name:<8} {law:<22} distance^2 {distance:.4g} +- {error:.2g}, of the first "
                f"{distance / base:.3f}; over |g|^2 {distance / g:.3g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
