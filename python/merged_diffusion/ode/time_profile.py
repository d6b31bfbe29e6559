"""Where the time of a solve goes, part by part; the parts add up to the whole.

Verbs of the workspaces are timed by the core (`_core.solve`), what callbacks do inside them here: so evaluate
falls into network, products and probes, load into starts and copies. What is left of the verbs and of the
solve is the driver's: decisions, and the crossing between Rust and Python.

Seconds are the host's. Where verbs only queue work for a device, that shows as waits, and the device's own
seconds in network and products, by events in its queue, stand beside: measuring them waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from merged_diffusion.ode.stopwatch import Stopwatch

if TYPE_CHECKING:
    import torch

Part = Literal[
    "network",  # forward calls of experts
    "products",  # vector-Jacobian products, and their inner products with the probes
    "arithmetic",  # verbs of the workspaces but evaluate and collect
    "driver",  # the core's decisions, what lies between it and Python, and q from the products
    "waits",  # collect
    "starts",  # states that problems begin with
    "probes",  # directions of the trace
    "data",  # images loaded
    "records",  # outcomes made into records, or images, and kept
    "other",  # images and experts checked, buffers made, results sorted
]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
ARITHMETIC: Final = ("load", "save", "combine", "scaled_square", "gram", "accept")
QUEUED: Final[tuple[Part, ...]] = ("network", "products")  # what a device is asked the time of

During = Callable[[Part], AbstractContextManager[None]]
Verbs = Mapping[str, tuple[int, float]]
"""Calls and seconds, by name."""


def untimed(part: Part) -> AbstractContextManager[None]:  # noqa: ARG001  the signature of `Timekeeper.during`
    """A `During` that keeps no time."""
    return nullcontext()


@dataclass(frozen=True)
class TimeProfile:
    """Seconds by part and by verb, and counts, of one solve or of several together."""

    seconds: Mapping[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    verbs: Verbs = field(default_factory=dict)
    device_seconds: Mapping[Part, float] | None = None
    """Of the device's queue in network and products; None where all ran on the host."""
    frames: int = 0
    """Attempts of a step, of all rows of a leg at once."""
    network_calls: int = 0
    rows_called: int = 0
    useful_rows: int = 0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    @property
    def waits(self) -> int:
        """How often the host waited for what was queued."""
        return self.verbs.get("collect", (0, 0.0))[0]

    @property
    def outside_network(self) -> float | None:
        """Share of the total that was neither network nor products; None of nothing."""
        inside = self.seconds if self.device_seconds is None else self.device_seconds
        return _ratio(self.total - sum(inside[part] for part in QUEUED), self.total)

    def __add__(self, other: Self) -> TimeProfile:
        """Both together."""
        verbs = dict.fromkeys((*self.verbs, *other.verbs), (0, 0.0))
        for held in (self.verbs, other.verbs):
            for name, (calls, seconds) in held.items():
                verbs[name] = (verbs[name][0] + calls, verbs[name][1] + seconds)
        on_device = [one for one in (self.device_seconds, other.device_seconds) if one is not None]
        return TimeProfile(
            {part: self.seconds[part] + other.seconds[part] for part in PARTS},
            verbs,
            {part: sum(one[part] for one in on_device) for part in QUEUED} if on_device else None,
            frames=self.frames + other.frames,
            network_calls=self.network_calls + other.network_calls,
            rows_called=self.rows_called + other.rows_called,
            useful_rows=self.useful_rows + other.useful_rows,
        )

    def with_data(self, seconds: float) -> TimeProfile:
        """With seconds for images that were loaded before."""
        return self + TimeProfile(dict.fromkeys(PARTS, 0.0) | {"data": seconds})

    def as_dict(self) -> dict[str, Any]:
        """As JSON values (docs/formats.md)."""
        return {
            "seconds": {**self.seconds, "total": self.total},
            "device_seconds": None if self.device_seconds is None else dict(self.device_seconds),
            "outside_network": self.outside_network,
            "verbs": {
                name: {"calls": calls, "seconds": seconds} for name, (calls, seconds) in self.verbs.items()
            },
            "frames": self.frames,
            "waits": self.waits,
            "network_calls": self.network_calls,
            "waits_per_call": _ratio(self.waits, self.network_calls),
            "rows_called": self.rows_called,
            "useful_rows": self.useful_rows,
            "useful_share": _ratio(self.useful_rows, self.rows_called),
        }


class Timekeeper:
    """Sorts the time of solves by part while they run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._queued = {part: Stopwatch() for part in QUEUED} if device.type == "cuda" else {}
        self._solves = TimeProfile()

    @contextmanager
    def during(self, part: Part) -> Iterator[None]:
        """What is done inside, or by a function decorated so, is of this part; parts do not overlap."""
        begin = time.perf_counter()
        watch = self._queued.get(part)
        with nullcontext() if watch is None else watch.running(self._device):
            yield
        self._seconds[part] += time.perf_counter() - begin

    def solve(self, run: Callable[[], dict[str, Any]], *, rows: int) -> dict[str, object]:
        """A solve of ``rows`` rows, its verbs timed; its tallies without them.

        Of one that raises, what its callbacks did is kept, and the rest is other.
        """
        before, begin = dict(self._seconds), time.perf_counter()
        tally = run()
        whole = time.perf_counter() - begin
        verbs: Verbs = tally.pop("verbs")
        inside = {part: self._seconds[part] - before[part] for part in PARTS}
        spent = {name: seconds for name, (_, seconds) in verbs.items()}
        answering = inside["network"] + inside["products"] + inside["probes"]
        self._seconds["waits"] += spent["collect"]
        self._seconds["arithmetic"] += sum(spent[name] for name in ARITHMETIC) - inside["starts"]
        self._seconds["driver"] += (
            whole - sum(spent.values()) + (spent["evaluate"] - answering) - inside["records"]
        )
        calls = sum(tally["calls"])
        self._solves += TimeProfile(
            verbs=verbs,
            frames=tally["frames"],
            network_calls=calls,
            rows_called=calls * rows,
            useful_rows=tally["evaluations"],
        )
        return tally

    def profile(self, seconds: float) -> TimeProfile:
        """Where that many seconds went; waits for a device's queue, so it is asked for at the end."""
        on_device = {part: watch.seconds for part, watch in self._queued.items()}
        other: dict[Part, float] = {"other": seconds - sum(self._seconds.values())}
        return self._solves + TimeProfile(self._seconds | other, device_seconds=on_device or None)


def kept_by(keeper: Timekeeper | None) -> During:
    """The `During` of a keeper; without one no time is kept."""
    return untimed if keeper is None else keeper.during


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
