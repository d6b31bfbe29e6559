"""What a variational bound is made of, for people."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

import numpy as np


def terms(summary: Mapping[str, Any]) -> list[str]:
    """Its three terms in bits/dim, and how its repeats differ."""
    found, nats = [], summary["terms_nats"]
    if nats is not None:
        unit = int(np.prod(summary["data"]["image_shape"])) * log(2)
        costs = "   ".join(f"{name} {-value / unit:.4f}" for name, value in nats.items())
        times = summary["bits_per_dim"]["se_times"]
        found.append(
            f"of it        {costs}" + ("" if times is None else f"   ± {times:.4f} by times and noise")
        )
    repeats = summary["repeats"]
    if repeats is not None:
        found.append(
            f"{repeats['n']} repeats    mean {repeats['mean']:.4f}, standard deviation {repeats['std']:.4f}"
        )
    return found
