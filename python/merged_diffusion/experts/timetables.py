"""The time of a network that was trained on a discrete schedule: gamma -> t between a table's entries."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from merged_diffusion.errors import ExpertRangeError, UsageError

ScheduleName = Literal["linear", "cosine", "sigmoid", "diffusers-sigmoid"]
SCHEDULES: Final = get_args(ScheduleName)
WHICH_SIGMOID: Final = (
    "sigmoid is that of denoising-diffusion-pytorch, gamma -8.11 to 15.02 at 1000 steps; what diffusers "
    "calls sigmoid is diffusers-sigmoid, gamma -8.81 to 10.13"
)
RESCALED: Final = 1000  # steps that a network counts to, whose times are rescaled
MOST_BETA: Final = 0.999
LEAST_STEPS: Final = 21  # with fewer the linear schedule ends at a beta of 1


class Timetable(nn.Module):
    """Time at which a tabulated schedule reaches gamma, by linear interpolation: monotone as the table is.

    Parameters
    ----------
    gammas
        [N], strictly rising or falling, at times 0, 1, ..., N - 1; ``unit``: at 0, ..., 1, evenly.
    gamma_range
        What the table must cover. A gamma beyond the table (by the 0.008 between ``ends`` and ``centred``
        pixels) takes the time at the table's end, the last that the network knows.
    is_state
        Whether the table belongs to the state of the expert, whose card says it otherwise.
    """

    def __init__(
        self,
        gammas: Tensor | npt.ArrayLike,
        *,
        unit: bool,
        gamma_range: tuple[float, float],
        is_state: bool = True,
    ) -> None:
        super().__init__()
        self.training = False
        values = gammas.detach().cpu().numpy() if isinstance(gammas, Tensor) else gammas
        table = np.array(values, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2 or not np.isfinite(table).all():
            raise UsageError(f"schedule of shape {table.shape}, where [N] finite gammas are needed, N >= 2")
        times = np.arange(len(table)) / (len(table) - 1 if unit else 1)
        if table[0] > table[-1]:
            table, times = table[::-1].copy(), times[::-1].copy()
        stuck = np.flatnonzero(np.diff(table) <= 0)
        if len(stuck):
            raise UsageError(f"schedule is not strictly monotone: see its gammas near {table[stuck[0]]:.6g}")
        if table[0] > gamma_range[0] or table[-1] < gamma_range[1]:
            raise ExpertRangeError(
                f"gamma_range = [{gamma_range[0]:.6g}, {gamma_range[1]:.6g}] goes beyond the schedule, "
                f"which covers [{table[0]:.6g}, {table[-1]:.6g}]",
                expected=(float(table[0]), float(table[-1])),
                found=gamma_range,
            )
        # As bits: .to(torch.float32) must not round the clock.
        self.register_buffer("_gammas", torch.from_numpy(table).view(torch.int64), persistent=is_state)
        self.register_buffer("_times", torch.from_numpy(times).view(torch.int64), persistent=is_state)

    @property
    def last(self) -> float:
        """The greatest time."""
        return float(self.get_buffer("_times").view(torch.float64).max())

    def forward(self, gamma: Tensor) -> Tensor:
        """Time, float64 [B], at gamma [B]."""
        bits = (self.get_buffer(name).to(gamma.device) for name in ("_gammas", "_times"))
        gammas, times = (buffer.view(torch.float64) for buffer in bits)
        right = torch.searchsorted(gammas, gamma.double()).clamp(1, len(gammas) - 1)
        below, above = gammas[right - 1], gammas[right]
        part = ((gamma - below) / (above - below)).clamp(0, 1)
        return torch.lerp(times[right - 1], times[right], part)

    def at(self, time: Tensor) -> Tensor:
        """gamma, float64 [B], at the entries ``time`` [B] of a table that is not ``unit``."""
        gammas, times = (
            self.get_buffer(name).to(time.device).view(torch.float64) for name in ("_gammas", "_times")
        )
        return gammas[(time - times[0]).abs().long()]


def step_gammas(
    abar: Tensor | npt.ArrayLike | None, schedule: str | None, steps: int
) -> npt.NDArray[np.float64]:
    """Gammas [N] of the steps of a table of abar, else of a schedule that has a name."""
    if (abar is None) == (schedule is None):
        raise UsageError(
            "alphas_cumprod and schedule were both given" if schedule else "no schedule was given",
            hint=f"give the table alphas_cumprod [N], or schedule = {' or '.join(SCHEDULES)}; "
            + WHICH_SIGMOID,
        )
    if abar is not None:
        given = abar.detach().cpu().numpy() if isinstance(abar, Tensor) else abar
        table: npt.NDArray[np.float64] = np.array(given, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2 or not ((table > 0) & (table < 1)).all():
            raise UsageError("alphas_cumprod: [N] numbers between 0 and 1 are needed, N >= 2")
        if not (np.diff(table) < 0).all():
            raise UsageError(
                "alphas_cumprod does not fall from step to step, as the share of the image in it does",
                hint="give it in the order of the timesteps, step 0 the least noise",
            )
    elif schedule is not None and schedule in SCHEDULES:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < LEAST_STEPS:
            raise UsageError(f"steps = {steps!r} is no whole number from {LEAST_STEPS} up")
        table = np.cumprod(1 - _betas(schedule, steps), dtype=np.float64)
    else:
        raise UsageError(f"schedule = {schedule!r}, possible are {', '.join(SCHEDULES)}", hint=WHICH_SIGMOID)
    gammas: npt.NDArray[np.float64] = np.log1p(-table) - np.log(table)
    return gammas


def _betas(schedule: str, steps: int) -> npt.NDArray[np.float64]:
    """Of Ho et al. 2020, Nichol and Dhariwal 2021 (eq. 17), Jabri et al. 2023 (start -3, end 3).

    And what diffusers calls ``sigmoid`` (Xu et al. 2022): beta, not abar, follows a sigmoid, and is not
    rescaled by the steps.
    """
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, steps) * 1000 / steps
    if schedule == "diffusers-sigmoid":
        return 1e-4 + (0.02 - 1e-4) / (1 + np.exp(-np.linspace(-6, 6, steps)))
    t = np.arange(steps + 1) / steps
    if schedule == "cosine":
        f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    else:
        ends = 1 / (1 + np.exp([3.0, -3.0]))
        f = (ends[1] - 1 / (1 + np.exp(3 - 6 * t))) / (ends[1] - ends[0])
    found: npt.NDArray[np.float64] = np.minimum(1 - f[1:] / f[:-1], MOST_BETA)
    return found
