"""How much of the noise of one probe do k colours leave, by exact Jacobians?

    python benches/python/probe_colours.py [digits] [photos]

Of the bundled pairs at their recommended threshold, at 12 gammas along each leg, images noised afresh: the
sum over pairs of values of one colour of ((J + J^T)_ij)^2 sigma^2, over that over all pairs. Seconds; no
seeds of probes come in.
"""

import argparse
import math

import numpy as np
import torch

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.data.images import pixel_values
from merged_diffusion.ode.lattice import colours

IMAGES, GAMMAS = 2, 12
NUMBERS = (2, 3, 4, 9, 16)


def noise_left(name):
    """The share that each number of colours leaves."""
    model, data = md.load_pair(name), md.load_data(name)[:IMAGES]
    shape = data.images.shape[1:]
    x = torch.from_numpy(pixel_values(data.images, data.levels)).float()
    random = np.random.default_rng(0)
    one, left = 0.0, dict.fromkeys(NUMBERS, 0.0)
    for leg in model.legs():
        for gamma in leg.start + (leg.end - leg.start) * (np.arange(GAMMAS) + 0.5) / GAMMAS:
            sigma = math.sqrt(_core.sigma_squared(gamma))
            z = _core.alpha(gamma) * x + sigma * torch.from_numpy(random.normal(size=x.shape)).float()
            clock = torch.full((1,), gamma, dtype=torch.float64)
            for row in z.split(1):

                def eps_hat(flat, leg=leg, clock=clock):
                    return leg.expert(flat.view(1, *shape), clock).flatten()

                jacobian = torch.autograd.functional.jacobian(eps_hat, row.flatten()).double().numpy()
                pairs = np.triu((jacobian + jacobian.T) ** 2, 1) * sigma**2 * (leg.end - leg.start)
                one += pairs.sum()
                for k in NUMBERS:
                    own = colours(k, shape)
                    left[k] += pairs[np.equal.outer(own, own)].sum()
    return {k: value / one for k, value in left.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["digits", "photos"], metavar="NAME")
    torch.set_num_threads(1)
    for name in parser.parse_args().names:
        shares = noise_left(name)
        print(f"{name}: " + ", ".join(f"{k} colours 1/{1 / share:.1f}" for k, share in shares.items()))


if __name__ == "__main__":
    main()
