"""Files that stand for another one: pointers of Git LFS and git-annex, pages of a web server, nothing at all.

A copy of a repository without its large files, or a download that met a page to log in, leaves them under the
name of the file that is wanted. Each reader asks before it says that a file of its format is damaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from merged_diffusion.errors import MergedDiffusionError

HEAD: Final = 512  # bytes that tell
LFS: Final = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
ANNEX: Final = (b"/annex/objects/", b".git/annex/objects/", b"../.git/annex/objects/")
PAGES: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<error>")
BOM: Final = b"\xef\xbb\xbf"


def standin(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with ``head`` is in place of its content, and the remedy; None for others."""
    if not head:
        return "empty", "it was not written to its end; fetch it again"
    text = head.removeprefix(BOM).lstrip().lower()
    if text.startswith(LFS):
        return "a pointer of Git LFS, not the file", "git lfs pull in its repository brings the file"
    if text.startswith(ANNEX):
        return "a pointer of git-annex, not the file", "git annex get in its repository brings the file"
    if text.startswith(PAGES):
        return (
            "a page of a web server (HTML or XML), not the file",
            "fetch it again; its place may ask to log in, or have moved",
        )
    return None


def refuse_standin(head: bytes, where: str, error: type[MergedDiffusionError]) -> None:
    """``error`` where a file that begins with ``head`` stands for another."""
    found = standin(head[:HEAD])
    if found is not None:
        raise error(f"{where} is {found[0]}", hint=found[1], file=where, found=found[0])


def refuse_standin_file(path: Path, error: type[MergedDiffusionError]) -> None:
    """`refuse_standin` of a regular file."""
    with path.open("rb") as stream:
        refuse_standin(stream.read(HEAD), str(path), error)
