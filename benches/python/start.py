"""What does it take until help, a refusal or a completion is there, beside Python and click alone?"""

import os
import resource
import statistics
import subprocess
import sys
import time

import click

COMPLETE = {
    "_MERGED_DIFFUSION_COMPLETE": "bash_complete",
    "COMP_WORDS": "merged-diffusion nll --expert b",
    "COMP_CWORD": "3",
}
CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "python -c pass": (["-c", "pass"], {}),
    "import click": (["-c", "import click"], {}),
    "import numpy": (["-c", "import numpy"], {}),
    "import merged_diffusion": (["-c", "import merged_diffusion"], {}),
    "--help": (["-m", "merged_diffusion", "--help"], {}),
    "nll --help": (["-m", "merged_diffusion", "nll", "--help"], {}),
    "sweep --help": (["-m", "merged_diffusion", "sweep", "--help"], {}),
    "a refused option": (["-m", "merged_diffusion", "nll", "--model", "x"], {}),
    "nll --expert b<TAB>": (["-m", "merged_diffusion"], COMPLETE),
}


def once(words: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """Processor and clock seconds of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], env=os.environ | variables, capture_output=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Medians of so many.")
def main(rounds: int) -> None:
    """A line for each case: rounds go through all of them, so that all meet the same machine."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            found[name].append(once(*case))
    click.echo(f"{'case':<26}{'processor s':>12}{'clock s':>10}{'x click':>9}")
    base = statistics.median(spent for spent, _ in found["import click"])
    for name, rows in found.items():
        spent, seconds = (statistics.median(column) for column in zip(*rows, strict=True))
        click.echo(f"{name:<26}{spent:>12.3f}{seconds:>10.3f}{spent / base:>9.2f}")


if __name__ == "__main__":
    main()
