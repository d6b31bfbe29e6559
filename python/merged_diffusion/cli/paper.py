"""``paper``: parses, calls, prints."""

from __future__ import annotations

from pathlib import Path

import click

from merged_diffusion.cli import options

EPILOG = """\b
Examples:
  merged-diffusion paper --dry-run
  merged-diffusion paper --dry-run --measured device.json --json
"""


@options.command("paper", EPILOG)
@click.option("--dry-run", is_flag=True, help="Print the plan. Nothing else can be asked for.")
@click.option(
    "--measured", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    show_default="no hours", help="What benches/device.py wrote of the device: hours are told by it.",
)  # fmt: skip
@options.cache
@options.printing
def command(given: options.Given) -> int:
    """Say what repeating the paper takes: which files are there, which commands make a table, at what cost.

    The commands are run one by one, as each takes days on one GPU and goes on where it stopped.
    """
    from merged_diffusion.cli import output
    from merged_diffusion.errors import UsageError
    from merged_diffusion.jobs import paper_plan

    if not given["dry_run"]:
        raise UsageError(
            "paper without --dry-run: it prints a plan, whose commands are run one by one",
            hint="merged-diffusion paper --dry-run",
        )
    measured: Path | None = given["measured"]
    cost = None if measured is None else paper_plan.Cost.read(measured)
    if given["as_json"]:
        output.emit_json(paper_plan.as_dict(given["cache"], cost))
        return 0
    there = paper_plan.files(given["cache"])
    for file in there:
        state = "there" if file.present else f"missing: {file.get}"
        output.emit(f"{file.kind:<10} {file.name:<30} {state}")
    missing = {file.kind for file in there if not file.present}
    for table in paper_plan.tables():
        lacks = [kind for kind in table.needs if kind in missing]
        output.emit(f"\n{table.name}" + (f" (lacks {', '.join(lacks)})" if lacks else ""))
        for line in table.commands:
            output.emit(f"  {line}")
        spent = {"with a product": table.products, "forward": table.calls}
        parts = [f"{n / 1e6:.1f} million evaluations {kind}" for kind, n in spent.items() if n]
        hours = table.hours(cost)
        if hours and cost is not None:
            parts.append(f"about {hours:,.0f} hours on {cost.device}")
        if parts:
            output.emit(f"  {', '.join(parts)}")
    if cost is None:
        output.emit(
            "\nhours: python benches/device.py --out device.json --part cost, then --measured device.json"
        )
    return 0
