"""One attempt: a forked child runs a command under a fault, another child runs it again without.

The parent has imported all that the commands import, and has one thread: it never ran a parallel region,
whose threads a child would miss.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from library import ALL
from trees import differences, drafts, tree

HANG = 100  # seconds until a command that does not end is ended
DOCUMENTED = {3, 4, 6, 7, 8, 9}  # of docs/commands/runs.md, for storage that fails; 5 is for images
REFUSES_TO_REPEAT = {"threshold": 2}  # where its whole table lies
REFUSAL = 1000  # characters of what was said that are kept


@dataclass(frozen=True)
class Fault:
    """The n-th call of a kind fails (``error``), is torn, or is the process's last; or a random moment is."""

    mode: str
    kind: str = ALL
    n: int = 0
    error: str = ""

    def __str__(self):
        return " ".join(filter(None, (self.mode, self.kind, str(self.n), self.error)))

    @property
    def kills(self):
        return "kill" in self.mode


COUNTING = Fault("count")


@dataclass
class Outcome:
    """How an attempt ended, and what was wrong with it."""

    command: str
    fault: Fault
    code: int = 0
    fired: bool = False
    identical: bool = False
    drafts: int = 0
    wrong: list = field(default_factory=list)
    said: str = ""

    def line(self):
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, line):
        found = json.loads(line)
        return cls(**found | {"fault": Fault(**found["fault"])})


@dataclass(frozen=True)
class Plain:
    """A run without fault: its calls by kind, what it left, seconds."""

    calls: dict
    tree: dict
    seconds: float


class Attacker:
    """Runs commands in children, each in the folder ``attempt`` below ``folder``, made new."""

    def __init__(self, library, jobs, folder):
        self.library, self.jobs = library, jobs
        # The same path for all: commands tell where they write.
        self.folder = Path(folder).resolve() / "attempt"
        self._streams = Path(folder).resolve() / "said"

    def warm(self, commands):
        """Import here whatever a first child of each command imports."""
        for command in commands:
            for name in self._imports(command):
                # Some modules name what is not a module of its own.
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads != 1:
            raise SystemExit(f"the parent has {threads} threads, but children can be forked from one alone")
        gc.collect()
        gc.freeze()  # else a child's collector copies every page that it looks at

    def _imports(self, command):
        self.empty()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            before = set(sys.modules)
            self._run(command, COUNTING, lambda: _send(writer, set(sys.modules) - before))
        os.close(writer)
        with os.fdopen(reader) as stream:
            names = stream.read().split("\n")
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise SystemExit(f"{command} ended with {code} where nothing failed:\n{self._said()}")
        return sorted(filter(None, names))

    def plain(self, command):
        """The command without a fault; twice, for what differs by itself cannot be compared."""
        self.empty()
        began = time.monotonic()
        code, _ = self._attempt(command, COUNTING)
        seconds, calls, clean = time.monotonic() - began, self.library.counts, tree(self.folder)
        if code or drafts(self.folder) - {"out/.lock"}:
            raise SystemExit(f"{command}: ended with {code}, drafts {drafts(self.folder)}\n{self._said()}")
        return Plain(calls, clean, seconds)

    def attack(self, command, fault, plain, moment=None):
        """An attempt and what comes after; ``moment`` in seconds for a kill from outside."""
        self.empty()
        outcome = Outcome(command, fault)
        outcome.code, outcome.fired = self._attempt(command, fault, moment)
        outcome.said = self._said()[-REFUSAL:]
        if not outcome.fired:
            return outcome
        self._judge(outcome, plain)
        again, _ = self._attempt(command, COUNTING)
        if again == REFUSES_TO_REPEAT.get(command) and tree(self.folder) == plain.tree:
            outcome.identical = True  # all was written before the fault
        elif again != 0:
            outcome.wrong.append(f"the rerun ended with {again}: {self._said()[-REFUSAL:].strip()}")
        else:
            changed = differences(plain.tree, tree(self.folder))
            outcome.identical = not changed
            outcome.wrong += [f"after the rerun {line}" for line in changed]
        outcome.drafts = len(drafts(self.folder) - {"out/.lock"})
        return outcome

    def _judge(self, outcome, plain):
        code, said = outcome.code, outcome.said
        if code == -signal.SIGALRM:
            outcome.wrong.append(f"did not end within {HANG} s")
        elif outcome.fault.kills and code == -signal.SIGKILL:
            return
        elif code == 0:
            # A failure that the command could do without: then nothing else may be wrong.
            changed = differences(plain.tree, tree(self.folder))
            outcome.wrong += [f"ended with 0, but {line}" for line in changed]
        elif code not in DOCUMENTED:
            outcome.wrong.append(f"ended with {code}: {said.strip()}")
        if "Traceback" in said:
            outcome.wrong.append(f"traceback: {said.strip()}")
        elif code > 0 and len([line for line in said.splitlines() if line.startswith("error")]) != 1:
            outcome.wrong.append(f"not one line of error: {said.strip()}")

    def _attempt(self, command, fault, moment=None):
        """Exit code of a child (below 0: the signal), and whether the fault came about."""
        self.library.clear()
        child = self.last = os.fork()
        if child == 0:
            self._run(command, fault)
        if moment is not None:
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, self.library.fired or moment is not None

    def _run(self, command, fault, after=lambda: None):
        """The whole life of a child."""
        code = 1
        try:
            signal.alarm(HANG)
            os.chdir(self.folder)
            for number in (1, 2):
                target = os.open(f"{self._streams}.{number}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
                os.dup2(target, number)
            self.library.arm(fault, self.folder)
            from merged_diffusion.cli import main

            code = main(self.jobs.arguments(command))
            after()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001  the child must not return to the driver
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _said(self):
        return Path(f"{self._streams}.2").read_text("utf-8", "replace")

    def empty(self):
        """A new folder for an attempt."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)


def _send(writer, names):
    with os.fdopen(writer, "w") as stream:
        stream.write("\n".join(names))


def faults_of(calls, changing, kinds, errors):
    """Every fault of a command that makes ``calls``."""
    found = []
    for kind in kinds:
        for n in range(1, calls.get(kind, 0) + 1):
            named = errors if kind in changing else ["EIO"]
            found += [Fault("fail", kind, n, error) for error in named]
            if kind in ("flock", "lock"):
                found.append(Fault("fail", kind, n, "ENOLCK"))
                found += [Fault("unlockable", kind, n)] if n == 1 else []
            if kind in ("write", "pwrite", "writev"):
                found += [Fault("torn", kind, n), Fault("torn-kill", kind, n)]
    if ALL in kinds:
        total = sum(calls[kind] for kind in changing)
        found += [Fault(mode, ALL, n) for n in range(1, total + 1) for mode in ("full", "readonly")]
    return found


def kills_of(calls, changing):
    """One after every changing call."""
    return [Fault("kill", ALL, n) for n in range(1, sum(calls[kind] for kind in changing) + 1)]


def moments(plain, n, seed, command):
    """Random moments of a run."""
    draw = random.Random(f"{seed} {command}")
    return [draw.uniform(0, plain.seconds) for _ in range(n)]
