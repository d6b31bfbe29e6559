"""Options that commands share, and the types of their values. A word means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from merged_diffusion.evaluation.settings import CHOICES

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class IdRange(click.ParamType):
    """``A:B``, half open."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Two whole numbers."""
        first, colon, end = str(value).partition(":")
        try:
            if colon:
                return int(first), int(end)
        except ValueError:
            pass
        return self.fail(f"{value!r} is not of the form A:B, for instance 0:16", param, ctx)


class Shard(click.ParamType):
    """``I/N``."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Worker I of N, I from 0."""
        if isinstance(value, tuple):
            return value
        index, slash, count = str(value).partition("/")
        if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return int(index), int(count)
        return self.fail(f"{value!r} is not I/N with 0 <= I < N, for instance 0/4", param, ctx)


class Eta(click.ParamType):
    """A number in [0, 1], ``min`` or ``max``."""

    name = "ETA"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number, or the word."""
        if value in ("min", "max"):
            return str(value)
        if value == "auto":
            return self.fail("'auto' is not available yet; give a number, min or max", param, ctx)
        try:
            return float(value)
        except ValueError:
            return self.fail(f"{value!r} is neither a number in [0, 1] nor min or max", param, ctx)


class Labels(click.ParamType):
    """``from-data``, ``none`` or a class."""

    name = "LABELS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """The word, or the class number."""
        if value in ("from-data", "none"):
            return str(value)
        if str(value).isdecimal():
            return int(value)
        return self.fail(f"{value!r} is neither from-data, none nor a class number", param, ctx)


def choice(name: str, default: str, text: str, *, alias: str | None = None) -> Decorator:
    """An option with a closed set of words; the default is applied by the settings."""
    field = name.removeprefix("--").replace("-", "_")
    names = [name, field] if alias is None else [name, alias, field]
    return click.option(*names, type=click.Choice(CHOICES[field]), show_default=default, help=text)


def stacked(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, shown in the order given."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


printing = stacked(
    click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object, errors too."),
    click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error."),
)
threads = click.option(
    "--threads", type=int, show_default="all cores", help="Threads of torch and of the core."
)
device = click.option(
    "--device", show_default="auto", help="auto (cuda if usable, else cpu), cpu, cuda, cuda:N or mps."
)
dtype = choice("--dtype", "float32", "Type of the network's arithmetic; the state is always float64.")
out = click.option(
    "--out", type=click.Path(path_type=Path), help="Directory of the run; the same command goes on."
)
