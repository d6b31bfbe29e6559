"""A sentence a line: `python .ci/sentences.py docs/*.md` breaks the paragraphs of Markdown, words unchanged.

Blocks of code, tables, headings and raw HTML are left as they are; a sentence in brackets stays where it is.
"""

import re
import sys
from pathlib import Path

WHOLE = re.compile(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)")  # never broken: code, formulas, targets of links
END = re.compile(r"[.!?][)\"”*]*(?= )")
NO_END = re.compile(r"(\bal|\beq|\be\.g|\bi\.e|\bcf|\bvs|\bNo|\b[A-Z])\.[)\"”*]*$")
BEGIN = re.compile(r"[\"“(\[*_]*(\0|[A-Z0-9$])")
FENCE = re.compile(r"\s*(`{3,}|:{3,})")
ITEM = re.compile(r"(\s*)(- |\* |\d+\. )(.*)")
OTHER = re.compile(r"\s*($|\||#|>|```|:::|<|!\[|---|\[\^|- |\* |\d+\. )")


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph that is one line."""
    held: list[str] = []

    def hide(found: re.Match[str]) -> str:
        held.append(found[0])
        return f"\0{len(held) - 1}\0"

    text, parts, begin = WHOLE.sub(hide, paragraph), [], 0
    for end in END.finditer(text):
        sentence = text[begin : end.end()]
        is_open = sentence.count("(") > sentence.count(")")
        if not is_open and not NO_END.search(sentence) and BEGIN.match(text[end.end() :].lstrip()):
            parts.append(sentence.strip())
            begin = end.end()
    parts.append(text[begin:].strip())
    return [re.sub("\0(\\d+)\0", lambda found: held[int(found[1])], part) for part in parts if part]


def broken(text: str) -> str:
    """A document with a sentence a line."""
    lines, result = text.split("\n"), []
    at = 0

    def following(first: str) -> str:
        """The paragraph that begins with ``first``, as one line."""
        nonlocal at
        words = [first]
        while at < len(lines) and not OTHER.match(lines[at]) and not lines[at].startswith("    "):
            words.append(lines[at].strip())
            at += 1
        return " ".join(words)

    while at < len(lines):
        line = lines[at]
        at += 1
        if (fence := FENCE.match(line)) or (at == 1 and line == "---"):
            end = fence[1] if fence else "---"
            result.append(line)
            while at < len(lines):
                result.append(lines[at])
                at += 1
                if lines[at - 1].strip() == end:
                    break
        elif item := ITEM.match(line):
            first, *rest = sentences(following(item[3])) or [""]
            result.append(item[1] + item[2] + first)
            result += [" " * len(item[1] + item[2]) + sentence for sentence in rest]
        elif OTHER.match(line) or line.startswith("    "):
            result.append(line)
        else:
            indent = line[: len(line) - len(line.lstrip())]
            result += [indent + sentence for sentence in sentences(following(line.strip()))]
    return "\n".join(result)


def main() -> None:
    """Rewrite the files named."""
    for name in sys.argv[1:]:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        if (found := broken(text)) != text:
            path.write_text(found, encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
