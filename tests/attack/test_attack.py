"""The short form of the attack: some faults and kills of two commands. ``tests/attack/run.py`` makes all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="a library is built and preloaded"
)


def attack(*more):
    """What the script printed; it must end with 0."""
    line = (sys.executable, RUN, "--without-strace", "--command", "nll,sample-npz", *more)
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_call_that_fails_has_a_documented_code_and_the_same_command_goes_on():
    told = attack("--kind", "write,rename,fsync,open", "--error", "EIO", "--every", "3", "--kills", "0")
    assert "attempts came about, 0 with findings" in told
    assert "| sample-npz |" in told


def test_command_that_is_killed_after_a_call_ends_as_if_it_were_not():
    told = attack("--kind", "any", "--mode", "kill", "--every", "7", "--kills", "1")
    assert "attempts came about, 0 with findings" in told
    assert "| kill |" in told
