"""``selftest``: closed forms on this machine, a line each."""

from __future__ import annotations

import click

from merged_diffusion.cli import help_screen, options, output
from merged_diffusion.ode.machine import Dtype


@click.command(
    "selftest",
    cls=help_screen.Command,
    epilog="\b\nExamples:\n  merged-diffusion selftest\n  merged-diffusion selftest --device cuda --json\n",
)
@options.device
@options.dtype
@options.threads
@options.printing
def command(device: str | None, dtype: Dtype | None, threads: int | None, as_json: bool, quiet: bool) -> int:
    """Compute on this machine what is known exactly, and print how far off it is and how far it may be.

    It takes less than a minute. The exit code is 1 if anything is further off.
    """
    from merged_diffusion import closed_forms
    from merged_diffusion.jobs.threads import CUDA_UNUSABLE, all_cores, configured, resolve_device
    from merged_diffusion.ode.machine import Machine

    place, reason = resolve_device(device or "auto")
    if reason is not None and not quiet:
        output.say(f"note: {CUDA_UNUSABLE}: {reason}")
    rows: list[dict[str, object]] = []
    with output.remarks(quiet=quiet), configured(threads=threads or all_cores(), deterministic=False):
        if not as_json:
            output.emit(f"{'':<52} {'error':>9}  {'at most':>9}")
        for check in closed_forms.run(Machine(place, dtype)):
            passed = bool(check.error <= check.tolerance)  # a NaN fails
            rows.append(
                {"name": check.name, "error": check.error, "tolerance": check.tolerance, "ok": passed}
            )
            if not as_json:
                verdict = "ok" if passed else "FAILED"
                output.emit(f"{check.name:<52} {check.error:9.2e}  {check.tolerance:9.2e}  {verdict}")
    code = 0 if all(row["ok"] for row in rows) else 1
    if as_json:
        output.emit_json({"command": "selftest", "device": place, "checks": rows, "code": code})
    return code
