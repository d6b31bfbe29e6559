"""``experts list``, ``inspect``, ``convert`` and ``export``: checkpoints, without any data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merged_diffusion.cli import completion, expert_report, help_screen, options
from merged_diffusion.cli.output import emit, emit_json, remarks, say


@click.group(
    "experts",
    cls=help_screen.Group,
    epilog="\b\nExample:\n  merged-diffusion experts inspect bundled:photos-edm\n",
)
def command() -> None:
    """List, inspect and convert models. No code of a model's file is executed."""


@command.command("list", epilog="\b\nExample:\n  merged-diffusion experts list\n")
@options.cache
@options.printing
def list_experts(cache: Path | None, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """List the models and pairs that are known by name.

    It says where each is, and how to get those that are not here.
    """
    from merged_diffusion.catalogue.cache import cache_folder
    from merged_diffusion.catalogue.listing import expert_rows, pair_rows

    experts, pairs = expert_rows(cache), pair_rows(cache)
    if as_json:
        emit_json({"command": "experts list", "experts": experts, "pairs": pairs})
    else:
        emit("\n".join(expert_report.catalogue(experts, pairs, str(cache_folder(cache)))))
    return 0


@command.command(
    "inspect", epilog="\b\nExample:\n  merged-diffusion experts inspect edm-cifar10-32x32-uncond-vp.pkl\n"
)
@click.argument("source", metavar="NAME|FILE", shell_complete=completion.expert)
@options.read_as
@options.cache
@options.printing
def inspect(source: str, read_as: str | None, cache: Path | None, as_json: bool, quiet: bool) -> int:
    """Show what is in a checkpoint.

    It tells the format, the network, the range of noise levels, how far eta may go, and the licence. Its
    weights are read and checked, and nothing is executed.
    """
    _check_present(source, cache)
    from merged_diffusion.experts.inspection import inspect_expert

    facts = inspect_expert(source, read_as=read_as, cache=cache)
    facts["release"] = _release(facts, cache)
    if not quiet:
        for warning in facts["warnings"]:
            say(f"warning: {warning}")
    if as_json:
        emit_json({"command": "experts inspect", "expert": facts})
    else:
        emit("\n".join(expert_report.lines(facts)))
    return 0


def _check_present(source: str, cache: Path | None) -> None:
    """Say of a public expert that is not in the cache how it gets there, before torch is loaded."""
    from merged_diffusion.catalogue.absent import expert_paths

    expert_paths([source], cache)


def _release(facts: dict[str, Any], cache: Path | None) -> dict[str, Any]:
    """How the file stands to the hashes that are known: of its card, or of a public file that was fetched."""
    from merged_diffusion.catalogue.cache import cached
    from merged_diffusion.catalogue.entries import known, public
    from merged_diffusion.catalogue.fetched import known_hashes

    if facts["stated_sha256"] is not None:  # compared when the weights were read
        return {"state": "card", "name": facts["name"], "sha256": facts["stated_sha256"]}
    file, other = Path(facts["file"]).absolute(), None
    for entry in (public("expert", name) for name in known()["expert"]):
        for at, sha256 in ({} if entry is None else known_hashes(entry, cache)).items():
            found = {"name": Path(at).name, "sha256": sha256}
            if sha256 == facts["sha256"]:
                return {"state": "same", **found}
            if cached(at, folder=cache).absolute() == file or Path(at).name == f"{facts['name']}.pkl":
                other = {"state": "other", **found}
    return other or {"state": "unknown", "name": None, "sha256": None}


@command.command(
    "convert", epilog="\b\nExample:\n  merged-diffusion experts convert results/vdm/model.pt experts/vdm\n"
)
@click.argument("source", metavar="NAME|FILE", shell_complete=completion.expert)
@click.argument("out", type=click.Path(path_type=Path))
@options.read_as
@options.cache
@options.printing
def convert(
    source: str, out: Path, read_as: str | None, cache: Path | None, as_json: bool, quiet: bool
) -> int:
    """Convert a checkpoint to safetensors with a card.

    OUT is a new folder, which loads to the same bits.
    """
    _check_present(source, cache)
    from merged_diffusion.experts.converting import convert_expert

    with remarks(quiet=quiet):
        card = convert_expert(source, out, read_as=read_as, cache=cache)
    if as_json:
        keys = ("name", "kind", "precision", "sha256", "licence", "converted")
        facts = {key: getattr(card, key) for key in keys}
        emit_json({"command": "experts convert", "source": source, "out": str(out), **facts})
        return 0
    emit(f"{out}: model.safetensors ({card.precision}) and card.toml, loaded and equal to the original")
    if card.licence:
        emit(f"licence: {card.licence}")
    emit(f"use it as --expert {out}")
    return 0


@command.command(
    "export",
    epilog="\b\nExample:\n  merged-diffusion experts export results/vdm --as addtt --out addtt/model.pt\n",
)
@click.argument("source", metavar="NAME|FILE", shell_complete=completion.expert)
@click.option(
    "--as", "format_", type=click.Choice(["addtt"]), required=True,
    help="Whose code reads the file: addtt/variational-diffusion-models, model.pt.",
)  # fmt: skip
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), metavar="FILE", required=True,
    help="A new file; config.yaml is written beside it.",
)  # fmt: skip
@options.cache
@options.printing
def export(source: str, format_: str, out: Path, cache: Path | None, as_json: bool, quiet: bool) -> int:
    """Write a likelihood model as a file of the public code of VDM.

    It has the weights under the public names, for evaluation and sampling; it is read back and compared.
    """
    _check_present(source, cache)
    from merged_diffusion.experts.exporting import CONFIG, export_addtt

    with remarks(quiet=quiet):
        card = export_addtt(source, out, cache=cache)
    config = str(out.with_name(CONFIG))
    if as_json:
        facts = {"format": format_, "config": config, "name": card.name, "licence": card.licence}
        emit_json({"command": "experts export", "source": source, "out": str(out), **facts})
        return 0
    emit(f"{out} and {config}: read back and equal to the original")
    if card.licence:
        emit(f"licence: {card.licence}")
    return 0
