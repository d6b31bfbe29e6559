"""Whether two commits compute the same, to the last bit: both are built, and run on this machine.

    python benches/python/same_numbers.py BEFORE [AFTER] [--case WORD,...] [--set digits,photos] [--keep DIR]

AFTER is HEAD where it is not given. Every command runs once under each, 32 images, one thread, rows of 16;
then the run folders that BEFORE wrote for 16 images go on under AFTER. Compared are what is printed as JSON
and every file that is left, but for times, versions and digests of these. What only one of the two has (a key
that is new) is listed, and is no difference. Exit code 1 with any difference.

It needs the environment of CONTRIBUTING (maturin among it) and builds each commit's core, about two minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAME = "--threads 1 --batch-size 16 --device cpu --json"
DRAW = f"--pair {{data}} --num 32 {SAME}"
# {data}: the set; each leaves what it writes below `out`.
CASES = {
    "selftest": "selftest --json",
    "nll": f"nll --data {{data}} --limit 32 --compare --out out {SAME}",
    "nll-paper": f"nll --data {{data}} --limit 32 --eta 0.3 --preset paper --out out {SAME}",
    "nll-shared": f"nll --data {{data}} --limit 32 --method dopri5 --step-control shared --out out {SAME}",
    "vlb": f"vlb --data {{data}} --limit 32 --compare --out out {SAME}",
    "sample-ode": f"sample {DRAW} --out out.npz",
    "sample-ancestral": f"sample {DRAW} --sampler ancestral --steps 64 --out out.npz",
    "sample-heun": f"sample {DRAW} --sampler heun --out out.npz",
    "sample-dpmpp-2m": f"sample {DRAW} --sampler dpmpp-2m --out out.npz",
    "sweep-nll": f"sweep --data {{data}} --limit 32 --etas 0,0.2,0.4 --out out {SAME}",
    "sweep-vlb": f"sweep --metric vlb --data {{data}} --limit 32 --etas 0,0.2,0.4 --out out {SAME}",
    "sweep-sample": "sweep --metric sample --data {data} --num 32 --etas 0,0.2 --sampler heun --steps 8 "
    f"--out out {SAME}",
    "threshold": f"threshold --data {{data}} --limit 32 --tune-limit 32 --out out {SAME}",
    "fid": "fid {samples} --ref {data} --threads 1 --device cpu --json",
}
GOES_ON = ("nll", "vlb", "sweep-nll")
# Of the machine, the day or the version, by the last name of a key; digests of files that hold such.
OTHERWISE = re.compile(
    r".*seconds.*|date|started|finished|environment|merged_diffusion|version|crc32|time_profile|path|out|per_second"
)


def options():
    parser = argparse.ArgumentParser("same_numbers.py", description=__doc__.splitlines()[0])
    words = {"type": lambda text: text.split(",")}
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--case", **words, default=list(CASES), help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--set", **words, default=["digits", "photos"], help="digits, photos; both")
    parser.add_argument("--keep", type=Path, help="where builds and outputs stay; a temporary directory")
    return parser.parse_args()


def main():
    asked = options()
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
        return compare(asked, asked.keep.resolve())
    with tempfile.TemporaryDirectory(prefix="same-numbers-") as made:
        return compare(asked, Path(made).resolve())


def compare(asked, folder):
    commits = [git("rev-parse", "--short", word) for word in (asked.before, asked.after)]
    packages = [built(commit, folder) for commit in commits]
    print(f"{commits[0]} and {commits[1]}\n\n| command | values | differ | new or gone |\n|---|---|---|---|")
    different = 0
    for data in asked.set:
        for case in asked.case:
            if case == "selftest" and data != asked.set[0]:
                continue
            places = [folder / "runs" / commit / data / case for commit in commits]
            found = [ran(case, data, *both) for both in zip(packages, places, strict=True)]
            different += told(f"{case} {data}", *found)
        for case in [case for case in GOES_ON if case in asked.case]:
            place = folder / "runs" / "goes-on" / data / case
            ran(case, data, packages[0], place, limit=16)
            after = tree(folder / "runs" / commits[1] / data / case)
            on = ran(case, data, packages[1], place)
            # Settings are of the command that began, and say how many images it asked for.
            both = [{k: v for k, v in found.items() if "settings.json" not in k} for found in (after, on)]
            different += told(f"{case} {data}, begun before", *both)
    return 1 if different else 0


def built(commit, folder):
    """A directory to import ``commit``'s package from."""
    target = folder / "packages" / commit
    if not target.exists():
        source = folder / "sources" / commit
        if not source.exists():
            git("worktree", "add", "--force", "--detach", str(source), commit)
        build = ["pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
        subprocess.run([sys.executable, "-m", *build], check=True)
        git("worktree", "remove", "--force", str(source))
    return target


def ran(case, data, package, place, limit=None):
    """What a command leaves in ``place``, which it makes."""
    place.mkdir(parents=True, exist_ok=True)
    samples = place.parent / "sample-heun" / "out.npz"
    line = CASES[case].format(data=data, samples=samples)
    if limit is not None:
        line = line.replace("--limit 32", f"--limit {limit}")
    one = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = os.environ | one | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    program = [sys.executable, "-m", "merged_diffusion", *line.split()]
    end = subprocess.run(program, cwd=place, env=environment, capture_output=True, text=True)
    if end.returncode:
        raise SystemExit(f"{line}\nended with {end.returncode}: {end.stderr[-2000:]}")
    (place / "printed.json").write_text(end.stdout)
    # A file of the package lies where the package does.
    return {k: v.replace(str(package), "") if isinstance(v, str) else v for k, v in tree(place).items()}


def tree(place):
    """{file and key: value} of all that lies there; arrays of an npz are bytes."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.suffix in (".lock", ".owner") or "environments" in path.parts or not path.is_file():
            continue
        if path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                record = json.loads(line)
                # Of every process that wrote it, in any order.
                found |= flat(f"{path.parent.relative_to(place)}/records {record.get('id')}", record)
        elif path.suffix == ".json":
            found |= flat(name, json.loads(path.read_text()))
        elif path.suffix in (".npz", ".zip"):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{name} {member}": archive.read(member) for member in archive.namelist()}
        else:
            found[name] = path.read_bytes()
    return found


def flat(name, value):
    """{path: leaf} of JSON, but for what differs from run to run."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if not OTHERWISE.fullmatch(key)}
        return {path: leaf for key in kept for path, leaf in flat(f"{name} {key}", kept[key]).items()}
    if isinstance(value, list):
        return {
            path: leaf for at, inner in enumerate(value) for path, leaf in flat(f"{name} {at}", inner).items()
        }
    return {name: repr(value)}


def told(name, before, after):
    """Print the row of a command; how many values differ."""
    both = before.keys() & after.keys()
    differ = sorted(key for key in both if before[key] != after[key])
    alone = sorted({key.split(" ")[-1] for key in before.keys() ^ after.keys()})
    print(f"| {name} | {len(both)} | {len(differ)} | {', '.join(alone[:12])} |", flush=True)
    for key in differ[:5]:
        print(f"    {key}: {before[key][:80]} {after[key][:80]}")
    return len(differ)


def git(*words):
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
