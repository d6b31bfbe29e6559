"""The command line that makes a result again, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import GIVEN
from merged_diffusion.ode import methods
from merged_diffusion.reports.results import Result
from merged_diffusion.sweeps.sweep_row import SweepRow
from merged_diffusion.sweeps.thresholds import GATE

STATED: Final = (*methods.WORDS, "probe", "convention")  # whatever the default: it may change
DEFAULTS: Final[Mapping[str, object]] = {
    name: value for name, value in Settings(data="").as_dict().items() if name not in STATED
}
# Set by the program, or found by it; what several probes are unless they are independent.
UNSAID: Final = {
    *("tf32", "scheme", "lattice", "own_log_q", "shared_probes"),
    *("quadrature", "gamma_scan", "path_evidence", "precision_cost"),
}
AVERAGED: Final = ("fixed", "fresh")


def command_lines(result: Result) -> list[str]:
    """``merged-diffusion nll``, ``--data digits``, …: what differs from the defaults, quoted for a shell."""
    if any(expert.source == GIVEN for expert in result.experts.values()):
        return ["# its model was given in Python, to merged_diffusion.evaluate"]
    settings = _with_probes(result.settings)
    if settings is None:
        return ["# averages probes of another kind than its method's, as Probes(n, kind, 'independent') does"]
    command = "sweep" if result.is_sweep else result.metric
    lines = [f"merged-diffusion {command}"]
    if result.is_sweep and result.metric != "nll":
        lines.append(f"--metric {result.metric}")
    if result.is_sweep:
        lines.append(f"--etas {','.join(_eta(row) for row in result.rows if row.model != GATE)}")
    if result.metric == "sample" and not result.is_sweep:
        lines += _drawn(result)
    if "precision" in settings and result.metric != "sample":
        lines.append("--accept-precision")  # what it cost is known by now
    return [*lines, *_options(settings)]


def _with_probes(settings: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings with independent probes named by their word; None where the command line has none."""
    many = settings.get("probes")
    if (
        not isinstance(many, int)
        or many == 1
        or "scheme" in settings
        or settings.get("probe") not in AVERAGED
    ):
        return settings
    usual = methods.SOLVERS[str(settings["method"])].usual_probe
    return {**settings, "probe": "independent"} if settings["probe"] == usual else None


def _drawn(result: Result) -> Iterator[str]:
    """What the record of samples says beside its settings: experts and threshold."""
    row = result.rows[0]
    if row.n is not None and "num" not in result.settings and "ids" not in result.settings:
        yield f"--num {row.n}"
    if row.model == "merged" and row.threshold is not None:
        for role, expert in result.experts.items():
            yield f"--{role}-expert {shlex.quote(expert.source)}"
        yield f"--gamma {row.threshold['gamma']!r}"
    else:
        yield f"--expert {shlex.quote(result.experts[row.model].source)}"


def _eta(row: SweepRow) -> str:
    """A threshold as it was asked for: ``min`` keeps the digits of its gamma."""
    if row.model != "merged":
        return "0" if row.model == "quality" else "1"
    return str(row.eta if row.asked_eta is None else row.asked_eta)


def _options(settings: Mapping[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        if name in UNSAID or value is None or value is False or value == DEFAULTS.get(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            yield option
        else:
            parts = list(map(str, value)) if isinstance(value, list | tuple) else [str(value)]
            yield f"{option} {shlex.quote((':' if name == 'ids' else ',').join(parts))}"
