"""How long a server may take: a piece of a file, or all of a short answer, within a minute.

The time-outs of a connection are between two packets, and a server that sends a byte now and then never
meets one. What talks to it therefore runs in a thread of its own, which is left to itself when nothing
comes of it; headers, redirects and bodies count alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from merged_diffusion.errors import ResourceError

PIECE: Final = 1 << 16  # bytes
SECONDS: Final = 60.0  # for a piece: 1.1 kB/s at the least
LOOK_SECONDS: Final = 0.2

T = TypeVar("T")


def patiently(work: Callable[[], T], pieces: Callable[[], int], url: str, hint: str) -> T:
    """The result of ``work``, as long as ``pieces`` grows every `SECONDS`.

    Raises
    ------
    ResourceError
        It did not; what ``work`` writes into has to be closed then.
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
        if pieces() != seen:
            seen, since = pieces(), time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > SECONDS:
            raise ResourceError(
                f"{url}: less than {PIECE} bytes came in {SECONDS:g} seconds", hint=hint, url=url
            )
    if failed:
        raise failed[0]
    return found[0]
