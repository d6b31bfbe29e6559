"""How the mean over a set looks to people: the estimate, the parts of its error, and what features saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from merged_diffusion.jobs.summary import Summary
    from merged_diffusion.scores.set_mean import MeanOverSet


def lines(summary: Summary) -> list[str]:
    """Nothing where it was not asked for; why there is none where it is not known."""
    found, asked = summary.mean_of, summary.identity.settings.get("mean_of")
    if found is not None:
        return list(_told(found))
    lost = summary.n_missing or summary.means.n_failed
    if asked is None or not lost:
        return []
    return [f"mean of {asked}  none: it takes a value of every image chosen, and {lost} have none"]


def _told(found: MeanOverSet) -> Iterator[str]:
    value = f"{found.mean:.4f}{_error(found.se)} bits/dim"
    yield f"mean of {found.n_set}  {value}, from {found.n} of them{_interval(found)}"
    if found.se is not None:
        own = "the probes" if found.untold else "noise and probes"
        probe = f"{'unknown' if found.se_probe is None else f'{found.se_probe:.4f}'} by {own}"
        population = found.se_population
        beyond = "" if population is None else f"; as a sample of what it was drawn from ± {population:.4f}"
        yield f"  error     {found.se_choice:.4f} by the choice of images, {probe}{beyond}"
    yield from _missing(found)
    yield from _features(found)
    for reason, names in _by_reason(found).items():
        yield f"  left out  {', '.join(names)}: {reason}"
    if found.planned is not None:
        yield _plan(found.planned.se, found.planned.runs, found)


def _missing(found: MeanOverSet) -> Iterator[str]:
    """Which errors of the values are not in the interval, where they count."""
    part = f"{found.n} of {found.n_set} is more than a tenth"
    if found.missing and found.se is None and found.se_choice is not None:
        yield (
            f"  error     {found.se_choice:.4f} by the choice of images; no interval: nothing tells what the "
            f"probe of an image leaves, and {part}; --repeats 2 tells it"
        )
    elif found.missing:
        yield (
            f"  draws     of the dequantisation have no part in that error, and {part}: the interval is of "
            "the mean with these draws; --repeats 2 tells what they leave"
        )


def _features(found: MeanOverSet) -> Iterator[str]:
    if not found.features:
        yield "  features  none: it is the plain mean"
        return
    known = "" if found.correlation is None else f"; correlation {found.correlation:.3f} with bits/dim"
    calls = f"; the bound took {found.bound_calls} network calls" if found.bound_calls else ""
    yield f"  features  {', '.join(found.features)}{known}{calls}"
    if found.saved is not None:
        runs = f"without features the same error takes {found.saved * found.n:.0f} exact runs"
        pays = "" if found.pays else ": they do not pay on these images"
        yield f"  saved     {runs}, {found.saved:.1f} times as many{pays}"


def _plan(se: float, runs: int | None, found: MeanOverSet) -> str:
    if runs is None and found.error is None:
        return (
            f"  plan      ± {se:g} takes more than a tenth of the set, where the error of the probe counts, "
            "which nothing tells: --repeats 2 does"
        )
    if runs is None:
        return f"  plan      ± {se:g} is out of reach: the probes alone leave more; take more of --probes"
    return (
        f"  plan      ± {se:g} takes at most about {runs} exact runs out of {found.n_set}: "
        f"--limit {max(runs, found.n)} goes on with these{_of_draws(runs, found)}"
    )


def _of_draws(runs: int, found: MeanOverSet) -> str:
    return "; what their draws leave is not in it" if found.left_out_of(runs) else ""


def _by_reason(found: MeanOverSet) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for name, reason in found.left_out.items():
        told.setdefault(reason, []).append(name)
    return told


def _interval(found: MeanOverSet) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"; {100 * found.confidence:.0f} % interval {found.low:.4f} to {found.high:.4f}"


def _error(se: float | None) -> str:
    return "" if se is None else f" ± {se:.4f}"
