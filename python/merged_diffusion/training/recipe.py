"""The ``[training]`` table of a card: how an expert is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card

FINAL_RATE: Final = 0.02  # of the highest learning rate


@dataclass(frozen=True)
class Recipe:
    """The ``[training]`` table of a card."""

    data: str
    seed: int
    steps: int
    batch: int
    learning_rate: float
    ema: float
    warmup: int = 200
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    p_mean: float = -1.2  # of EDM's law of ln s (Karras et al. 2022, table 1)
    p_std: float = 1.2
    p_uniform: float = 0.0
    flips: bool = False
    accumulate: int = 1  # parts of a batch, one after the other: less memory, the same gradient
    report: int = 500  # steps from one look at the held-back images to the next; 0: none
    raised_from: list[int] | None = None  # the numbers of steps with which it was finished before
    data_sha256: str | None = None

    @classmethod
    def of(cls, card: Card) -> Recipe:
        """Read from a card; `CheckpointError` names what is missing or unknown."""
        if card.training is None:
            raise CheckpointError(
                f"{card.name}: the card has no [training] table", hint="recipes/ holds some that work"
            )
        table = dict(card.training)
        required = {"data", "seed", "steps", "batch", "learning_rate", "ema"}
        wrong = [f"{k} is missing" for k in sorted(required - table.keys())]
        types = {f.name: str(f.type) for f in fields(cls)}
        wrong += [f"{k} is unknown" for k in sorted(table.keys() - types.keys())]
        wrong += [
            f"{k} = {v!r} is no {types[k]}"
            for k, v in sorted(table.items())
            if k in types and type(v).__name__ not in types[k] and (types[k], type(v)) != ("float", int)
        ]
        if wrong:
            raise CheckpointError(f"{card.name}: [training]: {'; '.join(wrong)}", differences=wrong)
        recipe = cls(**table)
        recipe.check(card.name)
        return recipe

    def check(self, name: str) -> None:
        """`CheckpointError` where the numbers do not fit together."""
        wrong = [
            f"{key} = {value} is not above 0"
            for key, value in (("steps", self.steps), ("batch", self.batch), ("accumulate", self.accumulate))
            if value < 1
        ]
        if not wrong and self.batch % self.accumulate:
            wrong.append(f"batch = {self.batch} is not {self.accumulate} (accumulate) equal parts")
        if self.report < 0:
            wrong.append(f"report = {self.report} is below 0")
        if wrong:
            raise CheckpointError(f"{name}: [training]: {'; '.join(wrong)}", differences=wrong)

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to 2 %."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2)
