"""A switching threshold, `_core.Threshold`, as a value that can be pickled: by its word and number."""

from __future__ import annotations

import copyreg

from merged_diffusion._core import Threshold

__all__ = ["Threshold"]


def of_words(kind: str, value: float | str) -> Threshold:
    """``Threshold.eta(0.4)`` of "eta" and 0.4."""
    made: Threshold = getattr(Threshold, kind)(value)
    return made


copyreg.pickle(Threshold, lambda one: (of_words, (one.kind, one.value)))
