"""The planted faults of tests/mutants are faults of today's code: every patch applies and names a test."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patches")
def test_every_patch_applies():
    broken = {}
    for path in PATCHES:
        done = subprocess.run(
            ["git", "apply", "--check", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            broken[path.name] = done.stderr
    assert PATCHES
    assert broken == {}


def test_every_patch_names_a_test_that_is_there():
    for path in PATCHES:
        test = path.read_text("utf-8").splitlines()[0].removeprefix("Test: ")
        if test.startswith("cargo: "):
            rust = "".join(file.read_text("utf-8") for file in (ROOT / "rust").rglob("*.rs"))
            assert f"fn {test.removeprefix('cargo: ')}(" in rust, path.name
        else:
            file, _, name = test.partition("::")
            function = re.escape(name.partition("[")[0].rpartition("::")[2])
            assert re.search(rf"def {function}\(", (ROOT / file).read_text("utf-8")), path.name
