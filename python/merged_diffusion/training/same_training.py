"""What makes two trainings one: their cards, but for what follows from a training or changes no number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunMismatchError
from merged_diffusion.experts.card import Card
from merged_diffusion.training.recipe import stated

TRAINING: Final = "training."
STEPS: Final = f"{TRAINING}steps"
# Of a card: what a training finds out, or says of it. Of a recipe: what is found out or changes no weight but
# for its last bits.
APART: Final = ("training", "sha256", "results", "data_std", "licence", "source", "clock", "converted")
STORED: Final = "precision"  # of the card: in which the weights are stored once they are there
APART_TOO: Final = ("data_sha256", "report", "raised_from", "accumulate")

Identity = Mapping[str, object]


def identity(card: Card) -> dict[str, object]:
    """What must agree between the parts of one training."""
    table: dict[str, object] = {f.name: getattr(card, f.name) for f in fields(card) if f.name not in APART}
    training = dict(card.training or {})
    # Where its ends were learned, a card states those that were found beside those of the beginning.
    begun = training.pop("learned_from", None) or list(card.gamma_range)
    table |= {"image_shape": list(card.image_shape), "gamma_range": begun}
    # A number of that loss, which no training finds out.
    if card.kind == "vdm" and training.get("loss") == "edm":
        table["data_std"] = card.data_std
    return table | {f"{TRAINING}{key}": value for key, value in training.items()}


def _compared(found: Identity) -> dict[str, object]:
    """Without what may differ; a key that is left out means its default."""
    recipe = {key.removeprefix(TRAINING): value for key, value in found.items() if key.startswith(TRAINING)}
    rest = {key: value for key, value in found.items() if not key.startswith(TRAINING) and key != STORED}
    kept = {key: value for key, value in stated(recipe).items() if key not in APART_TOO}
    return rest | {f"{TRAINING}{key}": value for key, value in kept.items()}


def is_raised(found: Identity, expected: Identity) -> bool:
    """Whether ``expected`` is the recipe ``found`` with more steps."""
    before, after = found.get(STEPS), expected.get(STEPS)
    if not isinstance(before, int) or not isinstance(after, int) or after <= before:
        return False
    return _compared({**found, STEPS: None}) == _compared({**expected, STEPS: None})


def require_same(found: Identity, expected: Identity, path: Path) -> None:
    """Refuse to mix two recipes in one folder."""
    there, now = _compared(found), _compared(expected)
    different = sorted(k for k in there.keys() | now.keys() if there.get(k) != now.get(k))
    if different:
        rows = [f"{key}: {_shown(there, key)} there, {_shown(now, key)} now" for key in different]
        raise RunMismatchError(
            f"{path} was made by another recipe ({'; '.join(rows)})",
            hint="use another --out, or delete the folder",
            differences=rows,
        )


def _shown(table: Identity, key: str) -> str:
    return repr(table[key]) if key in table else "the default"


def require_same_data(found: str | None, now: str | None, path: Path, what: str = "images") -> None:
    """Refuse to go on with other images, or labels; a snapshot that is older than this rule names none."""
    if found is not None and now is not None and found != now:
        raise RunMismatchError(
            f"{path} was made from {what} of SHA-256 {found}, the set is of {now} now",
            hint=f"restore the {what}, or use another --out",
            differences=[f"{'data' if what == 'images' else what}: {found} there, {now} now"],
        )
