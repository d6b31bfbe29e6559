"""What a training would cost, measured by a few of its steps: memory, seconds a step, device hours."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion.training.batch_loss import draw_batch, loss_of_rows
from merged_diffusion.training.fitting import Fitting
from merged_diffusion.training.precision import layers, products
from merged_diffusion.training.state import TrainingState

STEPS: Final = 4  # timed, after one that is not
ENOUGH_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Cost:
    """Bytes are those of one device; ``seconds_a_step`` is the median of a few steps.

    ``kept`` are weights, gradients, the two moments and the running means, ``activations`` what a part of the
    batch keeps for its gradient; ``peak`` is what a GPU has really had in use, where there is one.
    """

    parameters: int
    images: int
    steps: int
    batch: int
    processes: int
    rows: int
    kept: int
    activations: int
    peak: int | None
    seconds_a_step: float

    @property
    def device_hours(self) -> float:
        """Of all devices together, for all steps; reports, samples and snapshots come on top."""
        return self.seconds_a_step * self.steps * self.processes / 3600

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        hours = self.device_hours
        return asdict(self) | {"device_hours": hours, "days": hours / self.processes / 24}


def cost(fitting: Fitting) -> Cost:
    """Of a training from its start; nothing is written, and the weights are thrown away."""
    state = TrainingState(fitting.expert, fitting.recipe)
    team, recipe = fitting.team, fitting.recipe
    rows = fitting.machine.parts(recipe, team.size, team.rank)[0]
    devices = [team.device] if team.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), products(recipe.precision):
        activations = _activations(fitting, state, rows)
        if devices:
            torch.cuda.reset_peak_memory_stats(team.device)
        taken: list[float] = []
        while len(taken) < 1 + STEPS and not (len(taken) > 1 and sum(taken) > ENOUGH_SECONDS):
            before = time.perf_counter()
            fitting.step(state)
            if devices:
                torch.cuda.synchronize(team.device)
            # The slowest of all processes is what the others wait for; and all stop together.
            slowest = torch.zeros(team.size, dtype=torch.float64, device=team.device if devices else "cpu")
            slowest[team.rank] = time.perf_counter() - before
            team.sum_([slowest])
            taken.append(float(slowest.max()))
    numbers = sum(p.numel() for p in state.parameters)
    width = state.parameters[0].element_size()
    return Cost(
        parameters=numbers,
        images=len(fitting.images),
        steps=recipe.steps,
        batch=recipe.batch,
        processes=team.size,
        rows=rows.stop - rows.start,
        kept=numbers * width * (4 + len(state.means.rules)),
        activations=activations,
        peak=torch.cuda.max_memory_allocated(team.device) if devices else None,
        seconds_a_step=statistics.median(taken[1:]),
    )


def _activations(fitting: Fitting, state: TrainingState, rows: slice) -> int:
    """Bytes that the gradient of some rows keeps beside the parameters; each storage counts once."""
    own = {p.untyped_storage().data_ptr() for p in state.parameters}
    found: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = draw_batch(fitting.expert, fitting.recipe, fitting.images, 0, fitting.aim)
    with (
        torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor),
        layers(fitting.recipe.precision, fitting.team.device),
    ):
        loss_of_rows(fitting.expert, fitting.recipe, fitting.images, batch, rows, fitting.aim)
    return sum(found.values())
