"""How thresholds or a gate of several experts look to people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli.held_out_report import row_lines
from merged_diffusion.cli.output import emit, emit_json
from merged_diffusion.cli.text import fine_difference, is_better
from merged_diffusion.roles import roles_of
from merged_diffusion.thresholds.choose_switches import HARD, Compared
from merged_diffusion.thresholds.confirm_switches import ConfirmedSwitches


def show(found: Compared, out: Path | None, *, as_json: bool) -> None:
    """The result of ``threshold`` or ``gate`` for three experts and more."""
    if as_json:
        emit_json(found.as_dict() | {"out": out})
        return
    emit("\n".join([*_lines(found), "not kept; --out keeps it" if out is None else f"kept in {out}"]))


def _lines(found: Compared) -> Iterator[str]:
    switches, tune = found.found, found.tune
    of = f"{len(tune)} images of {set_name(tune.name, tune.split)}"
    kind = "thresholds" if found.gate is None else "a gate beside thresholds"
    yield f"{kind} of {len(found.sources)} experts, chosen on {of}"
    calls = switches.call_seconds
    for role, source, seconds in zip(roles_of(len(calls)), found.sources, calls, strict=True):
        yield f"  {role:<11} {source}, {1000 * seconds:.3g} ms a call and image"
    yield "  by the bound, the quickest first, seconds foretold:"
    for choice in (*switches.choices, switches.chosen):
        words = "chosen  " if choice is switches.chosen else "        "
        gammas = ",".join(f"{gamma:.2f}" for gamma in choice.gammas)
        yield f"  {words}gammas {gammas}   {choice.bits_per_dim:.4f} bits/dim   {choice.seconds:.3g} s/image"
    if found.confirmed is not None:
        yield from _tried(found.confirmed)
    # Ten digits: what they lose at an end of a range, the model gives back by snapping.
    yield f"use them by --gammas={','.join(f'{gamma:.10g}' for gamma in found.gammas)}"
    if found.gate is not None:
        for who, start, end in found.gate.asked():
            asked = " and ".join(roles_of(found.gate.n_experts)[number] for number in who)
            yield f"  gamma {start:.2f} to {end:.2f}: {asked}"
    yield from row_lines(found, "thresholds", lambda row: f"{row.seconds / len(row):.3g} s/image")
    for name in (role for role in roles_of(len(calls)) if role in found.rows):
        paired = found.against(name)
        if paired is not None and is_better(paired):
            alone = f"the expert {name} alone, on its own range, is better"
            yield f"warning: on test {alone}, {fine_difference(paired)} (paired)"
    budget = None if found.confirmed is None else found.confirmed.budget
    if budget is not None and found.rows:
        took = found.rows[HARD].seconds / len(found.rows[HARD])
        kept = "kept" if took <= budget else "not kept: other images, or a machine that others use, too"
        yield f"budget of {budget:g} s/image: {kept}"


def _tried(confirmed: ConfirmedSwitches) -> Iterator[str]:
    yield f"  by exact runs on {confirmed.n} of them, seconds by a pilot of {confirmed.n_pilot} each:"
    for one in confirmed.tried:
        words = "chosen  " if one.gammas == confirmed.gammas else "        "
        gammas = ",".join(f"{gamma:.2f}" for gamma in one.gammas)
        mean, paired = one.bits_per_dim, one.worse_by
        value = "over the budget" if mean is None else f"{mean.mean:.4f} bits/dim"
        beside = "" if paired is None else f" {fine_difference(paired)}"
        yield f"  {words}gammas {gammas}   {value}{beside}   {one.seconds:.3g} s/image   {one.why}"
