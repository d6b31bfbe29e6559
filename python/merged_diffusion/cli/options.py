"""Options that commands share, and the types of their values. A word means the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from merged_diffusion.cli import completion, help_screen, named_models
from merged_diffusion.jobs.settings import CHOICES
from merged_diffusion.ode.methods import Adams, Dopri5
from merged_diffusion.scores.defaults import TUNED

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


def store(value: str) -> tuple[str, int] | Literal["off"]:
    """HOST:PORT, or off."""
    if value == "off":
        return "off"
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise click.BadParameter(f"{value!r} is neither HOST:PORT nor off") from None
    return host, int(port)


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


def images_of(value: str) -> int | str:
    """A number of images, or ``all``; the settings check the number."""
    if value == "all":
        return value
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number of images nor all") from None


def probes(value: str) -> int | str:
    """A number, or ``auto:E``; the settings check it."""
    try:
        return int(value)
    except ValueError:
        return value


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


def choice(name: str, default: str | None, text: str) -> Decorator:
    """An option with a closed set of words; the default is applied by the settings."""
    field = name.removeprefix("--").replace("-", "_")
    return click.option(name, field, type=click.Choice(CHOICES[field]), show_default=default, help=text)


def number(
    name: str, usual: str | None, text: str, *, kind: type = float, least: int | None = None
) -> Decorator:
    """An option that is a number; the default is applied elsewhere."""
    limits = kind if least is None else click.IntRange(least)
    return click.option(
        name, type=limits, metavar="N" if kind is int else "NUMBER", show_default=usual, help=text
    )


def default(value: float | str) -> str:
    """A default as the help shows it: ``1e-5``, ``0.003``."""
    return str(value) if isinstance(value, str | int) else f"{value:g}".replace("e-0", "e-")


def solver(usual: Adams, *, of: str = "", loosest: str = "") -> Decorator:
    """The options of the ODE's solver, whose defaults stand in its classes; ``of`` a sampler, perhaps."""
    method = (
        f"{of}Exponential Adams, one network evaluation a step, or Dormand-Prince 5(4), six (the paper's)."
    )
    shared = (
        f"{of}per-image: every image has steps of its own; shared, of dopri5: all of a block have the same."
    )
    rtol, atol = default(Dopri5.rtol), default(Dopri5.atol)
    tol, h_max = default(usual.tol), default(usual.h_max)
    return stacked(
        choice("--method", usual.method, method),
        choice("--step-control", "per-image", shared),
        number("--rtol", rtol, "Error of a step of dopri5, relative to the state."),
        number("--atol", atol, "Error of a step of dopri5, absolute."),
        number("--tol", tol, f"Error of a step of adams, in units of the noise{loosest}."),
        number("--h-max", h_max, "Longest step of adams, in gamma (minus log SNR)."),
    )


def gammas(value: str) -> tuple[float, float]:
    """``LOW,HIGH``; who takes them checks their order."""
    low, _, high = value.partition(",")
    try:
        return float(low), float(high)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not LOW,HIGH, for instance -3,2") from None


read_as = click.option(
    "--as", "read_as", metavar="FAMILY[:OPTIONS]",
    help="What the checkpoint does not say itself, such as openai:heads=4,order=legacy,cosine,steps=4000,"
    "rescaled=yes.",
)  # fmt: skip


class Command(help_screen.Command):
    """Hands its options on as one mapping by name: a command of forty has one parameter."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read them as ever; a shell that asks for completions looks for them by name."""
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            named_models.several(ctx.params)
            named_models.read_as(ctx.params)
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


guidance = stacked(
    number("--guidance", "1", "Move the quality expert, or the one alone, away from its --guide: 2 "
           "doubles the difference."),
    click.option("--guide", metavar="MODEL|none-class", shell_complete=completion.guide,
                 help="The expert that guides: a weaker one, or none-class, the same without a class."),
    click.option("--guidance-interval", type=gammas, metavar="LOW,HIGH", show_default="everywhere",
                 help="Between which gammas (minus log SNR) it guides."),
)  # fmt: skip


