"""The steps of a training: each process has its rows of a batch, gradients are summed, all step alike.

A snapshot is written between a step's gradient and its update: only weights whose loss and gradient were
found finite are kept, so that a training that diverges leaves its last good ones.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from tqdm import tqdm

from merged_diffusion.data.images import Data
from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.public_expert import PublicExpert
from merged_diffusion.runs.directory import Directory
from merged_diffusion.schedules import widened
from merged_diffusion.training.aims import Aim
from merged_diffusion.training.batch_loss import Batch, Trainable, draw_batch, loss_of_rows
from merged_diffusion.training.held_back import HeldBackLoss
from merged_diffusion.training.learned_ends import ENDS, LearnedEnds
from merged_diffusion.training.pace import Pace
from merged_diffusion.training.precision import dtype_of, layers, products
from merged_diffusion.training.processes import Team
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.report_lines import Report, Reports, finish_at
from merged_diffusion.training.same_training import identity
from merged_diffusion.training.state import TrainingState
from merged_diffusion.training.stopping import TerminatedError, listening
from merged_diffusion.training.train_images import TrainImages
from merged_diffusion.training.where import TrainingMachine

CHECKPOINT: Final = "checkpoint.safetensors"
DIVERGED: Final = 1e4  # times the running mean of the loss
LEAST_SCALE: Final = 2.0**-14  # of fp16: gradients that do not fit even then are not finite


@dataclass(frozen=True, eq=False)
class Fitting:
    """A network, what it is fitted to, and who does it."""

    card: Card
    recipe: Recipe
    images: TrainImages
    held: Data
    expert: Trainable
    machine: TrainingMachine
    team: Team
    aim: Aim | None = None  # None: the kind's usual loss and law

    def gradient(self, state: TrainingState, *, is_asked: bool = False) -> tuple[float, float, Batch, Tensor]:
        """One step's gradient into the parameters; the loss of the whole batch, and the gradient's norm.

        The batch follows, and the errors [B] in eps of all of its rows, where a law of gamma learns of them.
        """
        batch = draw_batch(self.expert, self.recipe, self.images, state.step, self.aim)
        errors = torch.zeros(len(batch), dtype=torch.float64)
        parts = self.machine.parts(self.recipe, self.team.size, self.team.rank)
        n = len(parts) * self.team.size

        def losses() -> Iterator[Tensor]:
            for rows in parts:
                with layers(self.recipe.precision, self.team.device):
                    loss = loss_of_rows(self.expert, self.recipe, self.images, batch, rows, self.aim)
                if loss.errors is not None:
                    errors[rows] = widened(loss.errors).cpu()
                yield loss.value / n

        value, norm = state.gradient(losses(), self.team, is_asked=is_asked)
        if self.learns:
            self.team.sum_([errors])
        return value, norm, batch, errors

    @property
    def learns(self) -> bool:
        """Whether its law of gamma follows the losses."""
        return self.aim is not None and self.aim.profile is not None

    def step(
        self,
        state: TrainingState,
        before: Callable[[], object] = lambda: None,
        *,
        is_asked: bool = False,
    ) -> None:
        """One step; ``before`` is called when the gradient was found good, and before the update.

        ``is_asked``: this process was asked to end.
        """
        value, norm, batch, errors = self.gradient(state, is_asked=is_asked)
        scale = state.scaler.get_scale()
        is_wrong = not math.isfinite(norm) and not (state.scaler.is_enabled() and scale > LEAST_SCALE)
        if not math.isfinite(value) or is_wrong:
            what = "loss" if not math.isfinite(value) else "gradient"
            raise self.diverged(f"the {what} is not finite", state)
        if value > DIVERGED * abs(state.loss):
            raise self.diverged(f"the loss is {value:.3g} after {state.loss:.3g}", state)
        before()
        state.update(value, self.images.ids(batch.chosen))
        # After the snapshot: one of a step has learned from earlier steps alone.
        if self.aim is not None and batch.told is not None:
            self.aim.learn(batch.told, errors)

    def diverged(self, what: str, state: TrainingState) -> CheckpointError:
        """The error of a training that went wrong at the state's step."""
        return CheckpointError(
            f"{self.card.name}: {what} at step {state.step}: the training diverges",
            hint="lower learning_rate, or lengthen warmup; the last snapshot is of weights that were good",
        )


def trainable(card: Card, seed: int = 0) -> Trainable:
    """The expert of a card that is a recipe."""
    expert = card.expert(seed)
    if isinstance(expert, PublicExpert):
        raise CheckpointError(
            f"{card.name}: networks of kind {card.kind!r} are read, not trained",
            hint="a likelihood expert is of kind 'vdm', a quality expert of kind 'edm'",
            key="kind",
        )
    return expert


