"""The paper's own figures (table 1, bits/dim and evaluations), beside results on its data.

Its setting: K = 1 truncated-normal draw, Dormand-Prince 5(4) at 1e-5 with steps shared by the batch, one
fixed probe, float32 networks with averaged weights, all test images; the published EDM (on ImageNet32 its
own training) and VDMs of its own training on gamma in [-13.3, 5].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from merged_diffusion.catalogue.entries import known
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.jobs.identity import Identity

Row = dict[str, tuple[float, int]]

COLUMNS: Final = ("0", "min", *(f"0.{digit}" for digit in range(1, 9)), "max", "1")


def _row(bits: str, evaluations: str) -> Row:
    pairs = zip(map(float, bits.split()), map(int, evaluations.split()), strict=True)
    return dict(zip(COLUMNS, pairs, strict=True))


TABLE_1: Final[Mapping[str, Row]] = {
    "cifar10": _row(
        "3.21 3.09 2.83 2.69 2.63 2.62 2.62 2.63 2.63 2.63 2.64 2.64",
        "204 232 234 236 253 259 254 251 257 273 274 248",
    ),
    "imagenet32-old": _row(
        "4.04 3.96 3.80 3.76 3.74 3.72 3.72 3.72 3.72 3.72 3.72 3.72",
        "195 185 192 186 180 180 196 210 220 232 236 205",
    ),
}
SETTINGS: Final[Mapping[str, object]] = {
    "method": "dopri5",
    "step_control": "shared",
    "rtol": 1e-5,
    "atol": 1e-5,
    "probe": "fixed",
    "probes": 1,
    "convention": "paper",
    "dequantise": "truncated-normal",
    "importance": 1,
    "repeats": 1,
    "dtype": "float32",
    "range": "native",
    "labels": "none",
    "extrapolate": False,
}
ETA_RANGE: Final = (-13.3, 8.764)
OF_MODEL: Final = {"likelihood": "1", "quality": "0"}
EDM: Final = {"cifar10": "edm-cifar10-32x32-uncond-vp"}


@dataclass(frozen=True)
class Published(TypedValues):
    """An entry of the paper's table, and where a run differs from it; of an expert alone the entry alone."""

    bits_per_dim: float
    evaluations: int
    table: int | None = None
    differences: list[str] | None = None


def beside(identity: Identity, n: int) -> Published | None:
    """The paper's figures for a run of ``n`` images; None on other data or thresholds."""
    name, column = _set(identity), _column(identity)
    if name is None or column is None:
        return None
    return Published(*TABLE_1[name][column], table=1, differences=list(_differences(identity, name, n)))


def of_expert(identity: Identity, role: str) -> Published | None:
    """The paper's figures for one expert alone, on its own range."""
    name = _set(identity)
    return None if name is None else Published(*TABLE_1[name][OF_MODEL[role]])


def _set(identity: Identity) -> str | None:
    """The set's name in the table, if these are its published test images."""
    data = identity.data
    return data.name if data.name in TABLE_1 and data.split == "test" and not data.modified else None


def _column(identity: Identity) -> str | None:
    if identity.model != "merged":
        return OF_MODEL[identity.model]
    asked = identity.settings["eta"]
    if asked in ("min", "max"):
        return str(asked)
    eta = (identity.threshold or {}).get("eta")
    if eta is None:
        return None
    word = f"{round(eta, 6):g}"
    return word if word in TABLE_1["cifar10"] else None


def _differences(identity: Identity, name: str, n: int) -> Iterator[str]:
    whole = known()["data"][name]["n_test"]
    if n != whole:
        yield f"{n} of {whole} images"
    for role, expert in identity.experts.items():
        low, high = expert.gamma_range
        told = f"{role} expert {expert.source} on gamma [{low:g}, {high:g}]"
        if role == "likelihood":
            yield f"{told}; the paper's VDM was its own training, on [-13.3, 5]"
        elif name not in EDM:
            yield f"{told}; the paper's EDM was its own training, on [-12.43, 8.764]"
        elif expert.source != EDM[name]:
            yield f"{told}; the paper's is the published {EDM[name]}, on [-12.43, 8.764]"
    if identity.model == "merged" and len(identity.experts) == 2:
        ends = (identity.legs[0].start, identity.legs[-1].end)
        if max(abs(end - published) for end, published in zip(ends, ETA_RANGE, strict=True)) > 1e-9:
            yield "gamma from {:g} to {:g}; the paper's from {:g} to {:g}".format(*ends, *ETA_RANGE)
    for key, value in SETTINGS.items():
        found = identity.settings[key]
        if found != value:
            yield f"{key.replace('_', '-')} {found}; the paper's {value}"
