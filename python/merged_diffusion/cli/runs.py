"""``runs show``, ``runs compare``, ``runs export`` and ``runs report``."""

from __future__ import annotations

from pathlib import Path

import click

from merged_diffusion.cli import completion, help_screen, options
from merged_diffusion.reports.tables import BEGINNINGS, FORMATS

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
TABLES = ("nll", "vlb", "sample", "literature", "ends")
IMAGES = "images"
folders_of_runs = click.argument(
    "folders", metavar="SWEEP_OR_RUN...", type=FOLDER, nargs=-1, required=True, shell_complete=completion.runs
)


@click.group(
    "runs", cls=help_screen.Group, epilog="\b\nExample:\n  merged-diffusion runs show results/photos\n"
)
def command() -> None:
    """Show, compare, export and report what was kept by --out."""


@command.command("show", epilog="\b\nExample:\n  merged-diffusion runs show results/photos --json\n")
@click.argument("folder", metavar="DIR", type=FOLDER, shell_complete=completion.runs)
@click.option(
    "--watch",
    is_flag=True,
    help="First wait for the workers of the run, the sweep or --work, and show how far each is.",
)
@options.printing
def show(folder: Path, watch: bool, as_json: bool, quiet: bool) -> int:
    """Show the result of a run, or the table of a sweep.

    It is over all images that were measured; the exit code is 9 where some of the run's are missing.
    Of --work of threshold, gate and fid it shows how far they are; the code is 9 until the result is told.
    """
    from merged_diffusion.cli import report
    from merged_diffusion.jobs.kept_runs import summary_of_run
    from merged_diffusion.runs import open_run
    from merged_diffusion.runs.kept import as_kept
    from merged_diffusion.runs.settings_file import SHARED

    with as_kept(folder):
        if watch:
            from merged_diffusion.cli.watching import watch as watch_workers

            watch_workers(folder, quiet=quiet)
        if (folder / "sweep.json").is_file():
            from merged_diffusion.cli import sweep_report
            from merged_diffusion.sweeps import sweep_folder

            table = sweep_folder.read(folder)
            if table is not None:
                return sweep_report.show(table, folder, as_json=as_json)
        run = open_run(folder)
        if run.settings.get("command") in SHARED:
            from merged_diffusion.cli.watching import show_work

            return show_work(folder, as_json=as_json)
        return report.show_kept(summary_of_run(run), folder, as_json=as_json)


