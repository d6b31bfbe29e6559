"""``--device cuda``: the tests that ask for a device run there; nothing needs one to pass.

``-n 2``: workers share the cores, and so do what they start.
"""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import Processes

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))

if WORKERS:
    # Before torch and the core are loaded, and for every process that a test starts. Two workers with two
    # threads each on two cores wait for each other, and a thread that spins meanwhile keeps the core.
    share = str(max(1, len(os.sched_getaffinity(0)) // WORKERS)) if hasattr(os, "sched_getaffinity") else "1"
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, share)
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the tests in tests/ode/test_device.py")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _import_path() -> Iterator[None]:
    """Folders of experts that a test made are not searched by the next one."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Processes]:
    """``start(*arguments)`` begins a command as a process of its own, in an empty directory."""
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.fixture
def port() -> int:
    """One on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
