"""The compiled core: clock, legs, solver, random streams, bits per dimension."""

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__version__: Final[str]
DEBUG_BUILD: Final[bool]

# ---- gamma

# ---- merge

# ---- random

# ---- bits

# ---- ode

# ---- threads

def set_threads(threads: int, /) -> None:
    """Run the core's loops in a pool of that many threads (0: one per core)."""

def threads() -> int:
    """Threads of the pool that the core's loops run in."""
