"""What a shell offers while a value is typed: names that are known, and paths. Needs neither torch nor numpy.

``_MERGED_DIFFUSION_COMPLETE=bash_source merged-diffusion`` prints what the shell has to be told (click's).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

VARIABLE: Final = "_MERGED_DIFFUSION_COMPLETE"  # click's name, of that of the program
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
KEPT: Final = ("settings.json", "sweep.json")  # what a directory holds that `runs` takes


def _completer(names: Callable[[], Iterable[str]], otherwise: str | None = "file") -> Completer:
    """Those names that begin so. Paths stand first: what bash reads of them removes what stood before."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        paths = [] if otherwise is None else [CompletionItem(incomplete, type=otherwise)]
        return [*paths, *(CompletionItem(name) for name in names() if name.startswith(incomplete))]

    return complete


def _known(kind: str) -> dict[str, dict[str, object]]:
    from merged_diffusion.catalogue.entries import known

    table: dict[str, dict[str, object]] = known()[kind]
    return table


def _sets() -> Iterable[str]:
    """ImageNet32 is one name, and ``--variant`` says which."""
    return dict.fromkeys(name.removesuffix("-old").removesuffix("-new") for name in _known("data"))


def _experts() -> Iterator[str]:
    for name, entry in _known("expert").items():
        yield f"bundled:{name}" if "folder" in entry else name


def _to_fetch() -> Iterator[str]:
    yield from (name for name, card in _known("pair").items() if ":" not in str(card["likelihood"]))
    yield from (name for name in _experts() if ":" not in name)
    yield from _known("stats")


def _sigmas() -> Iterable[str]:
    from merged_diffusion.samplers.sigmas import WORDS

    return WORDS


def runs(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Directories that hold a run or a sweep; any other where there are none."""
    at, name = os.path.split(incomplete)
    try:
        inside = sorted(folder for folder in os.listdir(at or ".") if folder.startswith(name))  # noqa: PTH208
    except OSError:
        inside = []
    folders = [os.path.join(at, folder) for folder in inside]  # noqa: PTH118  Path drops the ./ that was typed
    kept = [folder for folder in folders if any((Path(folder) / file).is_file() for file in KEPT)]
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, kept)]


data = _completer(_sets)
reference = _completer(lambda: _known("data"))
pair = _completer(lambda: _known("pair"), otherwise=None)
expert = _completer(_experts)
guide = _completer(lambda: ("none-class", *_experts()))
to_fetch = _completer(_to_fetch, otherwise=None)
sigmas = _completer(_sigmas)
file = _completer(lambda: ())
eta = _completer(lambda: ("min", "max", "auto"), otherwise=None)
device = _completer(lambda: ("auto", "cpu", "cuda", "mps"), otherwise=None)


class Bash(BashComplete):
    """For bash a colon and an equals sign begin another word: ``bundled:digits-vdm`` is three."""

    _there = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words as they were typed."""
        args, incomplete = super().get_completion_args()
        *before, last = _joined([*args, incomplete])
        self._there = last[: last.rfind(":") + 1] if last != incomplete else ""
        return before, last

    def format_completion(self, item: CompletionItem) -> str:
        """What stands behind the last colon, where bash takes what stands before it for another word."""
        if item.value.startswith(self._there):
            item = CompletionItem(item.value.removeprefix(self._there), type=item.type)
        return super().format_completion(item)


def _joined(pieces: list[str]) -> list[str]:
    words: list[str] = []
    for piece in pieces:
        if piece == "=" and words:
            continue  # an option and its value are two words
        if words and (piece == ":" or words[-1].endswith(":")):
            words[-1] += piece
        else:
            words.append(piece)
    return [*words, ""] if pieces[-1] == "=" else words


def for_bash() -> None:
    """Have click take `Bash`; before it is asked for completions."""
    add_completion_class(Bash)
