"""``data list``, ``verify``, ``show`` and ``make``: sets of images, without any expert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merged_diffusion.cli import completion, help_screen, measure, options, output
from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    from merged_diffusion.data import Data

chosen = options.stacked(
    click.option("--split", type=click.Choice(("test", "train")), default="test", show_default=True,
                 help="Which part of a set that is known by name."),
    options.number("--levels", None, "Grey levels of a pixel, where the file does not say.", kind=int),
    click.option("--variant", metavar="old|new", help="Which of the two ImageNet32."),
    options.cache,
)  # fmt: skip


@click.group("data", cls=help_screen.Group, epilog="\b\nExample:\n  merged-diffusion data verify cifar10\n")
def command() -> None:
    """List, verify, look at and make sets of images."""


@command.command("list", epilog="\b\nExample:\n  merged-diffusion data list --json\n")
@options.cache
@options.printing
def list_sets(cache: Path | None, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """List the sets that are known by name."""
    from merged_diffusion.catalogue.sets import set_rows

    sets = set_rows(cache)
    if as_json:
        output.emit_json({"data": sets})
        return 0
    for row in sets:
        state = "in the package" if row["bundled"] else "here" if row["present"] else "not here"
        output.emit(f"{row['name']:<15} {state:<15} {row['file']}")
    return 0


@command.command("verify", epilog="\b\nExample:\n  merged-diffusion data verify cifar10 --split train\n")
@click.argument("source", metavar="NAME|PATH", shell_complete=completion.data)
@chosen
@options.printing
def verify(
    source: str,
    split: str,
    levels: int | None,
    variant: str | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Read a whole set and compare it with what is published.

    The exit code is 3 or 4 if it is damaged.
    """
    from merged_diffusion.data import public_sets

    with output.remarks(quiet=quiet):
        data = _loaded(source, split, levels, variant, cache)
    verdict = public_sets.verdict(data)
    if as_json:
        output.emit_json({"command": "data verify", "data": _facts(data), "verdict": verdict})
    else:
        output.emit(f"{data}\nsha256  {data.sha256}\n{verdict}")
    return 0


@command.command("show", epilog="\b\nExample:\n  merged-diffusion data show my_images.zip\n")
@click.argument("source", metavar="NAME|PATH", shell_complete=completion.data)
@chosen
@options.printing
def show(
    source: str,
    split: str,
    levels: int | None,
    variant: str | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Show what a set holds.

    Sizes, labels, clusters, duplicates, hashes, and where it came from.
    """
    with output.remarks(quiet=quiet):
        facts = _facts(_loaded(source, split, levels, variant, cache))
    if as_json:
        output.emit_json({"command": "data show", "data": facts})
        return 0
    for name, value in facts.items():
        output.emit(f"{name:<12} {_worded(value)}")
    return 0


@command.command("make", epilog="\b\nExample:\n  merged-diffusion data make scenes --photographs unpacked/\n")
@click.argument("name", metavar="scenes", type=click.Choice(("scenes",)))
@click.option(
    "--photographs", type=click.Path(path_type=Path), metavar="DIR", multiple=True,
    show_default="where Debian's packages put them",
    help="Where the photographs are, at any depth; repeat it for more places.",
)  # fmt: skip
@options.cache
@options.printing
def make(name: str, photographs: tuple[Path, ...], cache: Path | None, as_json: bool, quiet: bool) -> int:
    """Cut the train split of scenes from its photographs, and keep it in the cache.

    They are in four Debian packages and in scikit-learn, and are known by their SHA-256. Only training, --eta
    auto and threshold need this split; its test images are in the package.
    """
    from tqdm import tqdm

    from merged_diffusion.data import scenes
    from merged_diffusion.fetch.photographs import make_train

    for folder in photographs:
        if not folder.is_dir():
            raise UsageError(f"--photographs {folder} is no folder")
    with output.remarks(quiet=quiet), tqdm(desc=name, unit="photo", disable=quiet, file=sys.stderr) as bar:

        def observe(done: int, whole: int) -> None:
            bar.total = whole
            bar.update(done - bar.n)

        data = make_train(photographs, cache=cache, observe=observe)
    path, same = scenes.train_path(cache), scenes.as_published(data)
    if as_json:
        output.emit_json({"command": "data make", "file": path, "data": _facts(data), "as_published": same})
        return 0
    output.emit(f"{data}\nfile    {path}\nsha256  {data.sha256}")
    if not same:
        output.emit(
            "These are not the very pixels that the bundled experts were trained on: this version of Pillow "
            "decodes or reduces otherwise."
        )
    return 0


def _loaded(source: str, split: str, levels: int | None, variant: str | None, cache: Path | None) -> Data:
    from merged_diffusion.data import load_data

    return load_data(source, split, levels, cache=cache, variant=variant)


def _facts(data: Data) -> dict[str, object]:
    import numpy as np

    labels = None
    if data.labels is not None:
        classes, counts = np.unique(data.labels, return_counts=True)
        labels = dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True))
    return {
        **measure.facts(data),
        "labels": labels,
        "clusters": None if data.clusters is None else len(np.unique(data.clusters)),
        "duplicates": data.duplicates,
        "provenance": dict(data.provenance),
    }


def _worded(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_worded(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
