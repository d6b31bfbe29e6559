"""What the commands are called and what each does; a command is loaded when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from merged_diffusion.cli import help_screen

SECTIONS: Final = {
    "Measure": {
        "nll": "Exact likelihood of images, in bits per dimension.",
        "vlb": "A bound on it, without solving an equation: faster, less sharp.",
        "threshold": "Find the best noise level at which to merge two experts.",
        "gate": "Fit a gate, by which two experts share the noise levels softly.",
        "sweep": "One measure at many thresholds, beside each other.",
    },
    "Images": {
        "sample": "Draw new images from one model or from two merged.",
        "model-statistics": "Measure two experts once, for the sampler dpm-v3.",
        "fid": "Distance of images from a reference set (Frechet, kernel).",
        "fid-ref": "Make the statistics of a reference set, for fid.",
    },
    "Models": {
        "experts": "List, inspect and convert models.",
        "train": "Train a model from a recipe.",
    },
    "Runs and data": {
        "runs": "Show, compare, export and report what was kept by --out.",
        "data": "List, verify and look at sets of images.",
        "fetch": "Download public models and data; nothing else does.",
        "paper": "What repeating the paper's tables takes.",
    },
    "This machine": {
        "selftest": "Compute what is known exactly, and say how far off it is.",
    },
}
COMMANDS: Final = {name: text for commands in SECTIONS.values() for name, text in commands.items()}


class LazyGroup(help_screen.Group):
    """Loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, loaded."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"merged_diffusion.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Names and what they do under headings, without loading any."""
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(9), text) for name, text in commands.items()])
