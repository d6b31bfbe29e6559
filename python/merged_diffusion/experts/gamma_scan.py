"""A scan of an expert along one image: eps_hat and a product every 0.03 of gamma, for `experts/spikes.py`.

Along z = alpha x + sigma eps, with one x and one eps, from the least gamma of its range to the greatest: the
states that it was trained on, which bend in gamma no faster than a flow, and need none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask, fenced, pull
from merged_diffusion.experts.memory import Rows
from merged_diffusion.experts.spikes import Along, GammaScan, n_points


def scan_gamma(
    expert: Expert,
    x: Tensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    cond: Tensor | None = None,
) -> GammaScan:
    """Scan an expert over its whole range, along one image x [C, H, W] of its space of pixels.

    It has to be frozen and on the device (`scores.prepared`). ``rows`` of a call are all of one image at
    different gammas; ``cond`` [1, ...] is the image's.
    """
    low, high = expert.gamma_range
    gamma = torch.linspace(low, high, n_points(low, high), dtype=torch.float64)
    normal = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=normal, dtype=torch.float64)
    probe = 2 * torch.randint(0, 2, x.shape, generator=normal, dtype=torch.float64) - 1
    along, traces = Along(len(gamma)), list[Tensor]()
    fewer, start = Rows(rows, device), 0
    while start < len(gamma):
        with fewer.attempt() as size:
            # Padded: another number of rows is another network to a compiler, and other bits to all.
            at = torch.arange(start, start + size).clamp(max=len(gamma) - 1)
            eps_hat, q = _asked(expert, (x.double().cpu(), noise, probe), gamma[at], (device, dtype), cond)
            n = min(size, len(gamma) - start)
            along.add(eps_hat[:n].numpy())
            traces.append(q[:n])
            start += n
    return along.scan(gamma.numpy(), torch.cat(traces).numpy())


def _asked(
    expert: Expert,
    image: tuple[Tensor, Tensor, Tensor],
    gamma: Tensor,
    place: tuple[torch.device, torch.dtype],
    cond: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Float64 eps_hat [B, d] and q [B] of x, eps and v [C, H, W] at gamma [B]."""
    (x, noise, probe), (device, dtype) = image, place
    alpha, sigma = (schedules.per_image(f(gamma), x[None]) for f in (schedules.alpha, schedules.sigma))
    z = (alpha * x + sigma * noise).to(dtype).to(device).requires_grad_()
    v = probe.to(dtype).to(device).expand_as(z)
    labels = None if cond is None else cond[:1].expand(len(z), *cond.shape[1:])
    with fenced(grad=True):
        eps_hat = ask(expert, z, gamma.to(schedules.home(device)), labels, grad=True)
    pulled = pull(expert, eps_hat, z, v) if eps_hat.requires_grad else None
    out = schedules.widened(eps_hat.detach()).cpu().flatten(1)
    products = torch.zeros(len(z), 1) if pulled is None else (pulled * v).flatten(1)
    return out, schedules.sigma(gamma) * schedules.widened(products).cpu().sum(1)
