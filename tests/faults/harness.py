"""One process imports once and forks children for some files each: exit code, seconds, memory; no deeds."""

import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path

from merged_diffusion.errors import MergedDiffusionError

# Of the processor: others may use the machine. What hangs is ended after HANG on the clock.
SECONDS, MEMORY = 2.0, 256 << 20
HANG = 120
ROOM = 2 << 30  # of addresses, so that a bomb ends the child and not the machine
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# What Python tells of itself (PEP 578) where something is run, changed or sent; unpickling above all.
DEEDS = {
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("shutil.rmtree", "shutil.move", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"),
    *("pickle.find_class", "socket.connect", "socket.bind", "socket.getaddrinfo", "webbrowser.open"),
    *("code.__new__", "ctypes.call_function", "pty.spawn", "urllib.Request"),
}


FILES = 20  # of a child: a fork costs more than most files do, and what one file left must not hide the next


def attempt(load, case):
    """Exit code, seconds, bytes above what the process had, message of loading a file in a child."""
    return next(iter(attempts(load, [case])))


def attempts(load, cases):
    """The same of every file in turn; where a child dies, the next one begins with the next file."""
    first = 0
    while first < len(cases):
        reports = of_child(load, cases[first : first + FILES])
        yield from reports
        first += len(reports)
        if first < len(cases) and len(reports) < FILES:
            yield -1, 0.0, 0, "the child died"
            first += 1


def of_child(load, cases):
    """Reports of a child's files, up to the one at which it died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        for report in in_child(load, cases):
            os.write(writer, json.dumps(report).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        reports = [tuple(json.loads(line)) for line in stream]
    os.waitpid(child, 0)
    return reports


def in_child(load, cases):
    """A report for each file, from the process that may be lost."""
    logging.disable(logging.CRITICAL)
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    deeds = []
    is_watching = False
    sys.addaudithook(
        lambda event, arguments: is_watching and is_deed(event, arguments) and deeds.append(event)
    )
    for case in cases:
        signal.alarm(HANG)
        before, begun = peak(anew=True), time.process_time()
        is_watching = True
        try:
            load(case)
            code, message = 0, ""
        except MergedDiffusionError as error:
            code, message = error.exit_code, str(error)
        except BaseException as error:  # noqa: BLE001  the child must not return to the test
            code, message = 1, repr(error)
        is_watching = False
        seconds, used = time.process_time() - begun, peak() - before
        if deeds:
            code, message = -2, f"it did {sorted(set(deeds))}"
            deeds.clear()
        yield code, seconds, used, message[:4000]


def peak(*, anew=False):
    """The most bytes that this process has had, on Linux since it was last measured ``anew``."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    if anew:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak: man 5 proc
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def is_deed(event, arguments):
    """Whether an event of Python's audit is none of reading."""
    return event in DEEDS or (event == "open" and bool((arguments[2] or 0) & WRITING))


def listing(folder):
    """Every file below a folder, and when it was written."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def check_family(family, load, tmp_path):
    """Every file of a family ends as it must, within the limits, and leaves no trace."""
    folder, canary = tmp_path / "files", tmp_path / "canary"
    cases = family.cases(folder, canary)
    before, wrong = listing(tmp_path), []
    gc.collect()
    gc.freeze()  # else a child's collector copies every page that it looks at
    try:
        for case, found in zip(cases, attempts(load, cases), strict=True):
            code, seconds, used, message = found
            if code != case.exit_code or seconds > SECONDS or used > MEMORY:
                wrong.append(
                    f"{case.name}: {code} for {case.exit_code}, {seconds:.2f} s, {used >> 20} MiB: {message}"
                )
    finally:
        gc.unfreeze()
    assert not wrong, "\n".join(wrong)
    assert listing(tmp_path) == before
    assert not canary.exists()
