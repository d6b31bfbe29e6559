"""How a chosen threshold looks, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from merged_diffusion.cli.output import emit, emit_json
from merged_diffusion.cli.text import error

Result = Mapping[str, Any]
NOT_KEPT: Final = "not kept; --out DIR keeps it with its curves"


def show(result: Result, out: Path | None, *, as_json: bool) -> None:
    """The result of ``threshold``."""
    if as_json:
        emit_json(result)
        return
    emit("\n".join([*_lines(result), NOT_KEPT if out is None else f"kept in {out}"]))


def _lines(result: Result) -> Iterator[str]:
    found, tune, at = result["found"], result["tune"], result["threshold"]
    low, high = found["indistinguishable"]
    first, last = found["crossing"]["interval"]
    yield (
        f"eta {result['eta']:.3f} ({_words(result['eta'], at)}), "
        f"chosen on {tune['n']} images of {tune['name']}/{tune['split']}"
    )
    yield f"found        eta {found['eta']:.3f}; {low:.3f} to {high:.3f} are not told apart from it"
    yield f"likelihood   best at eta {found['one_pass']['eta']:.3f} in one pass"
    crossing = found["crossing"]["eta"]
    yield f"bound        best at eta {crossing:.3f}; {first:.3f} to {last:.3f} in 95 % of resampled sets"
    if result["at_edge"]:
        yield "warning: this eta is an end of what the experts allow; a better one may lie beyond it"
    elif found["at_edge"]:
        yield "warning: the best threshold found is an end of what the experts allow"
    yield from _better(result["test"])
    if found["n_failed"]:
        yield f"{found['n_failed']} of {found['n']} images could not be solved and are left out"
    for name, part in (("confirmed", result["confirmed"]), ("test", result["test"])):
        if part is not None:
            yield f"{name}:"
            yield from map(_row, part["rows"])
    yield _cost(result["evaluations"], tune["n"])


def _words(eta: float, at: Result) -> str:
    if at["gamma"] is None:
        return f"the {'likelihood' if eta == 1 else 'quality'} expert alone"
    return f"gamma {at['gamma']:.3f}, edm_sigma {at['edm_sigma']:.4f}"


def _better(test: Result | None) -> Iterator[str]:
    """What beats the answer on test, where it was not to be chosen."""
    for row in [] if test is None else test["rows"]:
        if row["paired"] is not None and row["paired"]["difference"] < 0:
            beside = f"{row['paired']['difference']:+.4f}{error(row['paired']['se'])} (paired)"
            yield f"warning: on test {row['name']} is better, {beside}"


def _row(row: Result) -> str:
    found, paired = row["bits_per_dim"], row["paired"]
    value = "no mean" if found is None else f"{found['mean']:.4f}{error(found['se'])} bits/dim"
    beside = "" if paired is None else f"   {paired['difference']:+.4f}{error(paired['se'])} (paired)"
    failed = f"   {row['n_failed']} failed" if row["n_failed"] else ""
    return f"  {row['name']:<11} {value}{beside}{failed}"


def _cost(spent: Result, n: int) -> str:
    found = f"evaluations per image: finding {spent['finding'] / n:.0f}"
    if "grid" not in spent:
        return found
    shares = (spent[name] / spent["grid"] for name in ("finding", "confirming"))
    one, two = (f"1/{1 / share:.1f}" for share in shares)
    return (
        f"{found} ({one}), confirming {spent['confirming'] / n:.0f} ({two} of the grid's "
        f"{spent['grid'] / n:.0f} by single runs)"
    )