def _on_this_machine(context: click.Context, option: click.Parameter, value: int | None) -> int | None:
    """The number of threads; more than processors would wait for each other, and very many end a process."""
    most = os.cpu_count() or 1
    if value is not None and value > most:
        raise click.BadParameter(f"{value} threads, this machine has {most} processors", context, option)
    return value


printing = stacked(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead, also of an error."),
    click.option("--quiet", "-q", is_flag=True, help="Print no progress and no remarks on standard error."),
)
threads = click.option(
    "--threads", type=click.IntRange(1), metavar="N", callback=_on_this_machine, show_default="all cores",
    help="Threads, at most as many as the machine has processors.",
)  # fmt: skip
device = click.option(
    "--device", metavar="NAME", show_default="auto", shell_complete=completion.device,
    help="Where networks run: cpu, cuda, cuda:N or mps; auto: cuda if usable, else cpu.",
)  # fmt: skip
dtype = choice("--dtype", "float32", "Type of the networks; everything that is added up is float64.")
precision = stacked(
    choice("--precision", "float32", "Of layers: in full; tf32, rounded factors of NVIDIA's GPUs; bf16. What "
           "these two cost is measured on 8 images and printed with the result."),
    click.option("--accept-precision", is_flag=True, help="Go on where that may be above 0.01 bits/dim."),
)  # fmt: skip
compiled = click.option(
    "--compile", is_flag=True, default=None,
    help="Compile the networks (torch.compile): faster after a minute.",
)  # fmt: skip
deterministic = click.option(
    "--deterministic", is_flag=True, help="Fail where a GPU would give other last bits every time."
)
shard_of = click.option(
    "--shard", type=shard, metavar="I/N", show_default="0/1; the rank under torchrun or srun",
    help="Take part I of N of the images, I from 0: one command for each part.",
)  # fmt: skip
store_at = click.option(
    "--store", type=store, metavar="HOST:PORT|off", show_default="MASTER_ADDR:MASTER_PORT under a launcher",
    help="Workers take blocks of images by their speed, through the store that worker 0 opens there; off: "
    "fixed shares.",
)  # fmt: skip
batch_coupled = click.option(
    "--batch-coupled",
    is_flag=True,
    help="Accept an expert to which the images of a batch are not independent.",
)
out = click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Keep a record of each image in this directory; the same command goes on where it stopped.",
)  # fmt: skip
cache = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    show_default="MERGED_DIFFUSION_CACHE, else the platform's",
    help="Where public models and data are kept.",
)


def tuning(text: str, least: int = 2) -> Decorator:
    """Images other than those of ``--data``, for what ``text`` says, and how many at least and at most."""
    return stacked(
        click.option(
            "--tune-data", metavar="PATH", show_default="held-back train images of the known set",
            shell_complete=completion.data, help=text,
        ),
        click.option(
            "--tune-limit", type=click.IntRange(least), metavar="N", default=TUNED, show_default=True,
            help="How many of them, at most.",
        ),
    )  # fmt: skip


def seed(usual: int) -> Decorator:
    """The seed, which has one meaning everywhere."""
    return number(
        "--seed", str(usual), "Seed of all random numbers: the same seed, the same result.", kind=int
    )


def rows(value: str) -> int:
    """Images of a network call; elsewhere ``auto`` is a number, too."""
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no whole number; left out, it suits the device") from None
    if number < 1:
        raise click.BadParameter(f"--batch-size {number} lies below 1")
    return number


def batch_size(usual: str, name: str = "batch_size") -> Decorator:
    """How many images a network call takes."""
    return click.option(
        "--batch-size", "-b", name, type=rows, metavar="N", show_default=usual,
        help="Images in one call of a network.",
    )  # fmt: skip
