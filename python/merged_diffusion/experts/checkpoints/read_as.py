"""What a user says of a file that does not say it itself: ``openai:heads=4,schedule=cosine,steps=4000``.

FAMILY, and after a colon the options of its training, which change numbers and leave shapes as they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from merged_diffusion.errors import CheckpointError, UsageError
from merged_diffusion.experts.nets.arguments import Check, is_count, is_flag, is_number, is_positive, one_of
from merged_diffusion.experts.timetables import SCHEDULES

FLAGS: Final = {"yes": True, "no": False, "true": True, "false": False}
EVERY: Final[Mapping[str, Check]] = {"pixels": one_of("ends", "centred")}
UNET: Final[Mapping[str, Check]] = {
    **EVERY,
    "size": is_count,
    "heads": is_count,
    "head_channels": is_count,
    "heads_upsample": is_count,
    "order": one_of("legacy", "new"),
    "groups": is_count,
}
FAMILIES: Final[Mapping[str, Mapping[str, Check]]] = {
    "edm": {**EVERY, "whole_steps": is_flag},
    "openai": {
        **UNET,
        "schedule": one_of(*SCHEDULES),
        "steps": is_count,
        "rescaled": is_flag,
        "whole_steps": is_flag,
        "predicts": one_of("eps", "x0", "v"),
    },
    "torchcfm": {**UNET, "model": one_of("icfm", "fm", "otcfm")},
    "score_sde": {
        **EVERY,
        "size": is_count,
        "sde": one_of("vp", "subvp", "ve"),
        "beta_min": is_positive,
        "beta_max": is_positive,
        "sigma_min": is_positive,
        "sigma_max": is_positive,
        "fir": is_flag,
        "centered": is_flag,
        "scale_by_sigma": is_flag,
    },
    "lucidrains": {
        **EVERY,
        "size": is_count,
        "objective": one_of("pred_noise", "pred_x0", "pred_v"),
        "whole_steps": is_flag,
    },
}
# What a word without "=" is a value of, where it is no flag.
MAIN: Final = {"openai": "schedule", "torchcfm": "model", "score_sde": "sde", "lucidrains": "objective"}


# How files of a family that were published are read: what a file without words is tried as.
PUBLISHED: Final = (
    "openai:heads=4,order=legacy,cosine,steps=4000,rescaled=yes",
    "openai:heads=4,order=legacy,cosine,steps=4000,rescaled=no",
    "openai:heads=1,order=legacy,linear,steps=1000,rescaled=no",
    "openai:heads=4,order=legacy,linear,steps=1000,rescaled=no",
    "openai:head_channels=64,order=legacy,linear,steps=1000,rescaled=no",
    "openai:head_channels=64,order=new,cosine,steps=1000,rescaled=no",
    "torchcfm:icfm,head_channels=64,order=legacy",
    "score_sde:vp",
    "score_sde:subvp",
    "score_sde:ve",
    "lucidrains:pred_noise",
    "lucidrains:pred_x0",
    "lucidrains:pred_v",
)


@dataclass(frozen=True)
class ReadAs:
    """A family, and its options by name."""

    family: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = ",".join(f"{key}={_written(value)}" for key, value in self.options.items())
        return f"{self.family}:{words}" if words else self.family

    def joined(self, other: ReadAs, where: str, whose: str) -> ReadAs:
        """These options and those that ``other`` adds; `CheckpointError` where both say something else."""
        pairs = {"family": (self.family, other.family)} if self.family != other.family else {}
        pairs |= {
            key: (value, other.options[key])
            for key, value in self.options.items()
            if other.options.get(key, value) != value
        }
        if pairs:
            told = "; ".join(f"{key} = {_written(own)}, {_written(its)}" for key, (own, its) in pairs.items())
            raise CheckpointError(
                f"{where}: --as {self} contradicts {whose}: {told}",
                hint="leave out what the file, its card or its name says, or mend the one that is wrong",
                file=where,
                differences=list(pairs),
            )
        return ReadAs(self.family, {**other.options, **self.options})

    def alternatives(self) -> list[str]:
        """The same words but for one, which change numbers and not shapes."""
        others = {
            "rescaled": (True, False), "schedule": ("linear", "cosine"), "order": ("legacy", "new"),
            "sde": ("vp", "subvp"), "objective": ("pred_noise", "pred_x0", "pred_v"),
        }  # fmt: skip
        return [
            str(ReadAs(self.family, {**self.options, key: value}))
            for key, values in others.items()
            for value in values
            if self.options.get(key, value) != value and self.options[key] in values
        ]

    def candidates(self) -> list[str]:
        """The published readings that these words leave open, with them."""
        known = [parsed(words) for words in PUBLISHED]
        return [
            str(ReadAs(self.family, {**other.options, **self.options}))
            for other in known
            if other.family == self.family
            and all(other.options.get(key, value) == value for key, value in self.options.items())
        ]


def parsed(text: str) -> ReadAs:
    """What ``FAMILY[:option=value,...]`` says.

    Raises
    ------
    UsageError
        A family or an option that is not known, or a value that it does not take.
    """
    family, _, rest = text.partition(":")
    family = family.strip().replace("-", "_")
    if family not in FAMILIES:
        raise UsageError(
            f"--as {text!r:.100}: {family!r:.40} is no family of checkpoints",
            hint=f"known: {', '.join(FAMILIES)}{_similar(family, FAMILIES)}",
        )
    known = FAMILIES[family]
    options: dict[str, object] = {}
    for part in filter(None, (word.strip() for word in rest.split(","))):
        key, is_set, value = (side.strip() for side in part.partition("="))
        if not is_set and known.get(key) is not is_flag and family in MAIN:
            key, value = MAIN[family], key
        read = _value(value) if is_set or key != part else True
        check = known.get(key)
        if check is None or not check(read):
            takes = f"not this: {(check.__doc__ or '').rstrip('.')}" if check else "no option of it"
            raise UsageError(
                f"--as {text!r:.100}: {part!r:.60} is {takes}",
                hint=f"{family} takes {', '.join(known)}{_similar(key, known) if check is None else ''}",
            )
        if options.setdefault(key, read) != read:
            raise UsageError(f"--as {text!r:.100}: {key} is said twice")
    return ReadAs(family, options)


def unstated(where: str, said: ReadAs, needed: list[str]) -> CheckpointError:
    """The error that asks for what only the owner of a file knows."""
    words = {
        "schedule": "schedule=linear or cosine",
        "steps": "steps=1000 or 4000",
        "rescaled": "rescaled=yes (the default of improved-diffusion) or no (of guided-diffusion)",
        "heads": "heads=N or head_channels=N",
        "order": "order=legacy or new (guided-diffusion's --use_new_attention_order)",
        "model": "model=icfm, fm or otcfm",
        "sde": "sde=vp, subvp or ve",
        "objective": "objective=pred_noise, pred_x0 or pred_v",
    }
    return CheckpointError(
        f"{where}: the file does not say {', '.join(needed)}, and other numbers follow from each value",
        hint=f"add to --as {said.family}: {'; '.join(words[key] for key in needed)}",
        file=where,
        differences=needed,
        key="read_as",
        expected=said.candidates(),
    )


def _value(text: str) -> object:
    if text.lower() in FLAGS:
        return FLAGS[text.lower()]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if is_number(number) else text
    return text


def _written(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _similar(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
