"""Publish the figures of one version: measure them, keep them, and write them into the documents.

    python recipes/publish.py run --out results/publish
    python recipes/publish.py write

``run`` sweeps the bundled sets (likelihood by adams and by dopri5, bound, samples by the ODE), makes the
report pages and the pictures, and keeps what the documents say in ``docs/records``; the same command goes on
where it stopped. ``write`` puts the kept figures between the marks ``<!-- published: NAME -->`` and
``<!-- end -->`` of README.md and docs; a test holds that nothing changes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import merged_diffusion as md
from merged_diffusion import _core
from merged_diffusion.catalogue.entries import pair_card
from merged_diffusion.reports.page import report
from merged_diffusion.scores.differences import paired
from merged_diffusion.sweeps.request import Request
from merged_diffusion.training.baseline import gaussian_bits_per_dim

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"
SOLVERS = {"adams": "nll", "dopri5": "nll-dopri5"}
REPORTED = ("nll", "vlb", "sample-ode")
ROLES = ("likelihood", "quality")
COMMIT = "commit"
PLACE = {"threads": 1, "batch_size": 64}  # one machine's cores change no figure that is shown
MARK = re.compile(r"(<!-- published: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = dict[str, Any]


class Scope(NamedTuple):
    """What is measured of a set."""

    solvers: tuple[str, ...] = ("adams", "dopri5")
    etas: tuple[float, ...] | None = None
    """Thresholds between the ends; by default the grid of a sweep."""
    tol: float | None = None
    """Of the samples' solver; by default its own."""
    samples: int = 1000


SETS = {
    "digits": Scope(),
    "photos": Scope(),
    # Its networks are large: an hour and a half on one core, for all of it, as it is here.
    "scenes": Scope(("adams",), etas=(0.15, 0.3, 0.45, 0.6, 0.75), tol=0.01, samples=500),
}


