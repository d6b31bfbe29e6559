"""A public network of any kind but EDM's and VDM's as a noise predictor: its clock and its reading by a card.

``[clock]`` of a card is what the training fixed and no file of weights holds:

    ======  ===================================================  ==========================================
    kind    the network's time                                   ``[clock]``
    ======  ===================================================  ==========================================
    ddpm    the step i, by a table of gammas                      gammas, or schedule and steps; rescaled
                                                                 (1000 i/steps); whole_steps, nearest_sigma
    flow    scale times t of the straight path                    data_at, scale, coupled
    vp_sde  scale times t of the VP or sub-VP SDE                 beta_min, beta_max, scale
    ve      the noise's sigma/alpha over ``unit``                 unit, logarithm, divided
    ======  ===================================================  ==========================================

``whole_steps``: the network is asked at whole steps only, the nearest in gamma; ``nearest_sigma``: the one
whose sigma/alpha is nearest. ``coupled``: by optimal transport between a batch's noise and its images, so
that eps_hat is no posterior mean. ``divided``: the published score is the network's output over sigma, and
the output itself is -eps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from merged_diffusion import schedules
from merged_diffusion.errors import CheckpointError, UsageError
from merged_diffusion.experts import clocks, readings
from merged_diffusion.experts.base import described
from merged_diffusion.experts.likely import Likely
from merged_diffusion.experts.nets import by_name
from merged_diffusion.experts.nets.arguments import (
    Check,
    checked,
    is_count,
    is_flag,
    is_number,
    is_positive,
    list_of,
    one_of,
)
from merged_diffusion.experts.readings import Reading
from merged_diffusion.experts.timetables import RESCALED, SCHEDULES, Timetable, step_gammas

MOST_STEPS: Final = 100_000
MOST_IN_CARD: Final = 10_000
Floats = npt.NDArray[np.float64]
STEPPED: Final = ("rescaled", "whole_steps", "nearest_sigma")
CLOCKS: Final[Mapping[str, Mapping[str, Check]]] = {
    "ddpm": {
        "gammas": list_of(is_number, least=2, most=MOST_IN_CARD),
        "schedule": one_of(*SCHEDULES),
        "steps": is_count,
        **dict.fromkeys(STEPPED, is_flag),
    },
    "flow": {"data_at": one_of(0, 1), "scale": is_positive, "coupled": is_flag},
    "vp_sde": {"beta_min": is_positive, "beta_max": is_positive, "scale": is_positive},
    "ve": {"unit": is_positive, "logarithm": is_flag, "divided": is_flag},
}


class PublicExpert(nn.Module):
    """``model``, whose state has the names of the public files, seen through its kind's clock and reading."""

    def __init__(
        self,
        name: str,
        kind: str,
        network: Mapping[str, object],
        clock: Mapping[str, object],
        *,
        predicts: str,
        input: str,  # noqa: A002 (the card's word)
        image_shape: tuple[int, int, int],  # 0 in H, W: any
        levels: int,
        gamma_range: tuple[float, float],
        pixels: Literal["centred", "ends"] = "ends",
    ) -> None:
        super().__init__()
        self.provenance: dict[str, str] = {}  # filled in where weights are loaded
        self.likely: Likely = {}
        self.meaning: str | None = None
        self.name, self.kind, self.levels, self.pixels = name, kind, levels, pixels
        self.predicts, self.input, self.clock_table = predicts, input, dict(clock)
        self.image_shape = (image_shape[0], image_shape[1] or None, image_shape[2] or None)
        self.gamma_range = gamma_range
        self.model = by_name.build(network, image_shape)
        self.label_range = by_name.label_range(self.model)
        self.conditional = self.label_range[1] >= 0
        self.is_coupled = bool(clock.get("coupled"))
        self.reading, self.clock = _parts(kind, predicts, input, clock, gamma_range)

    def __repr__(self) -> str:
        return described(self)

    def forward(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W] at ``z`` [B, C, H, W] and ``gamma`` [B].

        ``cond`` are classes, int64 [B], or weights of classes [B, label_dim].
        """
        gamma = gamma.double()
        return self.reading.eps_hat(self.raw(self.reading.given(z, gamma), self.clock(gamma), cond), z, gamma)

    def raw(self, scaled: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
        """The network's prediction [B, C, H, W] for its own input and ``time`` [B], without any variance."""
        out: Tensor = self.model(scaled, time, *((cond,) if self.conditional else ()))
        return out[:, : scaled.shape[1]]


