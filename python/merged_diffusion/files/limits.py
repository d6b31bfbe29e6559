"""What an archive may hold: members, bytes after inflating, bytes out per byte in, and names.

Every bound is applied twice: to what the directory declares, and again to what inflating really yields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from merged_diffusion.errors import UnsafeFileError

MAX_NAME: Final = 1024
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# deflate reaches 1032; photographs stay below 2, drawings below 50.
MAX_RATIO: Final = 200
# Below this size no ratio is asked for: a few blank images are no attack.
FREE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """At most ``members``, and ``total`` bytes after inflating."""

    members: int
    total: int
    ratio: int = MAX_RATIO

    def check_members(self, count: int, where: str) -> None:
        """`UnsafeFileError` where there are too many."""
        if count > self.members:
            raise UnsafeFileError(
                f"{where}: {count} members, the limit is {self.members}", file=where, found=count
            )

    def check_size(self, inflated: int, packed: int, where: str) -> None:
        """`UnsafeFileError` where ``packed`` bytes become too many, or too many for their number."""
        if inflated > self.total:
            raise UnsafeFileError(
                f"{where}: {inflated} bytes after inflating, the limit is {self.total}",
                file=where,
                found=inflated,
            )
        if inflated > FREE_BYTES and inflated > self.ratio * max(packed, 1):
            raise UnsafeFileError(
                f"{where}: {packed} bytes inflate to {inflated}, over {self.ratio} times as many",
                hint="images do not compress like that; save them uncompressed if this set is real",
                file=where,
                found=inflated,
            )


def check_name(name: str, where: str) -> None:
    """`UnsafeFileError` unless ``name`` is a plain relative path with forward slashes."""
    reason = _fault_of_name(name)
    if reason is not None:
        shown = name if len(name) <= 80 else name[:80] + "..."
        raise UnsafeFileError(f"{where}: the member name {shown!r} {reason}", file=where, member=shown)


def _fault_of_name(name: str) -> str | None:
    parts = name.rstrip("/").split("/")
    if not name.strip("/") or len(name) > MAX_NAME:
        return f"is empty or longer than {MAX_NAME}"
    if name.startswith("/") or name[1:2] == ":":
        return "is absolute"
    if ".." in parts:
        return "leads out of the archive"
    if "\\" in name or CONTROL.search(name):
        return "holds a backslash or a control character"
    return None
