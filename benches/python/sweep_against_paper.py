"""How many network evaluations does a sweep take beside as many runs of the paper's pipeline?

    python benches/python/sweep_against_paper.py photos --limit 128

`sweep` by its defaults (adams, shared steps counted once), and for each of its rows `nll --preset paper` on
the same images: Dormand-Prince at 1e-5, one step size for the batch, one fixed probe. Prints a row for each
threshold, and the sums. With --out a stopped run goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
ALONE = {"quality": "0", "likelihood": "1"}


def run(command, given, out, *more):
    """What a command of merged-diffusion prints as JSON, from a process of its own."""
    words = [sys.executable, "-m", "merged_diffusion", command, "--data", given.data, *more]
    words += [] if given.limit is None else ["--limit", str(given.limit)]
    words += ["--threads", str(given.threads), "--out", str(out), "--json", "--quiet"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def threshold(row):
    """The option of `nll` that asks for a row of the sweep."""
    at = row["threshold"]
    return ("--eta", ALONE[row["name"]]) if at is None else ("--gamma", repr(at["gamma"]))


def figure(summary):
    return f"{summary['bits_per_dim']['mean']:.4f} ± {summary['bits_per_dim']['se']:.4f}"


def compare(given, folder):
    """The table."""
    sweep = run("sweep", given, folder / "sweep")
    n, spent = sweep["data"]["n"], sweep["evaluations"]["spent"]
    print(f"{given.data}, {n} images, {len(sweep['rows'])} rows; evaluations an image\n")
    print("| row | the paper's pipeline | adams alone | ratio | the pipeline, bits/dim | adams, bits/dim |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    total = 0.0
    for row in sweep["rows"]:
        paper = run("nll", given, folder / f"paper-{row['folder']}", "--preset", "paper", *threshold(row))
        assert paper["n"] == row["summary"]["n"] == n, f"{row['name']}: other images"
        counts = [found["evaluations"]["total"] for found in (paper, row["summary"])]
        total += n * counts[0]
        columns = [f"{counts[0]:.1f}", f"{counts[1]:.1f}", f"{counts[0] / counts[1]:.2f}"]
        columns += [figure(paper), figure(row["summary"])]
        print(f"| {row['name']} | {' | '.join(columns)} |", flush=True)
    single = sweep["evaluations"]["single_runs"]
    print(f"\nsum of the pipeline's runs  {total:9,.0f}")
    for name, evaluations in (("adams, single runs", single), ("adams, the sweep", spent)):
        print(f"{name:<27} {evaluations:9,}   1/{total / evaluations:.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=["digits", "photos"])
    parser.add_argument("--limit", type=int, help="images (default: all)")
    parser.add_argument("--out", type=Path, help="keep the runs here, and go on with what is there")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    begin = time.monotonic()
    if given.out is None:
        with TemporaryDirectory() as folder:
            compare(given, Path(folder))
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        compare(given, given.out)
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
