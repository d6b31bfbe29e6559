"""Whether an expert answers the same again: to an equal call, and to an image whatever lies beside it.

A row is asked for again at its place in a batch of the same size, with every second row replaced by a white
image: the same kernels do the same sums for it, so that an answer that moves has looked at its neighbours.
Float noise has no part in that, in any precision; a row alone, for which other kernels run, is compared more
coarsely.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.products import answer, unsound

# In units of eps, of the largest value: nothing is expected on a CPU, and GPUs that add in another order each
# time are told by an equal call.
IN_PLACE: Final = 64.0
OF_CHANCE: Final = 8.0  # times what equal calls differ by


def check_repeats(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor, *, batch_coupled: bool
) -> None:
    """The rows z [B, C, H, W] in other company give ``first`` again; or, where they need not, in the same.

    Raises
    ------
    ExpertError
        Nothing finite, two answers to equal calls, or an answer that depends on the neighbours.
    """
    # Rows that are finite speak for the expert; the solver meets the others.
    sound = first.isfinite().flatten(1).all(1)
    if not bool(sound.any()):
        listed = ", ".join(f"{float(value):.4g}" for value in gamma)
        raise unsound(expert, f"returned non-finite values at all of gamma = {listed}")
    eps = torch.finfo(first.dtype).eps
    largest = float(first[sound].abs().max().clamp(min=1))
    again_coarse, again_in_place = eps**0.5 * largest, IN_PLACE * eps * largest

    def apart(again: Tensor, rows: Tensor) -> float:
        return float((again - first)[rows].abs().nan_to_num(torch.inf).max()) if bool(rows.any()) else 0.0

    by_company = alone = 0.0
    if not batch_coupled:
        places = torch.arange(len(z), device=first.device)
        for kept in (places % 2 == 0, places % 2 == 1):
            white = torch.where(kept.to(z.device).view(-1, 1, 1, 1), z, torch.ones_like(z))
            by_company = max(by_company, apart(answer(expert, white, gamma, cond), sound & kept))
        middle = slice(len(z) // 2, len(z) // 2 + 1)
        if bool(sound[middle].all()):
            one = answer(expert, z[middle], gamma[middle], None if cond is None else cond[middle])
            alone = float((one - first[middle]).abs().nan_to_num(torch.inf).max())
        if by_company <= again_in_place and alone <= again_coarse:
            return
    by_chance = apart(answer(expert, z, gamma, cond), sound)
    if not by_chance <= again_coarse:
        raise unsound(
            expert,
            f"answered two equal calls differently, by {by_chance:.3g}",
            hint="it draws random numbers, from dropout perhaps, or keeps a state",
        )
    if not (by_company <= max(again_in_place, OF_CHANCE * by_chance) and alone <= again_coarse):
        raise unsound(
            expert,
            f"answers an image differently, by {max(by_company, alone):.3g}, when another is in the batch",
            hint="batch normalisation in training mode does that, or a mean over the batch; batch_coupled "
            "(--batch-coupled) allows it",
        )
