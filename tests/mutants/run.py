"""Plant one fault after another; the test that each patch names must fail, and pass without it.

    python tests/mutants/run.py [NAME ...]

Each NAME.patch begins with a line ``Test: ID``: a pytest node, or ``cargo: NAME`` for a test of the core.
Faults are planted in a copy of what git tracks; a patch under rust/ rebuilds the extension there, never in
the checkout's own target. Only a test that ran and failed counts as caught: a patch that does not apply or
build, or a test that is not found, cannot be imported or does not end, is BROKEN.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXTENSION = Path("python/merged_diffusion/_core.abi3.so")
CARGO = "cargo: "
PATIENCE = 300.0  # seconds for one test


class BrokenError(Exception):
    """Neither caught nor survived; says why."""


def test_of(patch: Path) -> str:
    """The test that a patch names."""
    first = patch.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith("Test: "):
        raise SystemExit(f"{patch.name}: its first line must be 'Test: ID'")
    return first.removeprefix("Test: ").strip()


class Copy:
    """A copy of the checkout, in which faults are planted and tests run."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._environment = os.environ | {
            "CARGO_TARGET_DIR": str(folder / "target"),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # a patched module may have the size and second of the clean one
            "PYTHONPATH": str(self._tree / "python"),
        }
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            target = self._tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)  # of now, so that cargo builds it
        self._build()
        self._clean = (self._tree / EXTENSION).read_bytes()

    def verdict(self, patch: Path) -> str:
        """What becomes of the test with the fault planted; the copy is clean again afterwards."""
        self._patch(patch)
        test = test_of(patch)
        try:
            if "+++ b/rust/" in patch.read_text(encoding="utf-8") and not test.startswith(CARGO):
                self._build()
            return "SURVIVED" if self.passes(test) else "caught"
        finally:
            self._patch(patch, "--reverse")
            (self._tree / EXTENSION).write_bytes(self._clean)

    def passes(self, *tests: str) -> bool:
        """Whether all of those tests pass, False where one fails."""
        nodes = [test for test in tests if not test.startswith(CARGO)]
        cargo = [test.removeprefix(CARGO) for test in tests if test.startswith(CARGO)]
        return (not nodes or self._pytest(nodes)) and all(self._cargo(name) for name in cargo)

    def _pytest(self, nodes: list[str]) -> bool:
        done = self._run(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *nodes)
        if done.returncode not in {0, 1} or re.search(r"\d error", done.stdout.rstrip().rsplit("\n", 1)[-1]):
            raise BrokenError(done.stdout + done.stderr)
        return done.returncode == 0

    def _cargo(self, name: str) -> bool:
        done = self._run("cargo", "test", "--release", "-p", "merged-diffusion-core", name)
        if done.returncode and "test result: FAILED" not in done.stdout:
            raise BrokenError(done.stdout + done.stderr)
        if not done.returncode and not re.search(r"ok\. [1-9]\d* passed", done.stdout):
            raise BrokenError(f"no test is named {name}")
        return done.returncode == 0

    def _build(self) -> None:
        done = self._run("cargo", "build", "--release", "-p", "merged-diffusion-bindings", patience=None)
        if done.returncode:
            raise BrokenError(done.stderr)
        built = Path(self._environment["CARGO_TARGET_DIR"]) / "release"
        library = next(path for path in built.glob("lib_core.*") if path.suffix in {".so", ".dylib"})
        shutil.copy(library, self._tree / EXTENSION)

    def _patch(self, patch: Path, *options: str) -> None:
        done = self._run("git", "apply", "--unsafe-paths", f"--directory={self._tree}", *options, str(patch))
        if done.returncode:
            raise BrokenError(done.stderr)

    def _run(self, *command: str, patience: float | None = PATIENCE) -> subprocess.CompletedProcess[str]:
        # git would take a copy inside of a checkout for a part of that
        cwd = self._tree.parent if command[0] == "git" else self._tree
        try:
            return subprocess.run(
                command, cwd=cwd, env=self._environment, capture_output=True, text=True, timeout=patience
            )
        except subprocess.TimeoutExpired as problem:
            raise BrokenError(f"not over after {patience:g} s: {' '.join(command)}") from problem


def main() -> int:
    """Run the faults that are named, or all; 1 unless every one is caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    patches = [HERE / f"{name}.patch" for name in names] or sorted(HERE.glob("*.patch"))
    absent = [patch.stem for patch in patches if not patch.is_file()]
    if absent:
        parser.error(f"no such fault: {', '.join(absent)}")
    not_caught = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            copy = Copy(Path(folder))
            if not copy.passes(*sorted({test_of(patch) for patch in patches})):
                raise BrokenError("a named test fails without any fault")
        except BrokenError as problem:
            print(problem, file=sys.stderr)
            return 1
        for patch in patches:
            begin = time.monotonic()
            try:
                verdict = copy.verdict(patch)
            except BrokenError as problem:
                verdict = "BROKEN"
                print(problem, file=sys.stderr)
            not_caught += verdict != "caught"
            seconds = time.monotonic() - begin
            print(f"{patch.stem:<28} {verdict:<9} {seconds:5.1f} s  {test_of(patch)}", flush=True)
    return 1 if not_caught else 0


if __name__ == "__main__":
    raise SystemExit(main())
