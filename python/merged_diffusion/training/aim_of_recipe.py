"""From a recipe's words to what it aims at; and where those words do not fit the card's network."""

from __future__ import annotations

from collections.abc import Iterator

from merged_diffusion.errors import CheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.training.aims import Aim, Trainable
from merged_diffusion.training.augmentation import N_LABELS
from merged_diffusion.training.loss_weights import Numbers, named
from merged_diffusion.training.recipe import Recipe

ALL_USUAL = Recipe(data="", seed=0, steps=1, batch=1, learning_rate=1.0)
WORDS = ("loss", "gammas", "spread_gammas", "learned_ends", "augment", "label_dropout")

# What a loss alone looks at.
NUMBERS_OF = {
    "edm": ("p_mean", "p_std", "p_uniform"),
    "sigmoid": ("sigmoid_bias",),
    "p2": ("p2_power",),
    "min-snr": ("snr_cap",),
}


def aim_of(card: Card, recipe: Recipe, expert: Trainable) -> Aim | None:
    """What the recipe aims at; None where it names nothing but its kind's usual loss and law.

    Raises
    ------
    CheckpointError
        The network cannot be told, or asked, what the recipe needs.
    """
    wrong = list(_wrong(card, recipe, expert))
    if wrong:
        raise CheckpointError(
            f"{card.name}: [training]: {'; '.join(wrong)}",
            hint="docs/formats.md says what each key needs",
            differences=wrong,
        )
    if all(getattr(recipe, word) == getattr(ALL_USUAL, word) for word in WORDS):
        return None
    name = loss_name(card, recipe)
    numbers = Numbers(
        data_std=expert.data_std if isinstance(expert, EdmExpert) else card.data_std or Numbers.data_std,
        p_mean=recipe.p_mean,
        p_std=recipe.p_std,
        p_uniform=recipe.p_uniform,
        sigmoid_bias=recipe.sigmoid_bias,
        p2_power=recipe.p2_power,
        snr_cap=recipe.snr_cap,
    )
    is_edm_s = name == "edm" and recipe.gammas == "published"
    return Aim.of(
        named(name, expert.gamma_range, numbers),
        expert.gamma_range,
        sampling=recipe.gammas,
        spreads=not is_edm_s if recipe.spread_gammas is None else recipe.spread_gammas,
        augment=recipe.augment,
        label_dropout=recipe.label_dropout,
        learns_ends=recipe.learned_ends,
    )


def loss_name(card: Card, recipe: Recipe) -> str:
    """The weight of equation 9 that is minimised."""
    return recipe.loss or ("edm" if card.kind == "edm" else "uniform")


def _wrong(card: Card, recipe: Recipe, expert: Trainable) -> Iterator[str]:
    architecture = card.network.get("architecture", "small")
    told = card.network.get("augment_dim", 0)
    name = loss_name(card, recipe)
    for loss, keys in NUMBERS_OF.items():
        for key in keys if name != loss else ():
            value = getattr(recipe, key)
            if value != getattr(ALL_USUAL, key):
                yield f"{key} = {value} is a number of loss = {loss!r}, but the loss is {name!r}"
    if recipe.augment and (card.kind != "edm" or told != N_LABELS):
        yield (
            f"augment = {recipe.augment}, but [network] augment_dim = {told}: a network of kind 'edm' and "
            f"architecture 'ddpmpp', 'ncsnpp' or 'adm' is told of {N_LABELS} augmentations"
        )
    if recipe.label_dropout and not expert.conditional:
        yield f"label_dropout = {recipe.label_dropout}, but the network takes no classes"
    elif recipe.label_dropout and isinstance(expert, EdmExpert) and expert.label_range[0] > -1:
        yield f"label_dropout = {recipe.label_dropout}, but the network has no word for no class"
    if recipe.learned_ends:
        others = {"kind": card.kind, "architecture": architecture, "pixels": card.pixels}
        needed = {"kind": "vdm", "architecture": "vdm-unet", "pixels": "centred"}
        yield from (
            f"learned_ends needs {key} = {needed[key]!r}, found {value!r}"
            for key, value in others.items()
            if value != needed[key]
        )
        if recipe.loss not in (None, "uniform") or recipe.gammas != "published":
            yield "learned_ends needs loss = 'uniform' with its own law: it minimises the bound itself"