def main() -> None:
    """Run or write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--out", type=Path, default=Path("results/publish"))
    given = parser.parse_args()
    if given.what == "run":
        begin(given.out)
        RECORDS.mkdir(exist_ok=True)
        for name in SETS:
            measured = run(name, given.out / name)
            text = json.dumps(measured, indent=1, ensure_ascii=False)
            (RECORDS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        subprocess.run(
            [sys.executable, ROOT / "docs/pictures/overview.py", "--renew", given.out / "scenes"], check=True
        )
    for document in documents():
        text = document.read_text(encoding="utf-8")
        document.write_text(published(text, kept()), encoding="utf-8")


def run(name: str, out: Path) -> Record:
    """Everything that is published of a set."""
    scope = SETS[name]
    common = {"data": name, **PLACE}
    etas = thresholds(name)
    for solver in scope.solvers:
        md.sweep(md.Settings.of(common | {"method": solver}), etas, out=out / SOLVERS[solver])
    some = None if scope.etas is None else etas
    bound = md.sweep(
        md.Settings.of(common | {"repeats": 10}), some, metric=Request(metric="vlb", times=1), out=out / "vlb"
    )
    drawn = md.sweep(
        md.Settings.of(common),
        some,
        metric="sample",
        sampler=None if scope.tol is None else md.Ode(md.Adams(tol=scope.tol)),
        num=scope.samples,
        out=out / "sample-ode",
    )
    page, _ = report([out / each for each in REPORTED])
    (ROOT / "docs" / "reports" / f"{name}.html").write_text(page, encoding="utf-8")
    test = md.load_data(name)
    gaussian = gaussian_bits_per_dim(md.load_data(name, split="train"), test)
    best = md.load_scores(out / SOLVERS[scope.solvers[-1]] / row_folder(pair_card(name).eta))
    excess = _core.paired_difference(best.bits_per_dim, gaussian, best.clusters)
    record = {
        "data": {"name": test.name, "split": test.split, "n": len(test), "sha256": test.sha256},
        "versions": settings_of(out)["versions"],
        "commit": commit_of(out.parent),
        "recommended": pair_card(name).eta,
        "likelihood": {solver: grid(out / SOLVERS[solver]) for solver in scope.solvers},
        "bound": values(bound),
        "samples": values(drawn),
        "gaussian": float(np.mean(gaussian)),
        "recommended_minus_gaussian": [excess["difference"], excess["se"]],
    }
    draw_pictures(name, out)  # last: its grid is without the recommended threshold
    return record


def thresholds(name: str) -> list[float | str]:
    """Both experts alone, the grid of the set, and the recommended threshold."""
    chosen_etas = SETS[name].etas
    if chosen_etas is not None:
        return [0.0, *chosen_etas, "max", 1.0]
    card = pair_card(name)
    ranges = [md.load_expert(source).gamma_range for source in (card.likelihood, card.quality)]
    _, *inside, _ = _core.eta_grid(*ranges, eta_range=card.eta_range)
    return [0.0, "min", *sorted({*(round(eta, 4) for eta in inside), card.eta}), "max", 1.0]


def row_folder(eta: float) -> str:
    """Of a threshold in the directory of a sweep."""
    return f"eta-{eta:.4f}"


def begin(out: Path) -> None:
    """Keep what is run; what was begun by other code does not go on."""
    out.mkdir(parents=True, exist_ok=True)
    kept, now = out / COMMIT, commit()
    if not kept.exists():
        if any(out.iterdir()):
            sys.exit(f"{out}: it is not known which commit its runs are of: move it away")
        kept.write_text(now + "\n", encoding="utf-8")
    elif commit_of(out) != now:
        sys.exit(f"{out}: begun at {commit_of(out)}, and this is {now}: move it away, or go back")


def commit_of(out: Path) -> str:
    """Of which the runs are."""
    return (out / COMMIT).read_text(encoding="utf-8").strip()


def commit(root: Path = ROOT) -> str:
    """What is run, which a version of this package does not say while it is worked on.

    "and changes" where the code differs from it; documents and pictures, which a run writes, may.
    """

    def asked(*words: str) -> str:
        told = subprocess.run(["git", "-C", root, *words], check=True, capture_output=True, text=True)
        return told.stdout.strip()

    changed = asked("status", "--porcelain", "--", "python", "rust", "recipes")
    return asked("rev-parse", "HEAD") + (" and changes" if changed else "")


def settings_of(out: Path) -> Record:
    """What a row of the likelihood's sweep was run with."""
    found: Record = json.loads((out / "nll" / "likelihood" / "settings.json").read_text(encoding="utf-8"))
    return found


def grid(sweep: Path) -> list[Record]:
    """Every row with its paired differences from both experts alone."""
    table = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
    scores = {row["name"]: md.load_scores(sweep / row["folder"]) for row in table["rows"]}
    last = max((row for row in table["rows"] if row["name"] not in ROLES), key=eta_of)["name"]
    rows = []
    for name, own in scores.items():
        others = {"likelihood": "likelihood", "quality": "quality", "last": last}
        minus = {role: paired(own, scores[other]) for role, other in others.items() if other != name}
        rows.append(
            {
                "name": name,
                "bits_per_dim": own.mean,
                "se": own.se,
                "evaluations": own.summary().as_dict()["evaluations"]["total"],
                "minus": {
                    role: [found.difference, found.se] for role, found in minus.items() if found is not None
                },
            }
        )
    return rows


def eta_of(row: Record) -> float:
    """The threshold of a row."""
    return float(row["threshold"]["eta"])


def values(table: Any) -> list[Record]:
    """The value of every row and its standard error."""
    return [{"name": row.name, "value": list(row.value)} for row in table if row.value is not None]


def draw_pictures(name: str, out: Path) -> None:
    """The figures of docs/trade-off.md, from the same sweeps."""
    words = [name, "--all", "--num", str(SETS[name].samples), "--out", str(out)]
    if SETS[name].etas is not None:
        words += ["--etas", ",".join(map(str, thresholds(name)))]
    if SETS[name].tol is not None:
        words += ["--tol", str(SETS[name].tol)]
    subprocess.run([sys.executable, ROOT / "examples/trade_off.py", *words], check=True)
    for figure in ("trade-off", "likelihood", "same-noise"):
        shutil.copyfile(out / f"{figure}.svg", ROOT / "docs" / "pictures" / f"{name}-{figure}.svg")


