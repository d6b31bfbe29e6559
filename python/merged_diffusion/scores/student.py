"""Student's t: how many standard errors an interval reaches where the error itself is estimated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import UsageError

Floats = npt.NDArray[np.float64]

LEVEL = 0.95


def student_t(freedom: npt.ArrayLike, level: float = LEVEL) -> Floats:
    """What a Student variable with ``freedom`` degrees exceeds in size with probability 1 - ``level``.

    Raises
    ------
    UsageError
        ``level`` is not between 0 and 1.
    """
    # scipy takes a fifth of a second to import, which most commands have no use for.
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise UsageError(f"level = {level}, where a probability between 0 and 1 is needed")
    found: Floats = stdtrit(np.asarray(freedom, dtype=np.float64), (1 + level) / 2)
    return found
