"""An expert on disk: a folder with ``model.safetensors`` and ``card.toml``.

The card says what the numbers in the weights mean: kind, network, gamma range, data convention, how it was
trained and measured. A recipe is the same file before training: ``[training]`` filled in, ``sha256`` and
``[results]`` absent. What `experts convert` wrote names in ``[converted]`` the file that it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Required, TypedDict, cast

import torch

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.public_expert import PublicExpert
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.weights import regular_size

FORMAT: Final = 1
MAX_GAMMA: Final = 60.0  # alpha and sigma have their digits up to there
MAX_CARD_BYTES: Final = 1 << 20
# What tomllib spends on a dotted key grows with the square of its dots; a list of numbers may have as many.
MAX_DOTS: Final = 64
NUMBERS: Final = re.compile(r"(?:[\w-]+ *= *\[)?[-+.\w, ]*\]?,?")
TABLES: Final = ("network", "clock", "training", "results", "converted")
# What a network of each kind may predict, and of which time and input. ``velocity`` is F of
# eps_hat = alpha F + sigma z for ever: folders hold the word that are older than those for a flow's sign.
MEANING: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "vdm": {"predicts": ("eps", "velocity"), "time": ("gamma",), "input": ("vp", "sp")},
    "edm": {"predicts": ("x0",), "time": ("log_edm_sigma_over_4",), "input": ("edm",)},
    "ddpm": {"predicts": ("eps", "x0", "v"), "time": ("timestep",), "input": ("vp",)},
    "flow": {"predicts": ("x0-minus-eps", "eps-minus-x0"), "time": ("t01",), "input": ("flow",)},
    "vp_sde": {"predicts": ("eps", "score"), "time": ("t01",), "input": ("vp", "sub_vp")},
    "ve": {"predicts": ("score",), "time": ("edm_sigma",), "input": ("edm",)},
}
VELOCITY: Final = (
    "velocity of such a card is F with eps_hat = alpha F + sigma z; a network of another kind or sign is "
    "declared by CallableExpert, with eps-minus-x0 or x0-minus-eps"
)

Kind = Literal["vdm", "edm", "ddpm", "flow", "vp_sde", "ve"]


class Meaning(TypedDict, total=False):
    """The fields of a `Card` that say what the numbers in its weights mean."""

    kind: Required[Kind]
    predicts: Required[str]
    time: Required[str]
    input: Required[str]
    gamma_range: Required[tuple[float, float]]
    clock: Mapping[str, object]
    data_std: float


@dataclass(frozen=True)
class Card:
    """What a ``card.toml`` holds."""

    name: str
    kind: Kind
    predicts: str
    time: str
    input: str
    pixels: Literal["centred", "ends"]
    levels: int
    image_shape: tuple[int, int, int]
    gamma_range: tuple[float, float]
    network: Mapping[str, object]
    clock: Mapping[str, object] | None = None
    labels: bool = False
    licence: str = ""
    source: str = ""
    data_std: float | None = None
    precision: Literal["float16", "float32"] = "float16"
    sha256: str | None = None
    training: Mapping[str, object] | None = None
    results: Mapping[str, object] | None = None
    converted: Mapping[str, object] | None = None

    @property
    def n_classes(self) -> int:
        """How many classes the network is told apart; 0 where it wants no label."""
        return int(cast(int, self.network.get("label_dim", 0)))

    @property
    def meaning(self) -> str | None:
        """A digest of what the weights mean but for their shapes, which no hash of them shows.

        None for the kinds of which a run says it in words: VDM's, and EDM's small networks and DDPM++.
        """
        is_usual = self.network.get("architecture", "small") in ("small", "ddpmpp")
        if self.kind == "vdm" or (self.kind == "edm" and is_usual):
            return None
        words = [self.kind, self.predicts, self.input, self.clock, dict(self.network), self.data_std]
        return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def expert(self, seed: int = 0) -> VdmExpert | EdmExpert | PublicExpert:
        """The expert with its network newly initialised; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._expert()

    def blank(self) -> VdmExpert | EdmExpert | PublicExpert:
        """The expert without storage for its weights, to be given by ``load_state_dict(..., assign=True)``.

        Keys and shapes are known before memory is: a file's are compared with them first, and whatever sizes
        a card states, no more is used than the file has.
        """
        try:
            with torch.device("meta"):
                return self._expert()
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"no network can be made of [network] for images of {self.image_shape} "
                f"({type(error).__name__}: {str(error)[:200]})",
                key="network",
            ) from error

    def _expert(self) -> VdmExpert | EdmExpert | PublicExpert:
        if self.kind == "vdm":
            return VdmExpert(
                self.name,
                self.network,
                image_shape=self.image_shape,
                levels=self.levels,
                gamma_range=self.gamma_range,
                pixels=self.pixels,
                periods=cast("Sequence[float]", self.network.get("periods", ())),
                predicts="velocity" if self.predicts == "velocity" else "eps",
                input="sp" if self.input == "sp" else "vp",
            )
        if self.kind != "edm":
            return PublicExpert(
                self.name,
                self.kind,
                self.network,
                self.clock or {},
                predicts=self.predicts,
                input=self.input,
                image_shape=self.image_shape,
                levels=self.levels,
                gamma_range=self.gamma_range,
                pixels=self.pixels,
            )
        if self.data_std is None:
            raise CheckpointError(
                f"{self.name}: an EDM card needs data_std",
                hint="the standard deviation of the training data in [-1, 1]",
                key="data_std",
            )
        return EdmExpert(
            self.name,
            self.network,
            image_shape=self.image_shape,
            levels=self.levels,
            gamma_range=self.gamma_range,
            data_std=self.data_std,
            pixels=self.pixels,
        )

    def toml(self) -> str:
        """The card as a file."""
        head = {"format": FORMAT} | {f.name: getattr(self, f.name) for f in fields(self)}
        text = "".join(_line(k, v) for k, v in head.items() if k not in TABLES and v is not None)
        for table in TABLES:
            rows = getattr(self, table)
            if rows is not None:
                text += f"\n[{table}]\n" + "".join(_line(k, v) for k, v in rows.items())
        return text