def kept() -> dict[str, Record]:
    """The records of the sets."""
    return {name: json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")) for name in SETS}


def documents() -> list[Path]:
    """Those that may hold published figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def published(text: str, records: dict[str, Record]) -> str:
    """A document with the kept figures between its marks."""

    def filled(found: re.Match[str]) -> str:
        name = found[2]
        if name == "summary":
            return f"{found[1]}{summary(records)}{found[3]}"
        data, _, solver = name.partition("-")
        return f"{found[1]}{whole_grid(records[data], solver)}{found[3]}"

    return MARK.sub(filled, text)


def summary(records: dict[str, Record]) -> str:
    """The table of the README."""
    etas = ", ".join(f"{record['recommended']:.2f}" for record in records.values())
    best = {name: chosen(record, "adams") for name, record in records.items()}
    alone = {
        role: [row_of(record, "adams", role)["bits_per_dim"] for record in records.values()] for role in ROLES
    }
    merged = cells(f"**{row['bits_per_dim']:.3f}**" for row in best.values())
    gaussian = cells(f"{record['gaussian']:.3f}" for record in records.values())
    lines = [
        f"| | {' | '.join(records)} |",
        "|---|" + "---|" * len(records),
        *(f"| {role} expert alone | {cells(f'{v:.3f}' for v in alone[role])} |" for role in alone),
        f"| merged ($\\eta$ = {etas}) | {merged} |",
        *(
            f"| merged − {role} | {cells(signed(*row['minus'][role], digits=3) for row in best.values())} |"
            for role in alone
        ),
        f"| Gaussian with full covariance | {gaussian} |",
    ]
    return "\n".join(lines) + "\n"


def whole_grid(record: Record, solver: str) -> str:
    """A table of docs/results.md: every threshold, with paired differences."""
    lines = [
        "| model | bits/dim | minus likelihood | minus quality | evaluations |",
        "|---|---|---|---|---|",
    ]
    rows, recommended = record["likelihood"][solver], chosen(record, solver)
    alone = [row for role in ROLES for row in rows if row["name"] == role]
    for row in [*alone, *(row for row in rows if row not in alone)]:
        shown = f"{row['name']} alone" if row in alone else row["name"].rstrip("0")
        minus = (row["minus"].get(role) for role in ROLES)
        columns = cells("" if found is None else signed(*found, digits=4) for found in minus)
        value = f"{row['bits_per_dim']:.4f} ± {row['se']:.4f}"
        lines.append(f"| {shown} | {value} | {columns} | {row['evaluations']:.0f} |")
    difference = signed(*recommended["minus"]["last"], digits=4)
    lines += ["", f"Recommended minus $\\eta_{{\\max}}$: {difference}."]
    if solver == list(record["likelihood"])[-1]:
        excess = signed(*record["recommended_minus_gaussian"], digits=3)
        lines.append(
            f"Full-covariance Gaussian on the same images: {record['gaussian']:.3f}; "
            f"recommended minus it: {excess}."
        )
    return "\n".join(lines) + "\n"


def cells(values: Any) -> str:
    """Of one row."""
    return " | ".join(values)


def signed(value: float, error: float, *, digits: int) -> str:
    """A difference and its standard error, with the sign of print."""
    return f"{value:+.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def row_of(record: Record, solver: str, name: str) -> Record:
    """A row of the grid by its name."""
    return next(row for row in record["likelihood"][solver] if row["name"] == name)


def chosen(record: Record, solver: str) -> Record:
    """The row of the recommended threshold."""
    return row_of(record, solver, f"eta {record['recommended']:.4f}")


if __name__ == "__main__":
    main()
