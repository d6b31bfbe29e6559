"""A file of the corpus: what it is, how it is given, and what must happen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Case:
    """``exit_code`` 0: an honest file, which must load. ``options``: keyword arguments of the loader."""

    name: str
    path: Path
    kind: Literal["expert", "data"]
    exit_code: int
    options: Mapping[str, Any] = field(default_factory=dict)
