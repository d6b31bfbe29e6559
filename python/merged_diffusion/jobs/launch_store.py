"""The store of a launch: torch's ``TCPStore``, which torchrun serves, or the first of the workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

from torch._C._distributed_c10d import PrefixStore, TCPStore

from merged_diffusion.jobs.speed_shares import StoreLost

CONNECT_SECONDS: Final = 600.0  # the first worker serves it when its networks are loaded
AWAIT_SECONDS: Final = 60.0  # that it stays at the end for workers that have not connected
POLL_SECONDS: Final = 0.5
CAME: Final = "came"
T = TypeVar("T")


class LaunchStore:
    """The store at ``host:port``; ``serves`` it where this process is to hold it."""

    def __init__(self, host: str, port: int, *, serves: bool, prefix: str = "") -> None:
        """Connect; ``prefix`` keeps launches apart that come one after the other.

        Raises
        ------
        StoreLost
            Nobody answers there, or the port is taken.
        """
        self.address = f"{host}:{port}"

        def connected() -> Any:
            patience = timedelta(seconds=CONNECT_SECONDS)
            store = TCPStore(host, port, None, serves, patience, wait_for_workers=False)
            return PrefixStore(f"merged-diffusion/{prefix}", store)

        self._serves = serves
        self._store = self._asked(connected)
        self.add(CAME, 1)

    def await_workers(self, count: int, tell: Callable[[int], object]) -> None:
        """Stay until ``count`` have connected, if it ends with this process: others would seek it for long.

        ``tell`` gets the number of those that have not, once.
        """
        begin, is_told = time.monotonic(), False
        while self._serves and (left := count - self.add(CAME, 0)) > 0:
            if time.monotonic() - begin > AWAIT_SECONDS:
                return
            if not is_told:
                tell(left)
                is_told = True
            time.sleep(POLL_SECONDS)

    def add(self, key: str, n: int) -> int:
        """Count by n; the count after it."""
        return int(self._asked(lambda: self._store.add(key, n)))

    def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        self._asked(lambda: self._store.set(key, value))

    def get(self, key: str) -> bytes | None:
        """A value, or None where there is none; it does not wait for one."""
        found = self._asked(lambda: self._store.get(key) if self._store.check([key]) else None)
        return None if found is None else bytes(found)

    def _asked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (RuntimeError, ValueError) as error:  # DistError is a RuntimeError
            reason = str(error).splitlines()[0][:120]
            raise StoreLost(f"no store at {self.address} ({reason})") from error
