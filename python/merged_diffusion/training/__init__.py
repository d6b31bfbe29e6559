"""Training of experts: ``train(card, out)`` turns a recipe card into a folder that loads as an expert.

Adam on the eps loss (likelihood experts) or Karras' denoising loss (quality experts), running means of the
weights; on one CPU, or on as many devices as a launcher starts processes. Everything random at a step is a
function of (seed, step): a training that was interrupted any number of times gives what an uninterrupted one
gives, whoever computes which rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from merged_diffusion.errors import RunLockedError, RunMismatchError, StorageError
from merged_diffusion.experts.card import Card, read_card
from merged_diffusion.experts.fence import fenced
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.folder import refuse_strangers
from merged_diffusion.runs.lock import Lock
from merged_diffusion.runs.places import make, unmake
from merged_diffusion.training.aim_of_recipe import aim_of
from merged_diffusion.training.boards import TENSORBOARD, boards
from merged_diffusion.training.dry_run import Cost, cost
from merged_diffusion.training.finished import CARD, WEIGHTS, write_experts
from merged_diffusion.training.fitting import CHECKPOINT, Fitting, fit, placed
from merged_diffusion.training.loss_by_gamma import Profile, loss_profile
from merged_diffusion.training.precision import check_precision
from merged_diffusion.training.processes import Team, joined
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.report_lines import CURVE, LINES, PROGRESS, Board, Report, Reports
from merged_diffusion.training.same_training import identity, is_raised, require_same
from merged_diffusion.training.sample_grid import write_grid
from merged_diffusion.training.state import TrainingState
from merged_diffusion.training.train_data import train_data, with_data
from merged_diffusion.training.where import TrainingMachine

__all__ = ["Cost", "Profile", "Recipe", "Report", "TrainingMachine", "loss_profile", "train", "training_cost"]

LOCK: Final = ".lock"
WRITTEN: Final = (CHECKPOINT, PROGRESS, LINES, CURVE, WEIGHTS, CARD)


def train(
    card: Path | str,
    out: Path | str,
    *,
    steps: int | None = None,
    precision: str | None = None,
    machine: TrainingMachine = TrainingMachine(),
    threads: int | None = None,
    progress: bool = True,
    samples: int = 0,
    on_report: Callable[[Report], object] | None = None,
    tensorboard: bool = False,
    wandb: str | None = None,
) -> Path:
    """Train what the recipe ``card`` describes into the folder ``out``.

    Goes on where an earlier call stopped, on whatever devices. Ends with ``model.safetensors`` (the first
    running mean, in the card's precision) and ``card.toml`` (with the hashes of data and weights, and the
    loss by gamma on the held-back images) in ``out``, which is returned; a further mean has a folder
    ``ema-NAME`` inside. On the way ``progress.csv`` gets a row every ``report`` steps: the step, the loss (a
    running mean) and the held-back images' diffusion term in bits/dim.

    With more ``steps`` than before, a training goes on from its last step at the rate of the longer one; it
    is another than one of so many steps from the start, and the card says so (``raised_from``).

    Parameters
    ----------
    steps, precision
        In the place of the recipe's.
    machine
        Device, rows at once, compilation, mapped data. Under ``torchrun`` every process calls this, and each
        has a share of the batch.
    samples
        So many images are drawn at each report, as ``samples/STEP.png``.
    on_report
        Called at each report, in the first process.
    tensorboard, wandb
        Show the numbers there as well: in ``out/tensorboard``, in the project of that name.

    Raises
    ------
    UsageError
        The batch is no equal shares for the processes, or something asked for is not here.
    RunMismatchError
        The folder holds a training of another recipe or other images.
    CheckpointError
        The recipe is refused, or the training diverges; the last good snapshot stays.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> folder = md.train("recipes/digits-vdm.toml", "results/vdm")  # doctest: +SKIP
    >>> expert = md.load_expert("results/vdm")  # doctest: +SKIP
    """
    stated = _asked(read_card(card), steps, precision)
    recipe, out = Recipe.of(stated), Path(out)
    with _threads(threads), fenced(grad=True), ExitStack() as stack:
        team = stack.enter_context(joined(machine.device))
        machine.parts(recipe, team.size, team.rank)
        check_precision(recipe.precision, team.device, learned_ends=recipe.learned_ends)
        shown: list[Board] = []
        folder: list[Directory] = []
        team.from_first(lambda: shown.extend(boards(out, stated, tensorboard=tensorboard, wandb=wandb)))
        if team.from_first(lambda: _is_done(folder, stack, out, stated)):
            return out
        fitting = _fitting(stated, machine, team)
        own = folder[0] if folder else None

        def look_at(state: TrainingState) -> None:
            if samples and own is not None:
                write_grid(own, fitting.card, state.weights(), samples, team.device, state.step)

        reports = None if own is None else Reports(own, on_report, shown)
        state, seconds = fit(fitting, own, reports, look_at, progress=progress)
        if own is not None:
            write_experts(own, fitting.card, state, seconds, fitting.held, team.device)
    return out


def training_cost(
    card: Path | str,
    *,
    steps: int | None = None,
    precision: str | None = None,
    machine: TrainingMachine = TrainingMachine(),
    threads: int | None = None,
) -> Cost:
    """What `train` would take, by a few steps on this machine; nothing is written.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> cost = md.training_cost("recipes/digits-vdm.toml")  # doctest: +SKIP
    >>> cost.parameters, cost.device_hours  # doctest: +SKIP
    """
    stated = _asked(read_card(card), steps, precision)
    with _threads(threads), fenced(grad=True), joined(machine.device) as team:
        recipe = Recipe.of(stated)
        machine.parts(recipe, team.size, team.rank)
        check_precision(recipe.precision, team.device, learned_ends=recipe.learned_ends)
        return cost(_fitting(stated, machine, team))


def _asked(card: Card, steps: int | None, precision: str | None) -> Card:
    """The card with what was asked for in the place of its own."""
    Recipe.of(card)
    words = {"steps": steps, "precision": precision}
    asked = {key: value for key, value in words.items() if value is not None}
    return replace(card, training=dict(card.training or {}) | asked)


def _fitting(stated: Card, machine: TrainingMachine, team: Team) -> Fitting:
    """The network on its device, beside its images."""
    images, held = train_data(stated, Recipe.of(stated), machine.data_cache, team)
    card = with_data(stated, images)
    recipe = Recipe.of(card)
    expert = team.each(lambda: placed(card, recipe, machine, team.device))
    return Fitting(card, recipe, images, held, expert, machine, team, aim_of(card, recipe, expert))


def _is_done(folder: list[Directory], stack: ExitStack, out: Path, stated: Card) -> bool:
    """Whether the training has come to its end; ``folder`` gets its directory, for this process alone.

    Raises
    ------
    RunMismatchError
        It is another training.
    """
    folder.append(stack.enter_context(_place(out)))
    if folder[0].status(CARD) is None:
        return False
    done = read_card(out / CARD)
    is_stored_anew = done.precision != stated.precision
    if not is_raised(identity(done), identity(stated)):
        require_same(identity(done), identity(stated), out / CARD)
        if not is_stored_anew:
            return True
    if folder[0].status(CHECKPOINT) is None:
        raise RunMismatchError(
            f"{out} was trained to its end, and its {CHECKPOINT}, from which more steps would go on and "
            "weights be stored in another precision, is not there",
            hint="use another --out to train from the start",
        )
    return False


@contextmanager
def _place(out: Path) -> Iterator[Directory]:
    """The directory of a training, for this process alone; one in which nothing was kept goes again."""
    made = make(out)
    refused = RunLockedError(f"another process trains in {out}", hint="wait for it, or use another --out")
    try:
        with Directory(out) as folder:
            if folder.status(CARD) is None:
                # Of a training that was killed between its first report and the snapshot behind it.
                after = (PROGRESS, CURVE, TENSORBOARD) if folder.status(LINES) is not None else ()
                refuse_strangers(folder, CHECKPOINT, LOCK, LINES, *after)
            try:
                with Lock(folder, LOCK).held(0.0, refused):
                    folder.remove_drafts(WRITTEN)
                    yield folder
            except RunLockedError:
                raise
            except BaseException:
                with suppress(StorageError):
                    if not {CHECKPOINT, CARD} & set(folder.names()):
                        folder.remove([LOCK])
                raise
    except BaseException:
        unmake(made)
        raise


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
