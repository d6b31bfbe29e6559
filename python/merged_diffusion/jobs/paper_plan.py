"""What repeating the paper takes: for each table, which files, which command, how many evaluations.

Evaluations are the paper's own mean numbers for an image (`paper.TABLE_1`, table 2) times its images; a bound
takes its times and repeats. Hours are these times a cost for an evaluation that was measured, one of a
likelihood (forward and vector-Jacobian product) or one of a sample (forward); without it there are none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.entries import Kind, known, pair_card, public
from merged_diffusion.errors import DataError
from merged_diffusion.jobs import published_table as paper

PAIR: Final = "cifar10"
SAMPLES: Final = 50_000
OUT: Final = "results/paper"
# Of table 2, in the columns of table 1: the evaluations of the ODE sampler.
DRAWN: Final = (125, 145, 147, 159, 169, 173, 193, 221, 239, 226, 238, 206)
ANCESTRAL: Final = 256  # steps, the same everywhere
BOUND_TIMES, BOUND_REPEATS = 128, 10
ETAS: Final = "0,min,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,max,1"


@dataclass(frozen=True)
class PublicFile:
    """A file that a table needs: whether it is in the cache, and how it comes there."""

    name: str
    kind: str
    present: bool
    get: str


@dataclass(frozen=True)
class PaperTable:
    """A table or figure: the commands that make it, and what they take.

    ``products`` are evaluations with a vector-Jacobian product, ``calls`` those without.
    """

    name: str
    commands: tuple[str, ...]
    needs: tuple[str, ...]
    products: int
    calls: int

    def hours(self, cost: Cost | None) -> float | None:
        """On the device whose cost was measured."""
        return None if cost is None else (self.products * cost.product + self.calls * cost.call) / 3600


@dataclass(frozen=True)
class Cost:
    """Seconds that an evaluation of one image takes on a device: with a product, and without."""

    device: str
    product: float
    call: float

    @classmethod
    def read(cls, path: Path) -> Cost:
        """From what ``benches/device.py`` wrote.

        Raises
        ------
        DataError
            It holds no cost of a full-size network.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            cost = found["parts"]["cost"]
            return cls(str(found["device"]), float(cost["product_seconds"]), float(cost["call_seconds"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(
                f"{path}: holds no measured cost ({type(error).__name__}: {error})",
                hint="python benches/device.py --out device.json --part cost measures it",
                file=str(path),
            ) from error


def files(cache: Path | None) -> list[PublicFile]:
    """The public files of CIFAR-10's pair, the set, and the statistics for distances."""
    card = pair_card(PAIR)
    wanted: list[tuple[Kind, str]] = [
        ("data", card.data),
        ("expert", card.likelihood),
        ("expert", card.quality),
    ]
    wanted += [("stats", name) for name in known()["stats"]]
    found = []
    for kind, name in wanted:
        entry = public(kind, name)
        if entry is None:
            continue
        by_hand = None if entry.by_hand is None else f"{entry.source}: {entry.by_hand}"
        get = by_hand or f"merged-diffusion fetch {name}"
        found.append(PublicFile(name, kind, entry.is_present(cache), get))
    return found


def tables() -> Iterator[PaperTable]:
    """Those of CIFAR-10; the experts of ImageNet32 were never published."""
    n = known()["data"][PAIR]["n_test"]
    likelihood = sum(evaluations for _, evaluations in paper.TABLE_1[PAIR].values())
    needs = ("data", "expert")
    yield PaperTable(
        "table 1: exact likelihood over the threshold",
        (
            f"merged-diffusion sweep --data {PAIR} --etas {ETAS} --preset paper --out {OUT}/nll",
            f"merged-diffusion runs export {OUT}/nll --table 1",
        ),
        needs,
        n * likelihood,
        0,
    )
    drawn = f"--metric sample --num {SAMPLES}"
    yield PaperTable(
        "table 2: distance of samples over the threshold",
        (
            f"merged-diffusion sweep --data {PAIR} --etas {ETAS} {drawn} --sampler ode --out {OUT}/ode",
            f"merged-diffusion sweep --data {PAIR} --etas {ETAS} {drawn} --sampler ancestral --steps "
            f"{ANCESTRAL} --out {OUT}/ancestral",
            f"merged-diffusion runs export {OUT}/ode {OUT}/ancestral --table 2",
        ),
        ("expert", "stats"),
        0,
        SAMPLES * (sum(DRAWN) + ANCESTRAL * len(DRAWN)),
    )
    yield PaperTable(
        "tables 3 and 6: beside the literature",
        (f"merged-diffusion runs export {OUT}/nll {OUT}/ode --table 3",),
        needs,
        0,
        0,
    )
    yield PaperTable(
        "table 4: the ends of the experts' ranges",
        (f"merged-diffusion runs export {OUT}/nll --table 4",),
        needs,
        0,
        0,
    )
    yield PaperTable(
        "table 5: the variational bound",
        (
            f"merged-diffusion sweep --data {PAIR} --etas {ETAS} --metric vlb --times {BOUND_TIMES} "
            f"--repeats {BOUND_REPEATS} --out {OUT}/vlb",
            f"merged-diffusion runs export {OUT}/vlb --table 5",
        ),
        needs,
        0,
        n * BOUND_TIMES * BOUND_REPEATS * len(DRAWN),
    )
    yield PaperTable(
        "the figures: bits/dim and distance over the threshold, and against each other",
        (f"merged-diffusion runs report {OUT}/nll {OUT}/ode --out {OUT}/report.html",),
        needs,
        0,
        0,
    )


def as_dict(cache: Path | None, cost: Cost | None) -> Mapping[str, object]:
    """The plan as JSON values."""
    there = files(cache)
    missing = {file.kind for file in there if not file.present}
    return {
        "command": "paper",
        "dry_run": True,
        "cost": None if cost is None else dict(vars(cost)),
        "files": [dict(vars(file)) for file in there],
        "tables": [
            dict(vars(table)) | {"possible": not missing & set(table.needs), "hours": table.hours(cost)}
            for table in tables()
        ],
    }
