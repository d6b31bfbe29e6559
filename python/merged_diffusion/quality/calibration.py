"""What train says of neighbours, kept with its statistics: which features span balls, floors, nearness."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from merged_diffusion.errors import DataError
from merged_diffusion.quality.copies import Nearness
from merged_diffusion.quality.manifolds import FEWEST, METRICS

Floor = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Calibration:
    """``n`` of the stored features span balls (None: all); ``floors`` by metric: (n, value of n of train).

    The images whose values the floors are were drawn, each at most once, from those of train that span no
    ball: else an image would lie in its own.
    """

    n: int | None = None
    floors: Mapping[str, Floor] = field(default_factory=dict)
    nearness: Nearness | None = None

    def floor_at(self, metric: str, n: int) -> float | None:
        """The value of ``n`` images of train, straight lines in log n; None outside of the table."""
        table = self.floors.get(metric, ())
        if not table or not table[0][0] <= n <= table[-1][0]:
            return None
        counts, values = np.array(table, dtype=np.float64).T
        return float(np.interp(math.log(n), np.log(counts), values))

    def as_json(self) -> str:
        """What `Calibration.of` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str, where: str) -> Calibration:
        """From JSON; `DataError` where it is broken."""
        try:
            table = json.loads(text)
            n, nearness = table["n"], table["nearness"]
            if not (n is None or (type(n) is int and n >= FEWEST)) or not set(table["floors"]) <= set(
                METRICS
            ):
                raise ValueError(n)
            floors = {
                name: tuple((int(count), float(value)) for count, value in rows)
                for name, rows in table["floors"].items()
            }
            for rows in floors.values():
                counts = [count for count, _ in rows]
                if counts != sorted(set(counts)) or min(counts, default=1) < 1:
                    raise ValueError(counts)
                if not all(math.isfinite(value) for _, value in rows):
                    raise ValueError(rows)
            if nearness is not None:
                nearness = Nearness(float(nearness["factor"]), float(nearness["share"]))
                if not (0 <= nearness.factor < math.inf and 0 <= nearness.share <= 1):
                    raise ValueError(nearness)
            return cls(n, floors, nearness)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise DataError(
                f"{where}: neighbours is broken ({error!r})", file=where, key="neighbours"
            ) from error
