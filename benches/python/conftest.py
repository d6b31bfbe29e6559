"""Threads are set and printed, a debug build is refused, figures of one run stand side by side."""

import os
import sys
from pathlib import Path

# As the command line does, before torch is loaded: spinning threads of libgomp take the cores that the core's
# loops, or numpy's, want next.
os.environ["GOMP_SPINCOUNT"] = "0"

import pytest
import torch

from merged_diffusion import _core

# Benches share code with the scripts beside them.
sys.path.append(str(Path(__file__).parent))

THREADS = 2
LINES = pytest.StashKey[list[str]]()


def pytest_configure(config):
    if _core.DEBUG_BUILD:
        pytest.exit("merged_diffusion._core is a debug build; install with pip, or build with --release", 2)
    torch.set_num_threads(THREADS)
    _core.set_threads(THREADS)
    config.stash[LINES] = []


@pytest.fixture(scope="session")
def report(pytestconfig):
    """``report("line")`` is printed under the table."""
    return pytestconfig.stash[LINES].append


def pytest_report_header():
    return f"threads: {_core.threads()} (core), {torch.get_num_threads()} (torch)"


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[LINES]:
        terminalreporter.section("ratios of this run")
        for line in config.stash[LINES]:
            terminalreporter.write_line(line)
