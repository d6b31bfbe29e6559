"""Plant one fault after another; the test that each patch names must fail, and pass without it.

    python tests/mutants/run.py [NAME ...]

Each NAME.patch begins with a line ``Test: ID``: a pytest node, or ``cargo: NAME`` for a test of the core.
Faults are planted in a copy of the checkout; a patch under rust/ rebuilds the extension there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXTENSION = Path("python/merged_diffusion/_core.abi3.so")


def test_of(patch: Path) -> str:
    """The test that a patch names."""
    first = patch.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith("Test: "):
        raise SystemExit(f"{patch.name}: its first line must be 'Test: ID'")
    return first.removeprefix("Test: ")


def copy_checkout(to: Path) -> None:
    """What git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def build(tree: Path, environment: dict[str, str]) -> None:
    """Build the extension into the copy."""
    command = ["cargo", "build", "--release", "--quiet", "-p", "merged-diffusion-bindings"]
    subprocess.run(command, cwd=tree, check=True, env=environment)
    built = Path(environment["CARGO_TARGET_DIR"]) / "release"
    library = next(path for path in built.glob("lib_core.*") if path.suffix in {".so", ".dylib"})
    shutil.copy2(library, tree / EXTENSION)


def passes(tree: Path, test: str, environment: dict[str, str]) -> bool:
    """Whether that test passes in the copy."""
    if test.startswith("cargo: "):
        name = test.removeprefix("cargo: ")
        command = ["cargo", "test", "--release", "--quiet", "-p", "merged-diffusion-core", name]
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 0


def main() -> int:
    """Run the faults that are named, or all; 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    patches = [HERE / f"{name}.patch" for name in names] or sorted(HERE.glob("*.patch"))
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_checkout(tree)
        environment = os.environ | {
            "CARGO_TARGET_DIR": str(Path(folder) / "target"),
            "PYTHONPATH": str(tree / "python"),
            "OMP_NUM_THREADS": "1",
        }
        build(tree, environment)
        clean = (tree / EXTENSION).read_bytes()
        for test in sorted({test_of(patch) for patch in patches}):
            if not passes(tree, test, environment):
                raise SystemExit(f"{test} fails without any fault")
        for patch in patches:
            begin = time.monotonic()
            apply = ["git", "apply", "--unsafe-paths", f"--directory={tree}", str(patch)]
            subprocess.run(apply, cwd=folder, check=True)
            if "+++ b/rust/" in patch.read_text(encoding="utf-8"):
                build(tree, environment)
            is_caught = not passes(tree, test_of(patch), environment)
            subprocess.run([*apply, "--reverse"], cwd=folder, check=True)
            (tree / EXTENSION).write_bytes(clean)
            verdict = "caught" if is_caught else "SURVIVED"
            print(
                f"{patch.stem:<28} {verdict:<9} {time.monotonic() - begin:5.1f} s  {test_of(patch)}",
                flush=True,
            )
            survived += [] if is_caught else [patch.stem]
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
