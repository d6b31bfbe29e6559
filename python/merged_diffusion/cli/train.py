"""``train CARD.toml --out DIR``; under ``torchrun -m merged_diffusion`` each process has a share."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merged_diffusion.cli import options, output, workers
from merged_diffusion.cli.loading import loading
from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    from merged_diffusion.training import Cost, TrainingMachine

# `merged_diffusion.training.recipe` has the same words, behind torch.
PRECISIONS = ("float32", "float64", "tf32", "bf16", "fp16")


@options.command(
    "train",
    epilog="\b\nExamples:\n"
    "  merged-diffusion train recipes/digits-vdm.toml --out results/vdm\n"
    "  torchrun --nproc-per-node 8 -m merged_diffusion train CARD.toml --out DIR\n",
)
@click.argument("card", metavar="CARD.toml", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), metavar="DIR",
    help="Directory of the model; the same command goes on where it stopped.",
)  # fmt: skip
@click.option(
    "--steps", "whole_steps", type=click.IntRange(1), metavar="N", show_default="the card's",
    help="Steps in all; more than before go on with a finished training.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(0), metavar="N", show_default="0",
    help="Draw so many images at every report, into DIR/samples.",
)  # fmt: skip
@options.device
@click.option(
    "--precision", type=click.Choice(PRECISIONS), show_default="the card's",
    help="In which numbers layers are computed; weights are float32, or float64.",
)  # fmt: skip
@options.number("--batch-per-device", "the card's accumulate", "Images that a device computes at once; the "
                "whole batch stays.", kind=int, least=1)  # fmt: skip
@click.option("--channels-last", is_flag=True, help="Weights in the order that convolutions of GPUs like.")
@options.compiled
@options.threads
@click.option(
    "--data-cache", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    show_default="the cache, for sets from 256 MiB on",
    help="Where the images lie as a plain file, which all processes map.",
)  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Show the numbers in TensorBoard: DIR/tensorboard.")
@click.option("--wandb", metavar="PROJECT", help="Show the numbers in a project of Weights & Biases.")
@click.option(
    "--dry-run", is_flag=True,
    help="Make a few steps, and tell parameters, memory, seconds a step and device hours.",
)  # fmt: skip
@click.option(
    "--json-lines", is_flag=True, help="Print a JSON object a line instead: each report, and the result."
)
@options.printing
def command(given: options.Given) -> int:
    """Train a model from a recipe, CARD.toml, which says everything: data, network, steps.

    The directory is a model for --expert, --likelihood-expert or --quality-expert.
    """
    if given["as_json"] and given["json_lines"]:
        raise UsageError("--json and --json-lines were both given", hint="use one of them")
    if given["out"] is None and not given["dry_run"]:
        raise UsageError("no --out DIR is given, in which the model would be kept", hint="give --out DIR")
    worker = workers.worker_share(None, os.environ)
    quiet = given["quiet"] or not worker.speaks
    with loading():
        from merged_diffusion.training.processes import ToldElsewhereError
    try:
        with output.remarks(quiet=quiet):
            return _train(given, worker, quiet=quiet)
    except ToldElsewhereError as error:
        return error.code
    except SystemExit as stop:
        if worker.speaks:
            raise
        return int(stop.code or 0)


def _train(given: options.Given, worker: workers.Worker, *, quiet: bool) -> int:
    from merged_diffusion.jobs.threads import all_cores
    from merged_diffusion.training import Report, TrainingMachine, train, training_cost

    machine = TrainingMachine(
        device=given["device"] or "auto",
        batch_per_device=given["batch_per_device"],
        channels_last=given["channels_last"],
        compiled=bool(given["compile"]),
        data_cache=given["data_cache"],
    )
    how: dict[str, Any] = {
        "steps": given["whole_steps"],
        "precision": given["precision"],
        "machine": machine,
        "threads": given["threads"] or max(1, all_cores() // worker.n_local),
    }
    as_lines = given["json_lines"]
    if given["dry_run"]:
        cost = training_cost(given["card"], **how)
        if worker.speaks:
            _tell_cost(cost, machine, as_json=given["as_json"] or as_lines)
        return 0

    def on_report(report: Report) -> None:
        if as_lines:
            output.emit_line({"report": asdict(report)})

    folder = train(
        given["card"], given["out"], **how, progress=not quiet and not as_lines, on_report=on_report,
        samples=given["samples"] or 0, tensorboard=given["tensorboard"], wandb=given["wandb"],
    )  # fmt: skip
    if worker.speaks and (given["as_json"] or as_lines):
        output.emit_json({"command": "train", "out": folder})
    elif worker.speaks:
        output.emit(f"trained: use it as --expert {folder}")
    return 0


def _tell_cost(cost: Cost, machine: TrainingMachine, *, as_json: bool) -> None:
    if as_json:
        output.emit_json({"command": "train", "cost": cost.as_dict()})
        return
    each = f"{cost.processes} processes" if cost.processes > 1 else machine.device
    peak = "" if cost.peak is None else f", {_size(cost.peak)} in use at most"
    at_once = f"{_size(cost.activations)} for {cost.rows} images at once"
    whole = f"{cost.steps:,} steps over {cost.images:,} images: {cost.device_hours:.4g} device hours"
    days = _duration(cost.seconds_a_step * cost.steps)
    output.emit(
        f"parameters  {cost.parameters:,}\n"
        f"memory      {_size(cost.kept)} kept, {at_once}{peak}\n"
        f"speed       {cost.seconds_a_step:.4g} s a step of {cost.batch} images ({each})\n"
        f"whole       {whole}, {days}\n"
        "Reports, samples and snapshots come on top."
    )


def _size(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**29 else f"{n / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
