"""The data half of the corpus: a process forks a child per file; each is refused or read as it must be.

A child has two seconds and 256 MiB above what the imports take; it writes nothing, and touches no canary.
"""

import logging
import os
import resource
import sys
import time

import pytest
from tests.faults import archives, arrays, batches, images, records

from merged_diffusion.data import load_data
from merged_diffusion.errors import MergedDiffusionError

FAMILIES = {
    module.__name__.rsplit(".", 1)[1]: module for module in (archives, arrays, batches, images, records)
}
SECONDS, MEMORY = 2.0, 256 << 20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
    # Python 3.12 and later warn of threads, which torch starts; the children never touch torch.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def attempt(case):
    """Exit code, seconds, bytes above this process, message of loading a file in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        logging.disable(logging.CRITICAL)
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            load_data(case.path, **case.options)
            code, message = 0, ""
        except MergedDiffusionError as error:
            code, message = error.exit_code, str(error)
        except BaseException as error:  # noqa: BLE001  the child must not return to the test
            code, message = 1, repr(error)
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * RSS_UNIT
        report = f"{code}|{time.perf_counter() - begun}|{used}|{message}"
        os.write(writer, report.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = stream.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    code, seconds, used, message = report.split("|", 3) if report else ("-1", "0", "0", "the child died")
    return int(code), float(seconds), int(used), message


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    folder, canary = tmp_path / "files", tmp_path / "canary"
    cases = FAMILIES[name].cases(folder, canary)
    before, wrong = listing(tmp_path), []
    for case in cases:
        code, seconds, used, message = attempt(case)
        if code != case.exit_code or seconds > SECONDS or used > MEMORY:
            wrong.append(
                f"{case.name}: {code} for {case.exit_code}, {seconds:.2f} s, {used >> 20} MiB: {message}"
            )
    assert not wrong, "\n".join(wrong)
    assert listing(tmp_path) == before
    assert not canary.exists()


def test_size_of_the_corpus(tmp_path):
    """As many attacks, and as many honest files, as the corpus is to have."""
    cases = [
        case
        for name, module in FAMILIES.items()
        for case in module.cases(tmp_path / name, tmp_path / "canary")
    ]
    attacks = [case for case in cases if case.exit_code and case.name.startswith("archives/")]
    assert len(attacks) >= 40
    assert sum(case.exit_code == 0 for case in cases) >= 20
    assert len(cases) >= 300