@command.command(
    "compare", epilog="\b\nExample:\n  merged-diffusion runs compare results/eta-03 results/eta-04\n"
)
@click.argument("first", metavar="A", type=FOLDER, shell_complete=completion.runs)
@click.argument("second", metavar="B", type=FOLDER, shell_complete=completion.runs)
@options.printing
def compare(first: Path, second: Path, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """Compare two runs on the same images.

    Printed are both means and A minus B, image by image.
    """
    from merged_diffusion.cli import report
    from merged_diffusion.jobs.kept_runs import compare_runs
    from merged_diffusion.runs import open_run
    from merged_diffusion.runs.kept import as_kept

    with as_kept(first, second):
        report.show_comparison(compare_runs(open_run(first), open_run(second)), as_json=as_json)
    return 0


@command.command(
    "export",
    epilog="\b\nExamples:\n  merged-diffusion runs export results/sweep --table 1"
    "\n  merged-diffusion runs export results/sweep --what literature --format latex"
    "\n  merged-diffusion runs export results/nll --what images --out images.parquet\n",
)
@folders_of_runs
@click.option("--table", type=click.IntRange(1, 6), metavar="1-6", help="Which of the paper's tables.")
@click.option(
    "--what",
    type=click.Choice((*TABLES, IMAGES)),
    help="The same by name: nll is table 1, vlb 5, sample 2, literature 3, ends 4. "
    "Or images: the score of every image, with its file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice((*FORMATS, "parquet")),
    show_default="markdown; images: csv, or by the ending of --out",
    help="In which language to write it; parquet is for images alone.",
)
@click.option("--out", "-o", type=FILE, show_default="standard output", help="The file to write.")
@options.cache
@options.printing
def export(
    folders: tuple[Path, ...],
    table: int | None,
    what: str | None,
    form: str | None,
    out: Path | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write one of the paper's tables from sweeps and runs.

    Without --table and --what it is the one in which the first of them belongs.
    With --what images it is the score of every image, one row an image.
    """
    if what == IMAGES:
        return _export_images(folders, table, form, out, cache, as_json=as_json, quiet=quiet)
    from merged_diffusion.cli import output
    from merged_diffusion.errors import UsageError
    from merged_diffusion.reports.export import exported
    from merged_diffusion.reports.text_file import write_text
    from merged_diffusion.runs.kept import as_kept

    form = form or "markdown"
    if form == "parquet":
        raise UsageError("--format parquet is for --what images", hint=f"use {', '.join(FORMATS)}")
    with as_kept(*folders):
        found = exported(folders, form=form, number=table, what=what)
    if out is not None:
        write_text(out, found.text, BEGINNINGS[form])
    for warning in found.warnings if not quiet else ():
        output.say(f"warning: {warning}")
    return _shown(found.number, found.text, out, as_json=as_json)


def _export_images(
    folders: tuple[Path, ...],
    table: int | None,
    form: str | None,
    out: Path | None,
    cache: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    from merged_diffusion.cli import output
    from merged_diffusion.errors import UsageError
    from merged_diffusion.reports import image_table
    from merged_diffusion.reports.text_file import write_text
    from merged_diffusion.runs.kept import as_kept

    if table is not None:
        raise UsageError("--table and --what were both given", hint="use one of them")
    ending = None if out is None else out.suffix.removeprefix(".").lower()
    if form is None and ending and ending not in image_table.FORMATS:
        raise UsageError(
            f"{out}: a table of images is written as {' or '.join(image_table.FORMATS)}, not as .{ending}",
            hint="name a file that ends in .csv or .parquet, or say --format csv",
        )
    form = form or ending or "csv"
    if form not in image_table.FORMATS or (form == "parquet" and out is None):
        raise UsageError(
            f"--what images is not written as {form}" + (" without --out" if form == "parquet" else ""),
            hint="use --format csv, or --out FILE.parquet",
        )
    with as_kept(*folders), output.remarks(quiet=quiet):
        columns = image_table.image_columns(folders, cache=cache)
    is_text = form == "csv"
    changed = image_table.changed_in_csv(columns) if is_text else []
    if changed and not quiet:
        output.say(
            f"warning: {len(changed)} texts are not as they were in CSV, the first is {changed[0]}: a ' "
            "stands before what a spreadsheet would take for a formula, and control characters are escaped; "
            "to join by names write --out FILE.parquet"
        )
    content = image_table.as_csv(columns) if is_text else image_table.as_parquet(columns)
    own = image_table.OWN_CSV if is_text else image_table.OWN_PARQUET
    if out is not None:
        write_text(out, content, own, at_end=not is_text)
    return _shown(IMAGES, content if isinstance(content, str) else None, out, as_json=as_json)


def _shown(table: int | str, text: str | None, out: Path | None, *, as_json: bool) -> int:
    """What an export prints: the table itself where it went to no file; Parquet has no text."""
    from merged_diffusion.cli import output

    if as_json:
        place = None if out is None else str(out)
        output.emit_json({"command": "runs export", "table": table, "out": place, "text": text})
    elif out is None and text is not None:
        output.emit(text.rstrip("\n"))
    return 0


@command.command(
    "report",
    epilog="\b\nExample:\n  merged-diffusion runs report results/sweep results/samples --out report.html\n",
)
@folders_of_runs
@click.option(
    "--out", "-o", type=FILE, default=Path("report.html"), show_default=True, help="The page to write."
)
@options.printing
def report_page(folders: tuple[Path, ...], out: Path, as_json: bool, quiet: bool) -> int:
    """Write a web page of sweeps and runs.

    It is one file, of one data set: tables, figures, images, every setting.
    """
    from merged_diffusion.cli import output
    from merged_diffusion.reports.page import MARK, report
    from merged_diffusion.reports.text_file import write_text
    from merged_diffusion.runs.kept import as_kept

    with as_kept(*folders):
        text, warnings = report(folders)
    write_text(out, text, MARK)
    for warning in warnings if not quiet else ():
        output.say(f"warning: {warning}")
    if as_json:
        output.emit_json({"command": "runs report", "out": str(out), "warnings": warnings})
    else:
        output.emit(f"report: {out}")
    return 0
