"""Make every call fail that a command changes files by, and kill commands; what is there must never be wrong.

    python tests/attack/run.py [--command NAME,...] [--kind KIND,...] [--error NAME,...] [--n N]
                           [--kills N] [--seed S] [--jobs J] [--list] [--without-strace]

For every N the N-th call of each kind, below the folder of the run, fails with EIO, ENOSPC and EROFS, a write
is torn (half of it, then ENOSPC; half of it, then kill -9), a lock is refused (ENOLCK, once, and all), a disk
is full or read-only from the N-th changing call on; reading calls fail with EIO. Each command must end with a
documented code and one line; the same command, without a fault, with 0 and what a run without faults leaves,
to the byte but for seconds and dates. Then kills: after every changing call, and the rest of --kills at
random moments.

Exit code 1 with any finding; each comes with the command that replays it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import traced
from attempts import Attacker, Fault, Outcome, faults_of, kills_of, moments
from jobs import COMMANDS, Jobs
from library import ALL, Library, build

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "ATTACK_FOLDER"  # where the library and all else lies; set in the process that has it loaded
ERRORS = ["EIO", "ENOSPC", "EROFS"]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def options(arguments):
    parser = argparse.ArgumentParser("python tests/attack/run.py", description=__doc__.splitlines()[0])
    words = {"type": lambda text: text.split(",")}
    parser.add_argument("--command", **words, default=list(COMMANDS), help="of --list; all")
    parser.add_argument("--kind", **words, help="of calls; all, and any: of all that change")
    parser.add_argument(
        "--mode", **words, help="fail, torn, torn-kill, full, readonly, unlockable, kill; all"
    )
    parser.add_argument("--error", **words, default=ERRORS, help="EIO, ENOSPC, EROFS; all")
    parser.add_argument("--n", type=int, help="that call alone")
    parser.add_argument("--every", type=int, default=1, help="one fault in so many")
    parser.add_argument("--kills", type=int, default=2000, help="at least; none after calls either if 0")
    parser.add_argument("--moment", type=float, help="one kill after so many seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--jobs", type=int, default=1, help="processes that attack")
    parser.add_argument("--list", action="store_true", help="name the commands")
    parser.add_argument("--without-strace", action="store_true", help="do not count the calls twice")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)  # count the calls, and no more
    parser.add_argument("--keep", type=Path, help="a file of all outcomes, one line of JSON each")
    return parser.parse_args(arguments)


def main(arguments):
    asked = options(arguments)
    if asked.list:
        for name, line in COMMANDS.items():
            print(f"{name:14s} {line}")
        return 0
    if unknown := set(asked.command) - COMMANDS.keys():
        raise SystemExit(f"no command {', '.join(sorted(unknown))}; there are {', '.join(COMMANDS)}")
    if INSIDE in os.environ:
        return inside(asked, Path(os.environ[INSIDE]))
    with tempfile.TemporaryDirectory(prefix="attack-") as made:
        folder = Path(made).resolve()
        library = build(folder)
        again = [sys.executable, str(Path(__file__)), *arguments]
        preloaded = os.environ | ONE_THREAD | {"LD_PRELOAD": str(library), INSIDE: str(folder)}
        if not asked.without_strace:
            check_counts(again, preloaded, folder)
        return subprocess.run(again, cwd=ROOT, env=preloaded).returncode


def check_counts(again, environment, folder):
    """Stop unless strace counts of each command what the library counts."""
    if shutil.which("strace") is None:
        raise SystemExit("strace is not here (apt-get install strace); --without-strace goes without it")
    logs, told = folder / "traces", folder / "counts.json"
    logs.mkdir()
    program = [*again, "--plain", str(told)]
    preload = f"LD_PRELOAD={environment['LD_PRELOAD']}"
    rest = {name: value for name, value in environment.items() if name != "LD_PRELOAD"}
    tracing = traced.command(logs / "log", preload)
    subprocess.run([*tracing, *program], cwd=ROOT, env=rest, check=True)
    for command, counted in json.loads(told.read_text()).items():
        # Of that child alone: the parent, and children before it, touch the folder too. It starts no process.
        seen = traced.counts([logs / f"log.{counted['pid']}"], counted["folder"])
        kinds = sorted(counted["calls"].keys() | seen.keys())
        pairs = {kind: (counted["calls"].get(kind, 0), seen[kind]) for kind in kinds}
        if differ := [f"{kind}: {a} and {b}" for kind, (a, b) in pairs.items() if a != b]:
            raise SystemExit(f"{command}: the library and strace count differently: {', '.join(differ)}")
        print(f"{command}: strace and the library count the same {sum(seen.values())} calls", flush=True)
    shutil.rmtree(logs)


def inside(asked, folder):
    """Attack; in the process that has the library loaded, and whose children have it."""
    sys.dont_write_bytecode = True
    os.environ.pop("LD_PRELOAD", None)
    import torch  # noqa: F401  the children's

    import merged_diffusion.cli  # noqa: F401

    library, jobs = Library(), Jobs(folder)
    attacker = Attacker(library, jobs, folder / "lane-0")
    (folder / "lane-0").mkdir(exist_ok=True)
    attacker.warm(asked.command)
    plains, told = {}, {}
    for command in asked.command:
        plain = plains[command] = attacker.plain(command)
        told[command] = {"calls": plain.calls, "pid": attacker.last, "folder": str(attacker.folder)}
    if asked.plain is not None:
        asked.plain.write_text(json.dumps(told))
        leave(0)
    work = planned(asked, library, plains)
    print(f"{len(work)} attempts on {len(plains)} commands", flush=True)
    outcomes = attacked(attacker, work, plains, asked.jobs, folder)
    if asked.keep is not None:
        asked.keep.write_text("".join(outcome.line() + "\n" for outcome in outcomes))
    leave(told_all(outcomes, plains, library))


def leave(code):
    """Without the last words of libraries that were imported and never used."""
    sys.stdout.flush()
    os._exit(code)


def planned(asked, library, plains):
    """(command, fault, moment) of every attempt."""
    kinds = asked.kind or [*library.kinds, ALL]
    work = []
    if asked.moment is not None:
        return [(command, Fault("kill"), asked.moment) for command in asked.command]
    for command, plain in plains.items():
        faults = faults_of(plain.calls, library.changing, kinds, asked.error)
        if asked.kills and ALL in kinds:
            faults += kills_of(plain.calls, library.changing)
        faults = [
            fault
            for fault in faults
            if asked.n in (None, fault.n) and (asked.mode is None or fault.mode in asked.mode)
        ]
        work += [(command, fault, None) for fault in faults[:: asked.every]]
    if ALL in kinds and asked.n is None and (asked.mode is None or "kill" in asked.mode):
        left = max(0, asked.kills - sum(fault.kills for _, fault, _ in work))
        each = -(-left // len(plains))
        for command, plain in plains.items():
            work += [(command, Fault("kill"), moment) for moment in moments(plain, each, asked.seed, command)]
    return work


def attacked(attacker, work, plains, n_lanes, folder):
    """The outcomes; each lane is a process that forks its own children, in a folder of the same name."""
    lanes = []
    for lane in range(n_lanes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                own = Attacker(Library(), attacker.jobs, folder / f"lane-{lane}")
                (folder / f"lane-{lane}").mkdir(exist_ok=True)
                attack_lane(own, work[lane::n_lanes], plains, folder / f"outcomes-{lane}", lane == 0)
                code = 0
            finally:
                os._exit(code)
        lanes.append(child)
    ends = [os.waitpid(child, 0)[1] for child in lanes]
    if any(ends):
        raise SystemExit("a process that attacked has died")
    told = [(folder / f"outcomes-{lane}").read_text().splitlines() for lane in range(n_lanes)]
    return [Outcome.of(line) for lines in told for line in lines]


def attack_lane(attacker, work, plains, target, speaks):
    began = said = time.monotonic()
    with target.open("w") as file:
        for done, (command, fault, moment) in enumerate(work):
            outcome = attacker.attack(command, fault, plains[command], moment)
            if moment is not None and outcome.wrong:
                outcome.said += f"\nafter {moment:.4f} s"
            file.write(outcome.line() + "\n")
            file.flush()
            if speaks and time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{done + 1} of {len(work)} of this process, {said - began:.0f} s", flush=True)


def told_all(outcomes, plains, library):
    """Print tables and findings; the exit code."""
    print()
    changes = {name: sum(plain.calls[kind] for kind in library.changing) for name, plain in plains.items()}
    table("command", outcomes, lambda o: o.command, list(plains), changes)
    by_kind = Counter()
    for plain in plains.values():
        by_kind.update(plain.calls)
    table("call", outcomes, lambda o: o.fault.kind, library.kinds, by_kind)
    modes = ["fail", "torn", "torn-kill", "unlockable", "full", "readonly", "kill"]
    table("fault", outcomes, lambda o: o.fault.mode, modes, {})
    found = defaultdict(list)
    for outcome in outcomes:
        for line in outcome.wrong:
            found[outcome.command, line].append(outcome)
    for (command, line), hit in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"\n{command}: {line}\n  {len(hit)} times: {'; '.join(str(o.fault) for o in hit[:8])}")
        print(f"  {replay(hit[0])}")
    wrong = sum(bool(outcome.wrong) for outcome in outcomes)
    print(f"\n{sum(o.fired for o in outcomes)} attempts came about, {wrong} with findings")
    return 1 if wrong else 0


def table(head, outcomes, key, rows, calls):
    """Counts in markdown."""
    print(f"| {head} | calls | attempts | exit codes | drafts left | identical reruns | findings |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        own = [o for o in outcomes if key(o) == row and o.fired]
        if not own:
            continue
        codes = ", ".join(f"{code}: {n}" for code, n in sorted(Counter(o.code for o in own).items()))
        columns = zip(*((o.drafts, o.identical, o.wrong) for o in own), strict=True)
        sums = [sum(map(bool, column)) for column in columns]
        cells = (row, calls.get(row, ""), len(own), codes, *sums)
        print("| " + " | ".join(map(str, cells)) + " |")
    print()


def replay(outcome):
    """The command that makes the same attempt."""
    fault = outcome.fault
    line = f"python tests/attack/run.py --without-strace --command {outcome.command}"
    if outcome.fault.n == 0:
        return f"{line} --moment {outcome.said.rsplit('after ', 1)[-1].removesuffix(' s')}"
    line += f" --kind {fault.kind} --mode {fault.mode} --n {fault.n}"
    return f"{line} --error {fault.error}" if fault.error in ERRORS else line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
