"""Tutorial and how-tos run as written, block after block in an empty folder, and print what they show.

- a block that begins with a comment ``# NAME.EXT`` is a file of that name;
- other blocks of Python run in one namespace, those of ``sh`` line after line;
- a block of ``text`` is what the block before printed on standard output: words alike, numbers to the digits
  shown (and ``...`` for the rest of a line, or lines between);
- ``<!-- when CONDITION -->`` before a block leaves it out where the condition fails;
- ``<!-- with FILE of PAGE.md -->`` takes a file from another page.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import merged_diffusion as md
from merged_diffusion.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    DOCS / "index.md",
    DOCS / "tutorial.md",
    *sorted(set((DOCS / "how-to").glob("*.md")) - {DOCS / "how-to" / "index.md"}),
]
FENCE = re.compile(
    r"^(?:<!-- when (?P<condition>.*?) -->\n)?```(?P<language>python|sh|toml|bash|text)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FROM = re.compile(r"^<!-- with (?P<file>\S+) of (?P<page>\S+) -->$", re.MULTILINE)
NAMED = re.compile(r"# ([\w-]+\.(?:py|toml|sh|sbatch))\n")
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
COMPUTE = ("nll", "sample", "sweep", "threshold", "train", "vlb")
TORCHRUN = "-m torch.distributed.run"
# What takes long is shortened here, and what is printed then is not what the page shows.
SHORTER = {
    "tutorial.md": (
        ("STEPS = 2500", "STEPS = 40"),
        ("--limit 64", "--limit 4"),
        ("--num 500", "--num 32"),
        ("--etas 0,min,0.1,0.2,0.4,0.6,1", "--etas 0,0.1"),
    )
}


@dataclass(frozen=True)
class Block:
    """Fenced code of a page."""

    language: str
    code: str
    condition: str | None = None


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for long, short in SHORTER.get(page.name, ()):
        assert long in text, f"{page.name} does not say {long}"
        text = text.replace(long, short)
    for named in FROM.finditer(text):
        other = (page.parent / named["page"]).read_text(encoding="utf-8")
        (code,) = (
            own["code"] for own in FENCE.finditer(other) if own["code"].startswith(f"# {named['file']}\n")
        )
        yield Block("python", code)
    for found in FENCE.finditer(text):
        yield Block(found["language"], found["code"], found["condition"])


def tokens(text: str) -> list[str]:
    """Words and numbers, however far apart and with whatever drawn between them."""
    return [word for word in re.sub(r"[│┆─═╞╡┌┐└┘╪┬┴┤├]", " ", text).split() if word]


def differences(shown: str, printed: str) -> str | None:
    """What of a line that is shown is not in what was printed; None if all is."""
    if shown.endswith(" ..."):
        shown = shown.removesuffix("...").rstrip()
        n = len(tokens(shown))
        printed = " ".join(tokens(printed)[:n])
    wanted, found = NUMBER.findall(shown), NUMBER.findall(printed)
    if tokens(NUMBER.sub("#", shown)) != tokens(NUMBER.sub("#", printed)):
        return f"shown {shown!r}, printed {printed!r}"
    for one, other in zip(wanted, found, strict=True):
        digits = len(one.partition(".")[2].partition("e")[0])
        value, is_ = (float(each.replace(",", "").replace("−", "-")) for each in (one, other))
        # Whole numbers are exact but for counts of evaluations, which another processor's last bits move.
        part = 0.02 if digits else 0.05 * ("evaluations" in shown)
        if abs(value - is_) > max(1.01 * 10**-digits if digits else 0, part * abs(value)):
            return f"shown {one}, printed {other} in {printed!r}"
    return None


def assert_shown(shown: str, printed: str) -> None:
    """Every line shown is printed, in that order."""
    left = printed.splitlines()
    for line in (each for each in shown.splitlines() if each.strip() not in ("", "...")):
        wrong = [differences(line, each) for each in left]
        assert None in wrong, f"{line!r} is not among what was printed:\n{printed}"
        left = left[wrong.index(None) + 1 :]


class Session:
    """A reader at a terminal with a Python beside it."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.printed = ""
        self.left_out = False
        self.is_shortened = False

    def run(self, block: Block) -> None:
        if block.language == "text":
            if not self.left_out and not self.is_shortened:
                assert_shown(block.code, self.printed)
            return
        self.left_out = block.condition is not None and not eval(  # noqa: S307
            block.condition, {"md": md, "find_spec": find_spec}
        )
        if self.left_out:
            return
        named = NAMED.match(block.code)
        if named:
            Path(named[1]).write_text(block.code[named.end() :], encoding="utf-8")
        elif block.language == "python":
            self.printed = self.python(block.code)
        elif block.language == "sh":
            self.printed = "".join(self.shell(line) for line in joined(block.code))

    def python(self, code: str) -> str:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            exec(compile(code, "page", "exec"), self.names)  # noqa: S102
        return stream.getvalue()

    def shell(self, line: str) -> str:
        if re.fullmatch(r"merged-diffusion [^|&;<>$]*", line):
            stream = io.StringIO()
            words = shlex.split(line)[1:]
            one = ["--threads", "1"] if words[0] in COMPUTE and "--threads" not in words else []
            with contextlib.redirect_stdout(stream):
                code = main([*words, *one])
            assert code == 0, line
            return stream.getvalue()
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, line
        return done.stdout


def joined(code: str) -> Iterator[str]:
    """Commands: continued lines as one, comments left out."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Commands by their names, files where the reader stands, one thread."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("merged-diffusion", "-m merged_diffusion"), ("torchrun", TORCHRUN), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        (programs / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.syspath_prepend(str(home))
    before = set(sys.modules)
    yield Session()
    for name in set(sys.modules) - before:  # files of the reader's: another page has others of the same name
        if str(home) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore")  # what a stand-in is warned of is not the page's concern
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs_as_it_is_written(page: Path, terminal: Session) -> None:
    found = list(blocks(page))
    assert found
    terminal.is_shortened = page.name in SHORTER
    for block in found:
        terminal.run(block)


@pytest.mark.parametrize(
    ("shown", "printed", "is_alike"),
    [
        ("merged 3.19", "merged      3.188", True),
        ("merged 3.2", "merged 3.31", False),
        ("16 images", "17 images", False),
        ("16 images ...", "16 images of 17", True),
        ("60 evaluations/image", "61 evaluations/image", True),
        ("mean 0.50 of 12", "mean 0.504 of 12", True),
        ("merged 3.19", "likelihood 3.19", False),
        ("a difference of -0.04", "a difference of 0.04", False),
    ],
)
def test_numbers_agree_to_the_digits_shown(shown: str, printed: str, is_alike: bool) -> None:
    assert (differences(shown, printed) is None) is is_alike
