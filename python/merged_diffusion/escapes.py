r"""Text of others where it leaves the program: what a terminal or a page would obey is shown as an escape.

Names of files, cards, licences, members of archives, labels, answers of servers and texts of exceptions may
hold anything. Controls (C0, C1, DEL), format characters (the bidirectional overrides among them), line and
paragraph separators and bytes that were no UTF-8 become ``\x1b``, ``\u202e``, ``\xff``; a new line and a
tab stay unless ``one_line``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

OBEYED: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
PLAIN: Final = re.compile(r"[\n\t\x20-\x7e\u00a0-\u00ac\u00ae-\u02ff]*")
UNDECODED: Final = range(0xDC80, 0xDD00)  # bytes of a name, as Python carries them (PEP 383)


def shown(text: str, *, one_line: bool = False) -> str:
    """The text as it may be printed."""
    if PLAIN.fullmatch(text) and not one_line:
        return text
    kept = "" if one_line else "\n\t"
    return "".join(_shown(c) if c not in kept and unicodedata.category(c) in OBEYED else c for c in text)


def _shown(character: str) -> str:
    code = ord(character)
    if code in UNDECODED:
        code -= 0xDC00
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return named or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def in_json(text: str) -> str:
    """A JSON text with the same characters escaped as JSON does it: they stand within its strings alone."""
    if PLAIN.fullmatch(text):
        return text
    kept = "\n\t"  # between values
    return "".join(_in_json(c) if c not in kept and unicodedata.category(c) in OBEYED else c for c in text)


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k] << 8 | units[k + 1]:04x}" for k in range(0, len(units), 2))
