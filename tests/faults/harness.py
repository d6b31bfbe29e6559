"""One process imports once and forks a child per file: exit code, seconds, memory; nothing written or run."""

import gc
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


def attempt(load, case):
    """Exit code, seconds, bytes above this process, message of loading a file in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, in_child(load, case).encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = stream.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    code, seconds, used, message = report.split("|", 3) if report else ("-1", "0", "0", "the child died")
    return int(code), float(seconds), int(used), message


def in_child(load, case):
    """The report of one file, from the process that may be lost."""
    logging.disable(logging.CRITICAL)
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANG)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    deeds = []
    sys.addaudithook(lambda event, arguments: is_deed(event, arguments) and deeds.append(event))
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        load(case)
        code, message = 0, ""
    except MergedDiffusionError as error:
        code, message = error.exit_code, str(error)
    except BaseException as error:  # noqa: BLE001  the child must not return to the test
        code, message = 1, repr(error)
    seconds = time.process_time() - begun
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * RSS_UNIT
    if deeds:
        code, message = -2, f"it did {sorted(set(deeds))}"
    return f"{code}|{seconds}|{used}|{message}"


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
        for case in cases:
            code, seconds, used, message = attempt(load, case)
            if code != case.exit_code or seconds > SECONDS or used > MEMORY:
                wrong.append(
                    f"{case.name}: {code} for {case.exit_code}, {seconds:.2f} s, {used >> 20} MiB: {message}"
                )
    finally:
        gc.unfreeze()
    assert not wrong, "\n".join(wrong)
    assert listing(tmp_path) == before
    assert not canary.exists()
