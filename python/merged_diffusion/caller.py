"""Warnings at the line of the user's own that called into the package."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


def warn_caller(message: Warning | str, category: type[Warning] = UserWarning) -> None:
    """Warn of a line of the user's own: the one that called into the package, however deep this is called.

    Decorators of torch and of the standard library on the way are not his, either.
    """
    frame = sys._getframe(1)
    while _is_on_the_way(_module(frame)) and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        _module(frame) or "<string>",  # of None nothing would be said
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _module(frame: FrameType) -> str:
    """Where a frame's code is; code that is given to `exec` may be nowhere."""
    return frame.f_globals.get("__name__") or ""


def _is_on_the_way(module: str) -> bool:
    return module.partition(".")[0] in ("merged_diffusion", "contextlib", "functools", "torch")
