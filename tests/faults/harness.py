"""One process imports once and forks a child per file: exit code, seconds, memory; nothing written or run."""

import logging
import os
import resource
import sys
import time

from merged_diffusion.errors import MergedDiffusionError

SECONDS, MEMORY = 2.0, 256 << 20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def attempt(load, case):
    """Exit code, seconds, bytes above this process, message of loading a file in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        logging.disable(logging.CRITICAL)
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            load(case)
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
    """Every file below a folder, and when it was written."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def check_family(family, load, tmp_path):
    """Every file of a family ends as it must, within the limits, and leaves no trace."""
    folder, canary = tmp_path / "files", tmp_path / "canary"
    cases = family.cases(folder, canary)
    before, wrong = listing(tmp_path), []
    for case in cases:
        code, seconds, used, message = attempt(load, case)
        if code != case.exit_code or seconds > SECONDS or used > MEMORY:
            wrong.append(
                f"{case.name}: {code} for {case.exit_code}, {seconds:.2f} s, {used >> 20} MiB: {message}"
            )
    assert not wrong, "\n".join(wrong)
    assert listing(tmp_path) == before
    assert not canary.exists()
