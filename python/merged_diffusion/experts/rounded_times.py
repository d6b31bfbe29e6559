"""Whether a network cuts the fraction off the timesteps that it is given.

It then answers alike from one whole step to the next, and its clock is half a step off on average. Who rounds
is off by nothing on average, and is the same model as with ``whole_steps=True``.
"""

from __future__ import annotations

from math import floor
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertWarning
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.likely import AtTimes
from merged_diffusion.experts.other_words import changed
from merged_diffusion.experts.products import answer
from merged_diffusion.experts.timetables import Timetable

LEAST: Final = 8.0  # steps of what it is asked over
ALIKE: Final = 32.0  # times eps, of the largest value
UNLIKE: Final = 0.02  # of the largest value: at far times it answers otherwise


def warn_if_cut(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, *, about: str | None = None
) -> bool:
    """Warn of a network that cuts timesteps, by its answers to z [B, C, H, W]; whether."""
    declared = expert.expert if isinstance(expert, Centred) else expert
    if not isinstance(declared, CallableExpert) or declared.time != "timestep":
        return False
    table = declared.clock
    if not isinstance(table, Timetable) or (isinstance(declared.net, AtTimes) and declared.net.whole):
        return False
    ends = table(torch.stack((gamma[0], gamma[-1]))).tolist()
    low, width = min(ends), abs(ends[1] - ends[0])
    if width < LEAST:
        return False
    first, second = (floor(low + part * width) for part in (0.3, 0.6))
    times = torch.tensor([first + 0.1, first + 0.9, second + 0.1, second + 0.9], dtype=torch.float64)
    other = changed(expert, clock=lambda given: times.to(given.device))
    middle = len(z) // 2
    rows = torch.full((len(times),), middle)
    out = schedules.widened(
        answer(other, z[rows], gamma[rows], None if cond is None else cond[rows.to(cond.device)])
    )
    if not bool(out.isfinite().all()):
        return False
    largest = max(1.0, float(out.abs().max()))
    alike = max(float((out[a] - out[b]).abs().max()) for a, b in ((0, 1), (2, 3)))
    unlike = float((out[0] - out[2]).abs().max())
    if alike > ALIKE * torch.finfo(z.dtype).eps * largest or unlike < UNLIKE * largest:
        return False
    text = (
        f"expert {expert.name} cuts the fraction off the timesteps that it is given: at {first}.1 it answers "
        f"as at {first}.9, so that its clock is half a step off on average; write "
        "CallableExpert.ddpm(net, whole_steps=True, ...), which rounds, or let it take fractions"
    )
    warn_caller(ExpertWarning(text, about))
    return True
