"""The help of a command: what it is for, examples, its options under headings, the most used ones first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from merged_diffusion.cli.other_names import FOR_INSTANCE, in_our_words, our_command

# A command of more options than these shows them under headings.
FEW: Final = 12
# Options by the names of their parameters: headings, and the options under each, in the order of their use.
HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "Images": (
        *("reference", "data", "ref", "num", "limit", "ids", "split", "labels", "features", "levels"),
        *("variant", "image_shape", "mean_of", "plan_for"),
    ),
    "Model": (
        *("pair", "expert", "likelihood_expert", "quality_expert", "read_as", "compare", "convention"),
        *("range", "guidance", "guide", "guidance_interval", "extrapolate"),
    ),
    "Threshold": (
        *(
            "eta",
            "etas",
            "gamma",
            "gammas",
            "edm_sigma",
            "logsnr",
            "gate",
            "form",
            "tune_data",
            "tune_limit",
            "budget",
        ),
        *("exact", "no_confirm", "no_test", "spacing"),
    ),
    "Measure": (
        "metric",
        "times",
        "repeats",
        "dequantise",
        "importance",
        "profile",
        "copies",
        "allow_failed",
    ),
    "Training": ("whole_steps", "samples", "tensorboard", "wandb"),
    "Sampler": (
        *("sampler", "steps", "order", "sigmas", "statistics", "decode", "clip"),
        *("s_churn", "s_min", "s_max", "s_noise"),
    ),
    "Solver": (
        *("preset", "method", "tol", "bpd_tol", "h_max", "quad_check", "path_check"),
        *("rtol", "atol", "step_control"),
    ),
    "Random numbers": ("seed", "probe", "probes"),
    "Machine": (
        *("device", "batch_size", "batch_per_device", "rows", "threads", "dtype", "precision", "compile"),
        *("channels_last", "shard", "store", "ray", "work", "deterministic", "profile_time", "data_cache"),
    ),
    "Run and output": (
        *("out", "as_json", "json_lines", "quiet", "dry_run", "yes", "overwrite", "allow_rebatch"),
        "strict_env",
    ),
    "Other": ("cache", "batch_coupled", "accept_gradient", "accept_precision"),
}
NOTES: Final[Mapping[str, str]] = {
    "Model": "A MODEL is a name (experts list shows them), a file or folder, hf:owner/name@revision, or "
    "file.py:name or module:name, whose code is run.",
    "Threshold": "The noise level at which two experts are merged: the likelihood expert is in charge of "
    "less noise, the quality expert of more.",
    "Solver": "The path between an image and pure noise is an equation (an ODE) that is solved in steps. "
    "These say how finely; the defaults do for most uses.",
}
COLUMN: Final = 26  # of the names of options; longer ones have a line of their own


def write_examples(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """What the command is for, and examples: the first screen of a long page."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_epilog(ctx, formatter)


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The options, under headings where there are many."""
    params = [one for one in command.get_params(ctx) if isinstance(one, click.Option) and not one.hidden]
    if len(params) <= FEW:
        _section("Options", params, ctx, formatter)
        return
    place = {name: (heading, at) for heading, names in HEADINGS.items() for at, name in enumerate(names)}
    placed = [(place.get(param.name or "", ("Other", len(params))), param) for param in params]
    for heading in HEADINGS:
        under = sorted((at, number) for number, ((found, at), _) in enumerate(placed) if found == heading)
        _section(heading, [placed[number][1] for _, number in under], ctx, formatter)


def _section(
    heading: str, params: Iterable[click.Option], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    rows = [_row(param, ctx) for param in params]
    if not rows:
        return
    with formatter.section(heading):
        if heading in NOTES:
            formatter.write_text(NOTES[heading])
        aligned(rows, formatter)


def aligned(rows: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """Names and texts in columns that are the same in every section."""
    (name, text), *others = rows
    formatter.write_dl([(name.ljust(COLUMN), text), *others], col_max=COLUMN)


def _row(param: click.Option, ctx: click.Context) -> tuple[str, str]:
    """Names and text of an option, without click's brackets round a default that was given as text."""
    name, text = param.get_help_record(ctx) or ("", "")
    text = re.sub(r" *\[[\d<=]*x[\d<>=]*\]$", "", text)
    return name, re.sub(r"\[default: (?:\((.*?)\)|(.*?))(?:; [\d<=]*x[\d<>=]*)?\]", r"[default: \1\2]", text)


class Command(click.Command):
    """A command with such a help, which knows what its options are called elsewhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read them; a shell that asks for completions has them as they are."""
        try:
            return super().parse_args(ctx, args if ctx.resilient_parsing else in_our_words(args, ctx))
        except click.MissingParameter as error:
            instance = FOR_INSTANCE.get((error.param and error.param.name) or "")
            raise click.MissingParameter(instance, error.ctx, error.param) from None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it."""
        write_examples(self, ctx, formatter)
        write_options(self, ctx, formatter)


class Group(click.Group):
    """A group of commands with such a help, which knows what they are called elsewhere."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; `UsageError` names it where it is called otherwise."""
        if not ctx.resilient_parsing and not args[0].startswith("-"):
            args = [our_command(args[0], args[1:], self.list_commands(ctx), ctx), *args[1:]]
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it."""
        write_examples(self, ctx, formatter)
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)