def placed(card: Card, recipe: Recipe, machine: TrainingMachine, device: torch.device) -> Trainable:
    """The expert with new weights where it is trained, in the numbers in which it is trained."""
    expert = trainable(card, recipe.seed)
    if recipe.learned_ends:
        low, high = recipe.learned_from or card.gamma_range
        expert.add_module(ENDS, LearnedEnds((low, high)))
    expert = expert.to(device, dtype_of(recipe.precision))
    if machine.channels_last:
        expert = expert.to(memory_format=torch.channels_last)
    if machine.compiled:
        (expert.net if expert.model is None else expert.model).compile()
    return expert.train()


def fit(
    fitting: Fitting,
    folder: Directory | None,
    reports: Reports | None,
    look_at: Callable[[TrainingState], object],
    *,
    progress: bool,
) -> tuple[TrainingState, float]:
    """Steps until the last one; the state, and the seconds that all parts of the training took.

    ``folder`` and ``reports`` are the first process's; ``look_at`` is called by it at each report, after the
    snapshot of that step.

    Raises
    ------
    TerminatedError
        SIGTERM came; what was done is in a snapshot.
    """
    recipe, team, own = fitting.recipe, fitting.team, identity(fitting.card)
    state = TrainingState(fitting.expert, recipe)
    data_sha256 = fitting.images.data.sha256
    labels = fitting.images.labels_sha256 if fitting.expert.conditional else ""

    def resume() -> None:
        if folder is not None and folder.status(CHECKPOINT) is not None:
            state.load(folder.path / CHECKPOINT, own, data_sha256, labels)

    team.from_first(resume)
    state.share(team)
    if fitting.aim is not None:
        fitting.aim.load(state.extra)
        state.extra = fitting.aim.state()
    look = HeldBackLoss(fitting.expert, fitting.held, team) if recipe.report else None
    earlier = team.from_first(lambda: 0.0 if reports is None else reports.begin(state.step))
    pace = Pace(state.step, recipe.batch, earlier)
    begun, is_due = state.step, False
    bar = tqdm(
        total=recipe.steps, initial=state.step, desc=fitting.card.name, unit="step",
        disable=not progress or not team.is_first, file=sys.stderr,
    )  # fmt: skip

    def save() -> None:
        if state.ends:
            # All wait for the first one, whose launcher would not if they ended.
            team.from_first(write)
            raise TerminatedError
        if is_due or pace.may_save():
            write()

    def write() -> None:
        nonlocal is_due
        if folder is None or state.step == begun:
            return
        with pace.saving():
            # Lines first: those beyond a snapshot are written again, one that is lacking never is.
            if reports is not None:
                reports.write(state.rows)
            state.save(folder, CHECKPOINT, own, data_sha256, labels)
        if is_due:
            look_at(state)
        is_due = False

    devices = [team.device] if team.device.type == "cuda" else []
    with bar, torch.random.fork_rng(devices=devices), products(recipe.precision), listening() as stop:
        while state.step < recipe.steps:
            fitting.step(state, before=save, is_asked=stop.is_asked)
            pace.stepped()
            bar.update()
            bar.set_postfix(state.shown, refresh=False)
            if look is not None and state.step % recipe.report == 0:
                bits = look.bits_per_dim(state.means.first)
                if not math.isfinite(bits):
                    raise fitting.diverged("the held-back images' loss is not finite", state)
                team.require_equal(state.parameters)
                state.rows.append([state.step, state.loss, bits])
                is_due = True
                if reports is not None:
                    reports.add(report_of(state, pace, team, len(fitting.images)))
    if not all(bool(value.isfinite().all()) for value in state.parameters):
        raise fitting.diverged("weights are not finite", state)
    if reports is not None:
        reports.write(state.rows, last=True)
    if folder is not None:
        state.save(folder, CHECKPOINT, own, data_sha256, labels)
        if is_due:
            look_at(state)
    if reports is not None:
        reports.close()
    if team.from_first(lambda: stop.is_asked):
        raise TerminatedError
    return state, pace.seconds


def report_of(state: TrainingState, pace: Pace, team: Team, n: int) -> Report:
    """Where a training stands."""
    recipe = state.recipe
    seen = state.step * recipe.batch
    rate = pace.images_per_second(state.step)
    left = (recipe.steps - state.step) * recipe.batch / rate if rate else math.inf
    return Report(
        step=state.step,
        steps=recipe.steps,
        images=seen,
        epochs=round(seen / n, 4),
        train_loss=state.loss,
        held_back_bits_per_dim=state.rows[-1][2],
        learning_rate=recipe.rate(state.step - 1),
        images_per_second=round(rate, 3),
        seconds=round(pace.seconds, 3),
        seconds_left=round(left, 1) if math.isfinite(left) else -1.0,
        finish=finish_at(left),
        processes=team.size,
        images_sha256=state.seen,
    )
