"""How a summary looks to people: a heading, one row per model, remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log2
from typing import Any, Final

Summary = Mapping[str, Any]
SHOWN_FAILURES: Final = 5


def lines(summary: Summary) -> list[str]:
    """Heading, one row per model, remarks."""
    own = f"{summary['model']:<11} {value(summary)}{evaluations(summary)}{_paper(summary)}"
    rows = [heading(summary), own]
    rows += [
        f"{other['name']:<11} {value(other, with_error=False)}{_difference(other['paired'])}{_paper(other)}"
        for other in summary["compare"]
    ]
    return [*rows, *_remarks(summary)]


def heading(summary: Summary) -> str:
    """Data, number of images, threshold."""
    data = summary["data"]
    return f"{data['name']}/{data['split']}  {data['n']} images  {threshold_words(summary)}"


def leg_line(summary: Summary, leg: Summary) -> str:
    """An expert and the gammas it is in charge of."""
    source = summary["experts"][leg["role"]]["source"]
    return f"{leg['role']} expert {source}, gamma {leg['start']:.6g} to {leg['end']:.6g}"


def threshold_words(summary: Summary) -> str:
    """The threshold as eta, gamma and EDM's sigma, or the one expert that is asked."""
    echo, legs = summary["threshold"], summary["legs"]
    if len(legs) == 1:
        eta = "" if echo is None or echo["eta"] is None else f"eta {echo['eta']:g}: "
        return f"{eta}{leg_line(summary, legs[0])}"
    digits = 2 if abs(echo["eta"] - round(echo["eta"], 2)) < 5e-7 else 6
    return f"eta {echo['eta']:.{digits}f} (gamma {echo['gamma']:.3f}, edm_sigma {echo['edm_sigma']:.4f})"


def value(result: Summary, *, with_error: bool = True) -> str:
    """The mean with its standard error and unit."""
    unit, found = "bits/dim", result["bits_per_dim"]
    if found is None and result.get("log_density_nats") is not None:
        unit, found = "nats (log density)", result["log_density_nats"]
    if found is None or found["mean"] is None:
        return "no mean"
    if not with_error:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f}{error(found['se'])} {unit}"


def evaluations(result: Summary) -> str:
    """Network evaluations per image."""
    count = result["evaluations"]
    return "" if count is None else f"   {count['total']:.0f} evaluations/image"


def error(se: float | None) -> str:
    """A standard error; nothing where one image gives none."""
    return "" if se is None else f" ± {se:.3f}"


def _paper(result: Summary) -> str:
    """The paper's figures for the same, where it has them."""
    found = result.get("paper")
    return "" if found is None else f"   paper: {found['bits_per_dim']:.2f}, {found['evaluations']}"


def _difference(paired: Summary | None) -> str:
    if paired is None:
        return ""
    return f"   merged - it: {paired['difference']:+.3f}{error(paired['se'])} (paired)"


def _remarks(summary: Summary) -> Iterator[str]:
    settings, published = summary["settings"], summary.get("paper")
    if published is not None:
        yield f"paper: its table {published['table']}, bits/dim and evaluations; otherwise here:"
        yield from (f"  {difference}" for difference in published["differences"])
    if summary["data"].get("modified"):
        yield "modified: not the set that is published under this name; the paper's figures are left out"
    if summary["n_failed"]:
        ok = summary["n"] - summary["n_failed"]
        over = f"; the mean is over the {ok} others" if settings["allow_failed"] else ""
        yield f"{summary['n_failed']} of {summary['n']} images failed{over}"
    for row in summary["compare"]:
        if row["n_failed"]:
            yield f"{row['n_failed']} of {row['n']} images failed under the {row['name']} expert alone"
    for failure in summary["failures"][:SHOWN_FAILURES]:
        hint = f"; {failure['hint']}" if failure.get("hint") else ""
        where = f"{failure['status']} at gamma {failure['gamma']} ({failure['leg']}){hint}"
        under = f" under the {failure['model']} expert alone" if failure["model"] != summary["model"] else ""
        yield f"  image {failure['id']}{under}: {where}"
    if summary.get("n_missing"):
        yield f"{summary['n_missing']} images of the run have no record yet"
    if summary["extrapolated"]:
        yield "extrapolated: an expert was asked outside its trained range"
    if summary.get("above_uniform"):
        yield (
            f"warning: above the {log2(summary['data']['levels']):.4g} bits/dim of guessing every grey level "
            "alike: is every expert what it is declared to be?"
        )
    if summary["rebatched"]:
        yield "rebatched: some rows come from another batch size, threads, device or dtype"
    if settings["dequantise"] == "uniform":
        yield "uniform: points without noise under the density of the model noised to gamma_min; not exact"
