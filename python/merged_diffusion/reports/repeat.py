"""The command line that makes a result again, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.reports.results import Result

DEFAULTS: Final[Mapping[str, Any]] = {
    field.name: None if field.default is MISSING else field.default for field in fields(Settings)
}
UNSAID: Final = {"tf32"}  # set by the program


def command_line(result: Result) -> str:
    """``merged-diffusion nll --data digits …``: what differs from the defaults, quoted for a shell."""
    words = ["merged-diffusion"]
    words += ["sweep"] if result.is_sweep else [result.metric]
    if result.is_sweep and result.metric != "nll":
        words += ["--metric", result.metric]
    return shlex.join([*words, *_options(result.settings)])


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if name in UNSAID or value is None or value is False or value == DEFAULTS.get(name):
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield f"{value[0]}:{value[1]}" if name == "ids" else str(value)
