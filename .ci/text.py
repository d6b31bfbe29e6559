"""Faults that no text here has: spaces at ends of lines, no newline at the end, CRLF, marks of a merge."""

import re
import sys
from pathlib import Path

LARGE = 1 << 20
FAULTS = {
    "spaces at the end of a line": re.compile(rb"[ \t]+$", re.MULTILINE),
    "a carriage return": re.compile(rb"\r"),
    "a mark of a merge": re.compile(rb"^(<<<<<<<|>>>>>>>) ", re.MULTILINE),
    "no newline at the end": re.compile(rb"[^\n]\Z"),
}


def faults(path: Path) -> list[str]:
    """What is wrong with a file."""
    content = path.read_bytes()
    if b"\0" in content[:8192]:
        return []
    found = [f"more than {LARGE} bytes"] if len(content) > LARGE else []
    for words, pattern in FAULTS.items():
        if match := pattern.search(content):
            number = content.count(b"\n", 0, match.start()) + 1
            found.append(f"line {number}: {words}")
    return found


def main() -> None:
    """Of the files named."""
    lines = [f"{name}: {fault}" for name in sys.argv[1:] for fault in faults(Path(name))]
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
