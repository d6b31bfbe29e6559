"""What ``cards.toml`` says that the package knows: experts, pairs of experts, data sets. Needs no torch."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def known() -> dict[str, Any]:
    """The tables of ``cards.toml``: ``expert``, ``pair``, ``data``."""
    text = resources.files("merged_diffusion.experts").joinpath("cards.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