def _line(key: str, value: object) -> str:
    # JSON's strings (but for one control character), booleans, numbers and lists of them are TOML's.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")


def read_card(path: str | Path) -> Card:
    """The card in a file, checked; `CheckpointError` names what is wrong."""
    path = Path(path)
    try:
        if regular_size(path) > MAX_CARD_BYTES:
            raise UnsafeFileError(f"{path}: a card of over {MAX_CARD_BYTES} bytes is refused")
        text = read_text(path)
        if any(line.count(".") > MAX_DOTS and not NUMBERS.fullmatch(line) for line in text.split("\n")):
            raise UnsafeFileError(f"{path}: a line of over {MAX_DOTS} dots is refused", file=str(path))
        table = tomllib.loads(text)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file",
            hint="a card says what an expert is (docs/formats.md); recipes/ has some to train from",
            file=str(path),
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable TOML file ({error})", file=str(path)) from error
    return card_of(table, str(path))


def card_of(table: dict[str, Any], where: str) -> Card:
    """The card that a TOML table states; ``where`` names its origin in messages."""
    table = dict(table)
    if (version := table.pop("format", None)) != FORMAT:
        raise CheckpointError(
            f"{where}: format = {version!r}, this version reads format = {FORMAT}", key="format"
        )
    _check_types(table, where)
    kind = table["kind"]
    for key, expected in MEANING[kind].items():
        if table[key] not in expected:
            allowed = " or ".join(map(repr, expected))
            raise CheckpointError(
                f"{where}: {key} = {table[key]!r}, but a network of kind {kind!r} has {key} = {allowed}",
                hint=VELOCITY if "velocity" in expected else None,
                key=key,
                expected=expected,
                found=table[key],
            )
    labels, classes = table.get("labels", False), table["network"].get("label_dim", 0)
    if labels != bool(classes):
        raise CheckpointError(
            f"{where}: labels = {json.dumps(labels)}, but network.label_dim = {classes!r:.100}",
            hint="labels says whether the network wants one with every image",
            key="labels",
        )
    low, high = table["gamma_range"]
    check_interval(low, high, where)
    if table["levels"] < 2:
        raise CheckpointError(
            f"{where}: levels = {table['levels']}, where at least 2 are needed", key="levels"
        )
    channels, *sides = table["image_shape"]
    if channels < 1 or min(sides) < 0:
        raise CheckpointError(
            f"{where}: image_shape = {table['image_shape']} is no channels, height and width",
            hint="a height and a width of 0 stand for any",
            key="image_shape",
        )
    table["gamma_range"] = (float(low), float(high))
    table["image_shape"] = tuple(table["image_shape"])
    return Card(**table)


def check_interval(low: float, high: float, where: str) -> None:
    """`CheckpointError` unless gamma may run from ``low`` to ``high``."""
    if not -MAX_GAMMA <= low < high <= MAX_GAMMA:
        raise CheckpointError(
            f"{where}: gamma from {low} to {high} is no interval within [-{MAX_GAMMA:g}, {MAX_GAMMA:g}]",
            key="gamma_range",
        )


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "name": str, "kind": str, "predicts": str, "time": str, "input": str, "pixels": str, "levels": int,
    "image_shape": list, "gamma_range": list, "network": dict, "labels": bool, "licence": str, "source": str,
    "data_std": (float, int), "precision": str, "sha256": str, "clock": dict, "training": dict,
    "results": dict, "converted": dict,
}  # fmt: skip
_REQUIRED: Final = frozenset(f.name for f in fields(Card) if f.default is MISSING)
_CHOICES: Final = {"kind": tuple(MEANING), "pixels": ("centred", "ends"), "precision": ("float16", "float32")}
_LENGTHS: Final = {"image_shape": 3, "gamma_range": 2}


def _check_types(table: Mapping[str, object], where: str) -> None:
    wrong = [f"{key} is missing" for key in sorted(_REQUIRED - table.keys())]
    wrong += [f"{key} is unknown" for key in sorted(table.keys() - _TYPES.keys())]
    wrong += [fault for key in sorted(table.keys() & _TYPES.keys()) if (fault := _fault(key, table[key]))]
    if wrong:
        raise CheckpointError(f"{where}: {'; '.join(wrong)}", differences=wrong)


def _fault(key: str, value: Any) -> str | None:
    if not isinstance(value, _TYPES[key]):
        return f"{key} = {value!r} is of type {type(value).__name__}"
    if key in _CHOICES and value not in _CHOICES[key]:
        return f"{key} = {value!r} is none of {', '.join(_CHOICES[key])}"
    if isinstance(value, float) and not 0 < value < math.inf:  # data_std
        return f"{key} = {value} is not positive and finite"
    if isinstance(value, dict) and (strange := [entry for entry in value if not _is_plain(value[entry])]):
        return f"{key}.{strange[0]} is neither text, a boolean, a finite number nor a list of these"
    numbers = value if isinstance(value, list) else []
    if key in _LENGTHS and [isinstance(v, int | float) for v in numbers] != [True] * _LENGTHS[key]:
        return f"{key} = {value!r} is not {_LENGTHS[key]} numbers"
    return None


def _is_plain(value: Any) -> bool:
    """Whether a card can be written with it."""
    if isinstance(value, list):
        return all(not isinstance(entry, list) and _is_plain(entry) for entry in value)
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
