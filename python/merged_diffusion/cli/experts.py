"""``experts list``, ``experts inspect`` and ``experts convert``: checkpoints, without any data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merged_diffusion.cli import expert_report, options
from merged_diffusion.cli.output import emit, emit_json, remarks, say


@click.group("experts", epilog="\b\nExample:\n  merged-diffusion experts inspect bundled:photos-edm\n")
def command() -> None:
    """Look at experts: what there is, what is in a checkpoint; convert one. Nothing is executed."""


@command.command("list", epilog="\b\nExample:\n  merged-diffusion experts list\n")
@options.cache
@options.printing
def list_experts(cache: Path | None, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """Experts and pairs known by name, where they are, and how to get them."""
    from merged_diffusion.catalogue.listing import expert_rows, pair_rows

    experts, pairs = expert_rows(cache), pair_rows(cache)
    if as_json:
        emit_json({"command": "experts list", "experts": experts, "pairs": pairs})
    else:
        emit("\n".join(expert_report.catalogue(experts, pairs)))
    return 0


@command.command(
    "inspect", epilog="\b\nExample:\n  merged-diffusion experts inspect edm-cifar10-32x32-uncond-vp.pkl\n"
)
@click.argument("source", metavar="NAME|FILE")
@options.cache
@options.printing
def inspect(source: str, cache: Path | None, as_json: bool, quiet: bool) -> int:
    """What is in a checkpoint, its weights checked: format, network, gamma range, eta limits, conventions."""
    _check_present(source, cache)
    from merged_diffusion.experts.inspection import inspect_expert

    facts = inspect_expert(source, cache=cache)
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
@click.argument("source", metavar="NAME|FILE")
@click.argument("out", type=click.Path(path_type=Path))
@options.cache
@options.printing
def convert(source: str, out: Path, cache: Path | None, as_json: bool, quiet: bool) -> int:
    """Write a checkpoint as a new folder OUT, model.safetensors and card.toml; it loads to the same bits."""
    _check_present(source, cache)
    from merged_diffusion.experts.converting import convert_expert

    with remarks(quiet=quiet):
        card = convert_expert(source, out, cache=cache)
    if as_json:
        keys = ("name", "kind", "precision", "sha256", "licence", "converted")
        facts = {key: getattr(card, key) for key in keys}
        emit_json({"command": "experts convert", "source": source, "out": str(out), **facts})
        return 0
    emit(f"{out}: model.safetensors ({card.precision}) and card.toml, loaded and equal to the original")
    if card.licence:
        emit(f"licence: {card.licence}")
    emit(f"merged-diffusion nll --expert {out} takes it")
    return 0
