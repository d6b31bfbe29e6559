"""The ``[training]`` table of a card: how an expert is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.training.loss_weights import NAMES, Numbers

MOST_SEED: Final = 2**31  # with the number of a step it makes a seed of 64 bits
FINAL_RATE: Final = 0.02  # of the highest learning rate
LAWS: Final = ("published", "uniform", "importance")
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "order": ("draws", "epochs"),
    "optimiser": ("adamw", "adam"),
    "decay": ("cosine", "none", "inverse-sqrt"),
    "gammas": LAWS,
    "precision": ("float32", "float64", "tf32", "bf16", "fp16"),
}


@dataclass(frozen=True)
class Recipe:
    """The ``[training]`` table of a card; a key that is left out has its default."""

    data: str
    seed: int
    steps: int
    batch: int  # images of a step, on all devices together
    learning_rate: float
    ema: float | list[float] | None = None  # decays a step; the first mean of all is the expert
    ema_half_life: float | list[float] | None = None  # in images
    ema_warmup: bool = True  # a decay is at most (1 + n)/(10 + n) at step n
    ema_ramp_up: float = 0.0  # a half-life is at most this share of the images seen; 0: it is what it is
    warmup: int = 200  # steps
    warmup_images: int | None = None  # in their place
    decay: str = "cosine"
    decay_images: int | None = None  # where a cosine ends, or the root begins
    optimiser: str = "adamw"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    gradient_norm: float = 1.0  # 0: gradients are not cut
    precision: str = "float32"
    order: str = "draws"  # with replacement; epochs: each image once an epoch
    variant: str | None = None  # which ImageNet32 is meant: old or new
    held_back: int | str | None = None  # the last so many of train, or the split test; None: a fifth
    p_mean: float = -1.2  # of EDM's law of ln s (Karras et al. 2022, table 1)
    p_std: float = 1.2
    p_uniform: float = 0.0
    loss: str | None = None  # a weight of equation 9 by name; None: uniform of kind vdm, edm of kind edm
    gammas: str = "published"  # the law they are drawn from: the weight's own, uniform or importance
    spread_gammas: bool | None = None  # over the whole batch; None: but for EDM's own law
    learned_ends: bool = False  # of gamma, with the network
    learned_from: list[float] | None = None  # the ends from which they were learned
    sigmoid_bias: float = Numbers.sigmoid_bias
    p2_power: float = Numbers.p2_power
    snr_cap: float = Numbers.snr_cap
    flips: bool = False
    augment: float = 0.0  # the probability of each of EDM's augmentations, of which the network is told
    label_dropout: float = 0.0  # the share of rows whose class is left out
    accumulate: int = 1  # parts of a device's share, one after the other: less memory, the same gradient
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
        table: dict[str, Any] = dict(card.training)
        required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
        if "ema_half_life" not in table:
            required.add("ema")
        wrong = [f"{k} is missing" for k in sorted(required - table.keys())]
        types = {f.name: str(f.type) for f in fields(cls)}
        wrong += [f"{k} is unknown" for k in sorted(table.keys() - types.keys())]
        wrong += [
            f"{k} = {v!r} is no {types[k].removesuffix(' | None')}"
            for k, v in sorted(table.items())
            if k in types and not _is_of(v, types[k])
        ]
        if wrong:
            raise CheckpointError(f"{card.name}: [training]: {'; '.join(wrong)}", differences=wrong)
        recipe = cls(**table)
        recipe.check(card.name)
        return recipe

    def check(self, name: str) -> None:
        """`CheckpointError` where the numbers do not fit together."""
        wrong = list(self._wrong())
        if wrong:
            raise CheckpointError(f"{name}: [training]: {'; '.join(wrong)}", differences=wrong)

    def _wrong(self) -> Iterator[str]:
        for key in ("steps", "batch", "accumulate", "warmup_images", "decay_images"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield f"{key} = {value} is not above 0"
        if self.accumulate > 0 and self.batch % self.accumulate:
            yield f"batch = {self.batch} is not {self.accumulate} (accumulate) equal parts"
        for key in ("report", "warmup", "weight_decay", "gradient_norm", "ema_ramp_up"):
            value = getattr(self, key)
            if not 0 <= value < math.inf:
                yield f"{key} = {value} is below 0" if value < 0 else f"{key} = {value} is not finite"
        if not 0 < self.learning_rate < math.inf:
            yield f"learning_rate = {self.learning_rate} is not above 0 and finite"
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            yield f"betas = {self.betas} are not two numbers from 0 to below 1"
        if not 0 < self.epsilon < 1:
            yield f"epsilon = {self.epsilon} lies not between 0 and 1"
        yield from (
            f"ema = {decay} lies not from 0 to below 1" for decay in self.decays if not 0 <= decay < 1
        )
        yield from (f"ema_half_life = {n} is not above 0" for n in self.half_lives if not 0 < n < math.inf)
        if not self.decays and not self.half_lives:
            yield "ema and ema_half_life name no running mean of the weights, of which one becomes the expert"
        for key, words in CHOICES.items():
            if getattr(self, key) not in words:
                yield f"{key} = {getattr(self, key)!r} is none of {', '.join(words)}"
        if self.loss not in (None, *NAMES):
            yield f"loss = {self.loss!r} is none of {', '.join(NAMES)}"
        for key in ("augment", "label_dropout", "p_uniform"):
            if not 0 <= getattr(self, key) <= 1:
                yield f"{key} = {getattr(self, key)} is no share, from 0 to 1"
        for key in ("p_std", "snr_cap"):
            if not 0 < getattr(self, key) < math.inf:
                yield f"{key} = {getattr(self, key)} is not above 0 and finite"
        if self.augment and self.flips:
            yield f"flips = true beside augment = {self.augment}, which flips, too, and tells the network"
        yield from self._unused()
        if not -MOST_SEED <= self.seed < MOST_SEED:
            yield f"seed = {self.seed} lies not from -2^31 to below 2^31"
        if self.decay == "inverse-sqrt" and self.decay_images is None:
            yield "decay = 'inverse-sqrt' needs decay_images, the images after which the rate falls"
        if self.held_back not in (None, "test") and not (
            isinstance(self.held_back, int) and self.held_back > 0
        ):
            yield f"held_back = {self.held_back!r} is neither a number of images above 0 nor 'test'"

    def _unused(self) -> Iterator[str]:
        """Words that would have no effect."""
        if self.decay == "none" and self.decay_images is not None:
            yield f"decay_images = {self.decay_images} beside decay = 'none', which knows no end"
        if self.ema_ramp_up and not self.half_lives:
            yield f"ema_ramp_up = {self.ema_ramp_up}, but no ema_half_life, of which it is the limit"
        if not self.ema_warmup and not self.decays:
            yield "ema_warmup = false, but no ema, whose decays alone warm up"
        if self.warmup_images is not None and self.warmup != Recipe.warmup:
            yield f"warmup = {self.warmup} beside warmup_images = {self.warmup_images}, which takes its place"

    @property
    def decays(self) -> list[float]:
        """The running means by decay."""
        return _as_list(self.ema)

    @property
    def half_lives(self) -> list[float]:
        """The running means by half-life in images."""
        return _as_list(self.ema_half_life)

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then what ``decay`` says: by default a cosine to 2 %.

        ``inverse-sqrt`` is Karras et al. 2024, eq. 67: it falls as 1/sqrt(images seen/decay_images).
        """
        warmup = self.warmup if self.warmup_images is None else self.warmup_images / self.batch
        if step < warmup:
            return self.learning_rate * (step + 1) / max(warmup, step + 1)
        if self.decay == "none":
            return self.learning_rate
        if self.decay == "inverse-sqrt":
            seen = step * self.batch / (self.decay_images or 1)
            return self.learning_rate / math.sqrt(max(seen, 1))
        end = self.steps if self.decay_images is None else self.decay_images / self.batch
        done = min(1, (step - warmup) / max(1, end - warmup))
        return self.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2)


def _as_list(value: float | list[float] | None) -> list[float]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _is_of(value: object, kind: str) -> bool:
    """Whether a TOML value is of an annotation: ``float | list[float] | None``; a float may be whole."""
    names = {name.strip() for name in kind.split("|")}
    if isinstance(value, list):
        inner = next((name[5:-1] for name in names if name.startswith("list[")), None)
        return inner is not None and bool(value) and all(_is_of(entry, inner) for entry in value)
    return type(value).__name__ in names or (type(value) is int and "float" in names)


def stated(table: Mapping[str, object]) -> dict[str, object]:
    """The entries of a ``[training]`` table that are not the defaults, which may be left out."""
    usual = {
        f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(Recipe)
    }
    return {key: value for key, value in table.items() if key not in usual or usual[key] != value}
