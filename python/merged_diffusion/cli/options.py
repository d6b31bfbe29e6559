"""Options that commands share, and the types of their values. A word means the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from merged_diffusion.jobs.settings import CHOICES
from merged_diffusion.ode.methods import Adams, Dopri5

Given = Mapping[str, Any]
"""Values of options by name."""
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def id_range(value: str) -> tuple[int, int]:
    """``A:B``, half open."""
    first, _, end = value.partition(":")
    try:
        return int(first), int(end)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form A:B, for instance 0:16") from None


def shard(value: str) -> tuple[int, int]:
    """``I/N``: worker I of N, I from 0."""
    index, _, count = value.partition("/")
    if index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise click.BadParameter(f"{value!r} is not I/N with 0 <= I < N, for instance 0/4")


def eta(value: str) -> float | str:
    """A number in [0, 1], ``min``, ``max`` or ``auto``; the settings check the number."""
    if value in ("min", "max", "auto"):
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number in [0, 1] nor min, max or auto") from None


def labels(*words: str) -> Callable[[str], str | int]:
    """One of ``words``, what stands behind a blank being an explanation, or a class number."""
    known = [word.partition(" ")[0] for word in words]

    def parse(value: str) -> str | int:
        if value in known:
            return value
        if value.isdecimal():
            return int(value)
        raise click.BadParameter(f"{value!r} is neither {', '.join(words)} nor a class number")

    return parse


def choice(name: str, default: str, text: str, *, alias: str | None = None) -> Decorator:
    """An option with a closed set of words; the default is applied by the settings."""
    field = name.removeprefix("--").replace("-", "_")
    names = [name, field] if alias is None else [name, alias, field]
    return click.option(*names, type=click.Choice(CHOICES[field]), show_default=default, help=text)


def default(value: float | str) -> str:
    """A default as the help shows it: ``1e-5``, ``0.003``."""
    return str(value) if isinstance(value, str | int) else f"{value:g}".replace("e-0", "e-")


def solver(usual: Adams, *, of: str = "", loosest: str = "") -> Decorator:
    """The options of the ODE's solver, whose defaults stand in its classes; ``of`` a sampler, perhaps."""
    adams = "exponential Adams" if of else "Exponential Adams"
    method = f"{of}{adams}, one evaluation a step, or Dormand-Prince 5(4)."
    shared = f"{of}shared: one step size for a whole block, as the paper's pipeline."
    rtol, atol = default(Dopri5.rtol), default(Dopri5.atol)
    tol, h_max = default(usual.tol), default(usual.h_max)
    return stacked(
        choice("--method", usual.method, method),
        choice("--step-control", "per-image", shared),
        click.option("--rtol", type=float, show_default=rtol, help="Relative tolerance of dopri5."),
        click.option("--atol", type=float, show_default=atol, help="Absolute tolerance of dopri5."),
        click.option(
            "--tol", type=float, show_default=tol, help=f"Tolerance of adams, in noise units{loosest}."
        ),
        click.option("--h-max", type=float, show_default=h_max, help="Longest step of adams, in gamma."),
    )


class Command(click.Command):
    """Hands its options on as one mapping by name: a command of forty has one parameter."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read them as ever."""
        rest = super().parse_args(ctx, args)
        ctx.params = {"given": ctx.params}
        return rest


def command(name: str, epilog: str) -> Callable[[Callable[[Given], int]], click.Command]:
    """A function of what was given as the command ``name``."""
    return click.command(name, cls=Command, epilog=epilog, context_settings={"max_content_width": 100})


def stacked(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, shown in the order given."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def less(decorator: Decorator, *names: str) -> Decorator:
    """The options of a decorator but those of these parameters."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        def holder() -> None: ...

        params: list[click.Parameter] = getattr(decorator(holder), "__click_params__", [])
        held: list[click.Parameter] = getattr(function, "__click_params__", [])
        kept = [param for param in params if param.name not in names]
        function.__click_params__ = [*held, *kept]  # type: ignore[attr-defined]
        return function

    return apply


def _on_this_machine(context: click.Context, option: click.Parameter, value: int | None) -> int | None:
    """The number of threads; more than processors would wait for each other, and very many end a process."""
    most = os.cpu_count() or 1
    if value is not None and value > most:
        raise click.BadParameter(f"{value} threads, this machine has {most} processors", context, option)
    return value


printing = stacked(
    click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object, errors too."),
    click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error."),
)
threads = click.option(
    "--threads", type=click.IntRange(1), callback=_on_this_machine, show_default="all cores",
    help="Threads of torch and of the core, at most as many as the machine has processors.",
)  # fmt: skip
device = click.option(
    "--device", show_default="auto", help="auto (cuda if usable, else cpu), cpu, cuda, cuda:N or mps."
)
dtype = choice("--dtype", "float32", "Type of the network's arithmetic; the state is always float64.")
out = click.option(
    "--out", type=click.Path(path_type=Path), help="Directory of the run; the same command goes on."
)
cache = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="MERGED_DIFFUSION_CACHE, else the platform's",
    help="Where public files lie.",
)
