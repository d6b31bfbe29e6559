"""Progress on standard error: images done, running mean, evaluations per image, finishing time.

On a terminal one line that is rewritten; otherwise, or under NO_COLOR, a line a minute.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from merged_diffusion.escapes import shown

if TYPE_CHECKING:
    from merged_diffusion.jobs.blocks import Blocks
    from merged_diffusion.sampling import Samples
    from merged_diffusion.scores.record import Record

REDRAW_SECONDS: Final = 0.2
LINE_SECONDS: Final = 60.0


class RunningMean:
    """Mean and plain standard error of values as they come (Welford 1962)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self._squares += step * (value - self.mean)

    @property
    def se(self) -> float:
        """Standard error of the mean; NaN below two values."""
        return math.sqrt(self._squares / (self.n - 1) / self.n) if self.n > 1 else math.nan


class Progress:
    """Follows images as they are done; ``totals`` are those that are left, by model."""

    def __init__(
        self, totals: Mapping[str, int], notes: Iterable[str], *, quiet: bool, blocks: Blocks | None = None
    ) -> None:
        self._quiet = quiet
        self._is_shared = (
            blocks is not None and blocks.shard != blocks.answers_for
        )  # of images that others do, too
        self._rewrites = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        self._totals = totals
        self._bits: dict[str, RunningMean] = {name: RunningMean() for name in self._totals}
        self._done = dict.fromkeys(self._totals, 0)
        self._evaluations = dict.fromkeys(self._totals, 0.0)
        self._start = self._shown = time.monotonic()
        for note in notes:
            self._write(f"note: {shown(note)}\n")

    def update(self, model: str, record: Record) -> None:
        """Take the record of an image."""
        if record.is_ok and record.bits_per_dim is not None:
            self._bits[model].add(record.bits_per_dim)
        self._count(model, 1, record.total_evaluations)

    def drawn(self, model: str, samples: Samples) -> None:
        """Take images that were drawn."""
        evaluations = sum(float(counts.sum()) for counts in samples.evaluations.values())
        self._count(model, len(samples), evaluations)

    def _count(self, model: str, n: int, evaluations: float) -> None:
        self._done[model] += n
        self._evaluations[model] += evaluations
        now = time.monotonic()
        if now - self._shown >= (REDRAW_SECONDS if self._rewrites else LINE_SECONDS):
            self._shown = now
            self._draw(model, now)

    def line(self, model: str, now: float) -> str:
        """The line of progress."""
        done, bits = self._done[model], self._bits[model]
        here = " here" if self._is_shared else ""
        parts = [f"{model} {done}/{self._totals[model]}{here}"]
        if bits.n:
            parts.append(f"{bits.mean:.3f}" + (f" ± {bits.se:.3f}" if bits.n > 1 else "") + " bits/dim")
        parts.append(f"{self._evaluations[model] / done:.0f} evaluations/image")
        if self._is_shared:
            return "  ".join(parts)
        finished = sum(self._done.values())
        left = (now - self._start) / finished * (sum(self._totals.values()) - finished)
        parts.append(f"done at {datetime.now() + timedelta(seconds=left):%H:%M:%S}")
        return "  ".join(parts)

    def _draw(self, model: str, now: float) -> None:
        text = self.line(model, now)
        self._write(f"\r\x1b[2K{text}" if self._rewrites else f"{text}\n")

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._quiet = True  # nobody reads it any more; the evaluation goes on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._rewrites:
            self._write("\r\x1b[2K")


def duration(seconds: float) -> str:
    """A length of time for people: "40 s", "3 min", "5.2 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
