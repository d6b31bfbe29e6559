"""Names that say of a folder or a file that it holds the running mean of weights (EMA). Needs no torch.

Training scripts save it beside the raw weights, ``unet_ema/`` beside ``unet/``; only the mean is evaluated.
"""

from __future__ import annotations

import re
from typing import Final

WORD: Final = re.compile(r"(?:^|[^a-z])ema(?:[^a-z]|$)|^unetema$|^emaunet$")
RAW: Final = re.compile(r"no[nt]?[^a-z]?ema")


def is_running_mean(name: str) -> bool:
    """Whether ``name`` says ema, as ``unet_ema``, ``ema-unet`` and ``model.ema.bin`` do, and not non-ema."""
    text = name.lower()
    return bool(WORD.search(text)) and not RAW.search(text)