def gammas_of(clock: Mapping[str, Any]) -> Sequence[float] | Floats:
    """The gammas [N] of the steps of a ``[clock]`` of kind ddpm."""
    if "gammas" in clock:
        gammas: Sequence[float] = clock["gammas"]
        return gammas
    if clock.get("steps", 0) > MOST_STEPS:
        raise CheckpointError(f"[clock] steps = {clock['steps']}, and {MOST_STEPS} are allowed", key="steps")
    try:
        return step_gammas(None, clock.get("schedule"), clock.get("steps", RESCALED))
    except UsageError as error:
        raise CheckpointError(f"[clock] {error.message}", hint=error.hint, key="clock") from error


def steps_range(clock: Mapping[str, Any]) -> tuple[float, float]:
    """The gammas that a network of kind ddpm was trained on."""
    gammas = gammas_of(clock)
    return float(min(gammas)), float(max(gammas))


def _parts(
    kind: str, predicts: str, given: str, clock: Mapping[str, object], gamma_range: tuple[float, float]
) -> tuple[Reading, Any]:
    """Reading and clock of a kind."""
    table = checked(clock, CLOCKS[kind], set(), f"[clock] of kind {kind!r}")
    if kind == "ddpm":
        flags = {key: bool(table.get(key)) for key in STEPPED}
        return readings.of_words(predicts, readings.as_is), StepClock(gammas_of(table), gamma_range, **flags)
    if kind == "flow":
        data_at = table.get("data_at", 1)
        word = "x0-minus-eps" if data_at == 1 else "eps-minus-x0"
        if predicts != word:
            raise CheckpointError(
                f"predicts = {predicts!r} does not belong to data_at = {data_at}",
                hint=f"dx_t/dt is {word} there",
                key="predicts",
            )
        return (
            readings.of_words(predicts, readings.INPUTS["flow"]),
            clocks.flow_clock(data_at, table.get("scale", 1.0), is_linear=True),
        )
    if kind == "vp_sde":
        is_sub = given == "sub_vp"
        low, high = table.get("beta_min", 0.1), table.get("beta_max", 20.0)
        if not low < high:
            raise CheckpointError(f"[clock] beta_min = {low} is not below beta_max = {high}", key="beta_max")
        clock_of = clocks.vp_sde_clock(low, high, table.get("scale", 999.0), is_sub=is_sub)
        return readings.vp_sde(is_sub, predicts == "score"), clock_of
    unit = table.get("unit", 1.0)
    return (
        readings.exploding(unit, is_divided=table.get("divided", True)),
        clocks.sigma_clock(unit, is_log=table.get("logarithm", True)),
    )


class StepClock(nn.Module):
    """The step at gamma, as the network counts it."""

    def __init__(
        self,
        gammas: Sequence[float] | Floats,
        gamma_range: tuple[float, float],
        *,
        rescaled: bool = False,
        whole_steps: bool = False,
        nearest_sigma: bool = False,
    ) -> None:
        super().__init__()
        self.table = Timetable(gammas, unit=False, gamma_range=gamma_range, is_state=False)
        self.scale = RESCALED / len(gammas) if rescaled else 1.0
        self.is_whole, self.is_nearest = whole_steps, nearest_sigma

    def forward(self, gamma: Tensor) -> Tensor:
        """Time, float64 [B], at gamma [B]."""
        step: Tensor = self.table(gamma)
        if self.is_nearest:
            step = self._nearest(step, gamma)
        return self.scale * (step.round() if self.is_whole else step)

    def _nearest(self, step: Tensor, gamma: Tensor) -> Tensor:
        """The one of both steps beside whose sigma/alpha is nearest, as EDM's code rounds."""
        below, above = step.floor(), step.ceil()
        own, *ends = (schedules.edm_sigma(g) for g in (gamma, self.table.at(below), self.table.at(above)))
        return torch.where((own - ends[0]).abs() <= (ends[1] - own).abs(), below, above)
