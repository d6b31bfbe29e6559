"""How long a server may take: a piece of a file, or all of a short answer, within a minute; a file in all.

The time-outs of a connection are between two packets, and a server that sends a byte now and then never
meets one. What talks to it therefore runs in a thread of its own, which is left to itself when nothing
comes of it; headers, redirects and bodies count alike. A piece a minute would be days for a large file: all
that is left of it has to come within ten minutes and what a mean speed of 32 KiB/s takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from merged_diffusion.errors import ResourceError

PIECE: Final = 1 << 16  # bytes
SECONDS: Final = 60.0  # for a piece: 1.1 kB/s at the least
SPEED: Final = 1 << 15  # bytes a second, in the mean over a whole file: 9 hours for a GiB
GRACE_SECONDS: Final = 600.0  # before the mean counts
LOOK_SECONDS: Final = 0.2

T = TypeVar("T")


class Pace:
    """What has come of a file, over all requests for it: `bytes` since it was begun."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.bytes = 0

    def is_too_slow(self) -> bool:
        """Whether the mean since the beginning is below `SPEED`, after `GRACE_SECONDS`.

        At this pace a file of S bytes takes at most GRACE_SECONDS + S/SPEED, stated or not.
        """
        return time.monotonic() - self.began > GRACE_SECONDS + self.bytes / SPEED


def patiently(
    work: Callable[[], T], pieces: Callable[[], int], url: str, hint: str, pace: Pace | None = None
) -> T:
    """The result of ``work``, as long as ``pieces`` grows every `SECONDS` and ``pace`` is kept.

    Raises
    ------
    ResourceError
        Either was not; what ``work`` writes into has to be closed then.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since = pieces(), time.monotonic()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if pace is not None and thread.is_alive() and pace.is_too_slow():
            raise ResourceError(
                f"{url}: {pace.bytes} bytes came in {time.monotonic() - pace.began:.0f} seconds, which is"
                f" less than {SPEED} a second after the first {GRACE_SECONDS:g}",
                hint=hint,
                url=url,
            )
        if pieces() != seen:
            seen, since = pieces(), time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > SECONDS:
            raise ResourceError(
                f"{url}: less than {PIECE} bytes came in {SECONDS:g} seconds", hint=hint, url=url
            )
    if failed:
        raise failed[0]
    return found[0]
