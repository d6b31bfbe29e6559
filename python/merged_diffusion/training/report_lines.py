"""What a training tells on its way: one line a report, kept in its folder, and handed to whoever listens.

``progress.csv`` has the numbers that belong to the training itself, ``reports.jsonl`` a line of JSON a report
with speed, time and finish beside them, ``loss.png`` the curve. All are written right before a snapshot of
the same step or a later one, and lines beyond the snapshot that a training goes on from are written again: it
repeats no line and lacks none after a kill.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.training.held_back import table

PROGRESS: Final = "progress.csv"
LINES: Final = "reports.jsonl"
CURVE: Final = "loss.png"
CURVE_SECONDS: Final = 60.0  # between two drawings of the curve


@dataclass(frozen=True)
class Report:
    """A training at a step.

    ``images`` counts those that were trained on, ``images_sha256`` their ids in order; ``seconds`` is the
    time of all its parts, ``finish`` where the clock will be at the last step if it goes on as in this part.
    """

    step: int
    steps: int
    images: int
    epochs: float
    train_loss: float
    held_back_bits_per_dim: float
    learning_rate: float
    images_per_second: float
    seconds: float
    seconds_left: float
    finish: str
    processes: int
    images_sha256: str

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


class Board(Protocol):
    """Where numbers are shown: TensorBoard, Weights & Biases."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step."""

    def close(self) -> None:
        """No more."""


class Reports:
    """The reports of a training in its folder; they wait for `write`."""

    def __init__(
        self,
        folder: Directory,
        on_report: Callable[[Report], object] | None = None,
        boards: Sequence[Board] = (),
    ) -> None:
        self._folder = folder
        self._on_report = on_report
        self._boards = boards
        self._waiting: list[Report] = []
        self._lines: list[dict[str, object]] = []
        self._drawn = 0.0

    def begin(self, step: int) -> float:
        """Keep those up to ``step``, for later ones are repeated; the seconds that they tell of."""
        with as_kept(self._folder.path / LINES):
            lines = [line for line in _lines(self._folder) if int(line["step"]) <= step]
            self._lines = [*lines]
            return float(lines[-1]["seconds"]) if lines else 0.0

    def add(self, report: Report) -> None:
        """A new one; listeners hear of it at once."""
        self._waiting.append(report)
        if self._on_report is not None:
            self._on_report(report)

    def write(self, rows: list[list[float]], *, last: bool = False) -> None:
        """Write those that wait; ``rows`` are all of the snapshot that comes next."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._lines += [report.as_dict() for report in waiting]
            text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in self._lines)
            self._folder.write(LINES, text.encode())  # the first file of all in the folder of a training
            self._folder.write(PROGRESS, table(rows))
            for report in waiting:
                values = {k: float(v) for k, v in report.as_dict().items() if isinstance(v, int | float)}
                for board in self._boards:
                    board.add(report.step, values)
        if rows and (last or time.monotonic() - self._drawn > CURVE_SECONDS):
            self._folder.write(CURVE, curve(rows))
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Leave the boards."""
        for board in self._boards:
            board.close()


def finish_at(seconds_left: float) -> str:
    """The time of day in so many seconds, with its zone."""
    moment = datetime.now().astimezone() + timedelta(seconds=min(seconds_left, 1e9))
    return moment.isoformat(timespec="seconds")


def _lines(folder: Directory) -> list[dict[str, Any]]:
    if folder.status(LINES) is None:
        return []
    return [json.loads(line) for line in folder.read(LINES).decode().splitlines()]


def curve(rows: list[list[float]]) -> bytes:
    """The losses over the steps, as PNG."""
    from matplotlib.ticker import LogFormatter

    from merged_diffusion.plots.look import COLOURS, blank, label_y

    class Plain(LogFormatter):
        """Numbers as they are read, where matplotlib would write a power of ten."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:.3g}" if super().__call__(x, pos) else ""

    figure, axes = blank()
    steps, train, held = zip(*rows, strict=True)
    axes.plot(steps, train, color=COLOURS["quality"], linewidth=1.4)
    axes.set_xlabel("step")
    label_y(axes, "training loss")
    other = axes.twinx()
    other.plot(steps, held, color=COLOURS["likelihood"], linewidth=1.4)
    other.spines[["top"]].set_visible(False)
    label_y(other, "held-back images (bits/dim)")
    for side, colour in ((axes, COLOURS["quality"]), (other, COLOURS["likelihood"])):
        side.yaxis.label.set_color(colour)
        if min(min(train), min(held)) > 0:
            side.set_yscale("log")
            side.yaxis.set_major_formatter(Plain())
            side.yaxis.set_minor_formatter(Plain(minor_thresholds=(2, 0.5)))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
