"""How a fitted gate looks to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli.held_out_report import row_lines
from merged_diffusion.cli.output import emit, emit_json
from merged_diffusion.gating.gated import Gated
from merged_diffusion.likelihood import Likelihood

SHOWN: Final = 9  # points of the curve


def show(found: Gated, out: Path | None, *, as_json: bool) -> None:
    """The result of ``gate``."""
    if as_json:
        emit_json(found.as_dict() | {"out": out})
        return
    kept = "not kept; add --out FILE.toml to keep it for --gate" if out is None else f"kept in {out}"
    emit("\n".join([*_lines(found), kept]))


def _lines(found: Gated) -> Iterator[str]:
    gate, tune = found.gate, found.tune
    of = set_name(tune.name, tune.split)
    likewise = f"threshold gamma {found.switch:.3f} likewise"
    yield f"{gate.form} gate, chosen on {len(tune)} images of {of}; {likewise}"
    at = [gate.start + (gate.end - gate.start) * number / (SHOWN - 1) for number in range(SHOWN)]
    shares = "  ".join(f"{w:.2f} at {gamma:.1f}" for gamma, w in zip(at, gate(at), strict=True))
    yield f"share of the likelihood expert, by gamma: {shares}"
    family = gate.about.get("family")
    if isinstance(family, Mapping):
        yield f"of logit w -> a logit w + b, by exact runs on {family['n']} of them: {family['chosen']}"
    yield from row_lines(found, "threshold", _calls)


def _calls(row: Likelihood) -> str:
    calls = sum(float(counts.mean()) for counts in row.evaluations.values())
    return f"{calls:.0f} evaluations/image"
