"""What plans of scores and of samples share: settings, models and the machine that they are on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch

from merged_diffusion.jobs.models import Models
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.threads import all_cores, settled
from merged_diffusion.merge import MergedModel
from merged_diffusion.runs.settings_file import RecordedMachine


@dataclass(frozen=True, kw_only=True)
class ModelPlan(ABC):
    """What is asked for, and the models that it is asked of; `on` says on which machine."""

    settings: Settings
    models: Models
    notes: tuple[str, ...] = ()

    @abstractmethod
    def usual_rows(self, device: torch.device) -> int:
        """Rows of a network call where nobody says."""

    def on(self, recorded: RecordedMachine | None, threads: int | None = None) -> Self:
        """With batch size, threads, device, dtype: as given, else as recorded, else what suits the device."""
        given, recorded = self.settings, recorded or RecordedMachine()
        machine, note = settled(given.machine, recorded, self.usual_rows, threads)
        settings = given.at(machine, given.compile or recorded.compile)
        models = self.models.compiled(settings) if settings.compile else self.models
        notes = self.notes if note is None else (*self.notes, note)
        return replace(self, settings=settings, models=models, notes=notes)

    @property
    def main(self) -> str:
        """The model whose records a run holds at its top: "merged", or the role of one expert alone."""
        return next(iter(self.models.models))

    @property
    def model(self) -> MergedModel:
        """The model of the name `main`."""
        return self.models.models[self.main]

    @property
    def threads(self) -> int:
        """Threads of torch and of the core."""
        return self.settings.machine.threads or all_cores()
