"""What ``fid`` and ``fid-ref`` share: options, the images, the machine, progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from merged_diffusion.cli import options, output

if TYPE_CHECKING:
    from merged_diffusion.data import Data
    from merged_diffusion.quality.feature_network import Extractor
    from merged_diffusion.quality.feature_rows import ImageSource

FEATURES: Final = ("inception", "digits", "photos", "scenes", "pixels")
LINE_SECONDS: Final = 60.0

features = click.option(
    "--features",
    type=click.Choice(FEATURES),
    show_default="those of the reference, else by the kind of images",
    help="The network in whose features images are compared; pixels: none.",
)
images = options.stacked(
    options.choice("--split", "test", "Which part of a set that is known by name."),
    options.number("--levels", None, "Grey levels of a pixel, where the file does not say.", kind=int),
    options.choice("--variant", None, "Which of the two ImageNet32."),
    options.number("--limit", "all", "A random choice of N images; a larger N adds to it.", kind=int),
    click.option(
        "--ids", type=options.id_range, metavar="A:B",
        help="The images at positions A to B - 1 of the set, from 0.",
    ),
)  # fmt: skip
network = options.stacked(
    options.batch_size("256; inception 32", "rows"),
    options.device,
    options.threads,
    options.cache,
    options.printing,
)


def source(given: options.Given) -> ImageSource:
    """Where the images are that a command names."""
    from merged_diffusion.quality.feature_rows import ImageSource

    selection = {name: given[name] for name in ("levels", "variant", "limit", "ids")}
    return ImageSource(given["images"], given["cache"], given["split"] or "test", **selection)


def chosen(given: options.Given) -> Data:
    """The images that a command names."""
    return source(given).load()


def facts(data: Data) -> dict[str, object]:
    """What the images are, as JSON values."""
    return {
        "name": data.name,
        "split": data.split,
        "n": len(data),
        "image_shape": list(data.images.shape[1:]),
        "levels": data.levels,
        "sha256": data.sha256,
        "modified": data.modified,
    }


def feature_facts(extractor: Extractor) -> dict[str, object]:
    """What the features are, as JSON values."""
    return {key: getattr(extractor, key) for key in ("name", "dim", "sha256", "resize", "device")}


@contextmanager
def machine(device: str | None, threads: int | None, *, quiet: bool) -> Iterator[str]:
    """Remarks, threads and torch's switches for the length of a command; the device."""
    from merged_diffusion.jobs.threads import CUDA_UNUSABLE, all_cores, configured, resolve_device

    place, reason = resolve_device(device or "auto")
    if reason is not None and not quiet:
        output.say(f"note: {CUDA_UNUSABLE}: {reason}")
    with output.remarks(quiet=quiet), configured(threads=threads or all_cores(), deterministic=False):
        yield place


@contextmanager
def progress(total: int, *, quiet: bool, unit: str = "image") -> Iterator[Callable[[int], None]]:
    """Images (or what ``unit`` says) done so far: a bar on a terminal, else a line a minute."""
    if not quiet and sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        from tqdm import tqdm

        with tqdm(total=total, unit=unit, leave=False) as bar:

            def advance(n: int) -> None:
                bar.update(n)

            yield advance
        return
    done, shown = 0, time.monotonic()

    def observe(n: int) -> None:
        nonlocal done, shown
        done += n
        if not quiet and time.monotonic() - shown >= LINE_SECONDS:
            shown = time.monotonic()
            output.say(f"{done}/{total} {unit}s")

    yield observe
