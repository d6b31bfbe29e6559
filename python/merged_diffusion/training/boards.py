"""Boards of others on which a training shows its numbers, where they are installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.card import Card
from merged_diffusion.training.report_lines import Board

TENSORBOARD: Final = "tensorboard"  # the folder


class TensorBoard:
    """Event files in a folder; ``tensorboard --logdir FOLDER`` shows them."""

    def __init__(self, folder: Path) -> None:
        self._module = _installed("torch.utils.tensorboard", "tensorboard", "tensorboard")
        self._folder = folder
        self._writer: Any = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step; the folder is made at the first, when the training's own is there."""
        if self._writer is None:
            self._writer = self._module.SummaryWriter(str(self._folder))
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """No more."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, whose own settings say where it goes (WANDB_MODE, WANDB_DIR)."""

    def __init__(self, project: str, name: str, recipe: Mapping[str, object]) -> None:
        self._module = _installed("wandb", "wandb", "wandb")
        self._words = {"project": project, "name": name, "config": dict(recipe)}
        self._run: Any = None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step."""
        if self._run is None:
            self._run = self._module.init(**self._words)
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """No more."""
        if self._run is not None:
            self._run.finish()


def boards(out: Path, card: Card, *, tensorboard: bool, wandb: str | None) -> list[Board]:
    """Those that were asked for, for the training of a card in ``out``.

    Raises
    ------
    UsageError
        One is not installed.
    """
    found: list[Board] = [TensorBoard(out / TENSORBOARD)] if tensorboard else []
    return found + ([WeightsAndBiases(wandb, card.name, card.training or {})] if wandb is not None else [])


def _installed(module: str, package: str, option: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"--{option} was given, but {package} is not installed here ({error})",
            hint=f"pip install {package}, or leave --{option} out: reports.jsonl has the same numbers",
        ) from error
