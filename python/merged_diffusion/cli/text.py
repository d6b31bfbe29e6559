"""How a summary looks to people: a heading, one row per model, remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Final

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.jobs.precision_cost import cost_in
from merged_diffusion.roles import BOTH, roles_in
from merged_diffusion.scores.means import MeanOfLikelihoods, Means, MeansOfDensities

if TYPE_CHECKING:
    # What a kept run shows needs no torch, and what shows nothing needs none of these.
    from merged_diffusion.jobs.identity import Experts, Identity, LegSpan, Threshold
    from merged_diffusion.jobs.published_table import Published
    from merged_diffusion.jobs.summary import Summary
    from merged_diffusion.scores.differences import Difference
    from merged_diffusion.scores.means import MeanAndErrors
    from merged_diffusion.sweeps.sweep_row import Paired

SHOWN_FAILURES: Final = 5
BETTER: Final = 2  # standard errors of a paired difference: less is chance
NOTED: Final = 0.5  # of the standard error of a mean: its own errors are told from there on
MINUS: Final = "\N{MINUS SIGN}"


def lines(summary: Summary) -> list[str]:
    """Heading, one row per model, remarks."""
    identity, means = summary.identity, summary.means
    own = f"{identity.model:<11} {value(means)}{evaluations(means.evaluations)}{_paper(summary.paper)}"
    rows = [heading(identity, means.n), own]
    rows += [
        f"{other.name:<11} {value(other.means, with_error=False)}"
        f"{_difference(other.paired, identity.model, other.name)}{_paper(other.paper)}"
        for other in summary.compare
    ]
    return [*rows, *_remarks(summary)]


def heading(identity: Identity, n: int) -> str:
    """Data, number of images, threshold."""
    words = threshold_words(identity.threshold, identity.legs, identity.experts)
    return f"{set_name(identity.data.name, identity.data.split)}  {n} images  {words}"


def leg_line(leg: LegSpan, experts: Experts) -> str:
    """An expert, or several under a gate, and the gammas they are in charge of."""
    over = f"gamma {leg.start:.6g} to {leg.end:.6g}"
    if leg.role == BOTH:
        return f"both experts, {over}"
    roles = roles_in(leg.role)
    if len(roles) > 1:
        return f"experts {', '.join(experts[role].source for role in roles)}, {over}"
    word = leg.role if leg.role.startswith("expert-") else f"{leg.role} expert"
    return f"{word} {experts[leg.role].source}, {over}"


def threshold_words(threshold: Threshold, legs: Sequence[LegSpan], experts: Experts) -> str:
    """The threshold as eta, gamma and EDM's sigma, or the one expert that is asked."""
    echo = threshold or {}
    eta = echo.get("eta")
    if len(legs) == 1 and len(roles_in(legs[0].role)) == 1:
        # A threshold at an end of the other expert's range: eta 0 and 1 are an expert on a range of its own.
        at = "" if echo.get("gamma") is None else f" at gamma {echo['gamma']:.6g}"
        return f"{'' if eta is None else f'eta {eta:g}{at}: '}{leg_line(legs[0], experts)}"
    if eta is None:
        shared = [leg for leg in legs if len(roles_in(leg.role)) > 1]
        if not shared:
            return (
                f"{len(legs)} experts, switching at gamma {', '.join(f'{leg.start:.3f}' for leg in legs[1:])}"
            )
        who = "both experts" if shared[0].role == BOTH else "several experts"
        return f"a gate ({who} from gamma {shared[0].start:.3f} to {shared[-1].end:.3f})"
    digits = 2 if abs(eta - round(eta, 2)) < 5e-7 else 6
    return f"eta {eta:.{digits}f} (gamma {echo['gamma']:.3f}, edm_sigma {echo['edm_sigma']:.4f})"


def value(means: Means, *, with_error: bool = True) -> str:
    """The mean with its standard error and unit."""
    unit, found = "bits/dim", means.bits_per_dim
    if isinstance(means, MeansOfDensities):
        unit, found = "nats (log density)", means.log_density_nats
    if found is None or found.mean is None:
        return "no mean"
    return f"{found.mean:.3f}" + (f"{error(found.se)} {unit}" if with_error else "")


def evaluations(count: Mapping[str, float] | None) -> str:
    """Network evaluations per image."""
    return "" if count is None else f"   {count['total']:.0f} evaluations/image"


def own_error(means: Means) -> tuple[float | None, float | None]:
    """What probes and solver leave in the mean, where it is known, and its standard error."""
    found = _mean(means)
    if not isinstance(found, MeanOfLikelihoods):
        return None, None
    return found.total_error, found.se


def _mean(means: Means) -> MeanAndErrors | None:
    return means.log_density_nats if isinstance(means, MeansOfDensities) else means.bits_per_dim


def error(se: float | None) -> str:
    """A standard error; nothing where one image gives none."""
    return "" if se is None else f" ± {se:.3f}"


def fine_difference(paired: Paired | Difference) -> str:
    """To four digits, and its error likewise: thresholds differ by less than images do."""
    se = "" if paired.se is None else f" ± {paired.se:.4f}"
    return f"{paired.difference:+.4f}{se}"


def is_better(paired: Paired | Difference) -> bool:
    """Whether what it is of needs fewer bits than what it is against, and by more than chance."""
    return paired.se is not None and paired.difference < -BETTER * paired.se


def _paper(found: Published | None) -> str:
    """The paper's figures for the same, where it has them."""
    return "" if found is None else f"   paper: {found.bits_per_dim:.2f}, {found.evaluations}"


def _difference(paired: Difference | None, model: str, other: str) -> str:
    if paired is None:
        return ""
    return f"   {model} {MINUS} {other}: {paired.difference:+.3f}{error(paired.se)} (paired)"


def _remarks(summary: Summary) -> Iterator[str]:
    identity, means, published = summary.identity, summary.means, summary.paper
    if published is not None:
        yield f"paper: its table {published.table}, bits/dim and evaluations; otherwise here:"
        yield from (f"  {difference}" for difference in published.differences or ())
    if identity.data.modified:
        yield "modified: not the set that is published under this name; the paper's figures are left out"
    if means.n_failed:
        over = f"; the mean is over the {means.n - means.n_failed} others"
        allowed = over if identity.settings["allow_failed"] else ""
        yield f"{means.n_failed} of {means.n} images failed{allowed}"
    mean, n_solved = _mean(means), means.n - means.n_failed
    if mean is not None and mean.se is None and n_solved > 1:
        yield f"the {n_solved} images are of one cluster, as parts of one photograph: their mean has no error"
    for row in summary.compare:
        if row.means.n_failed:
            failed = f"{row.means.n_failed} of {row.means.n} images failed"
            yield f"{failed} under the {row.name} expert alone"
    for failure in summary.failures[:SHOWN_FAILURES]:
        hint = f"; {failure.hint}" if failure.hint else ""
        where = f"{failure.status} at gamma {failure.gamma} ({failure.leg}){hint}"
        under = f" under the {failure.model} expert alone" if failure.model != identity.model else ""
        yield f"  image {failure.id}{under}: {where}"
    if summary.n_missing:
        yield f"{summary.n_missing} images of the run have no record yet"
    if identity.is_guided:
        yield "guided: this is the likelihood of the guided flow, whose field denoises no data"
    if identity.extrapolated:
        yield "extrapolated: an expert was asked outside its trained range"
    if summary.above_uniform:
        yield (
            f"warning: above the {log2(identity.data.levels):.4g} bits/dim of guessing every grey level "
            "alike: is every expert what it is declared to be?"
        )
    unit = "nats" if isinstance(means, MeansOfDensities) else "bits/dim"
    for words in summary.rough_words(unit):
        yield f"warning: {words}"
    total, se = own_error(means)
    if total is not None and se is not None and total > NOTED * se:
        beside = "the choice of images"
        if means.bits_per_dim is not None and identity.settings["repeats"] == 1:
            beside += " and the noise of the dequantisation, which --repeats tells"
        yield f"its probes and its solver leave {total:.2g} {unit} in the mean, beside {beside}"
    if summary.path_evidence is not None:
        yield f"path: {summary.path_evidence.words(unit)}"
    precision = identity.settings.get("precision")
    if precision is not None:
        cost = cost_in(identity.settings)
        told = "its cost was not measured" if cost is None else cost.words(str(precision), unit)
        yield f"precision: {told}"
    if summary.rebatched:
        yield "rebatched: some images were measured with another batch size, threads, device or dtype"
    if identity.settings["dequantise"] == "uniform":
        yield "uniform: points without noise under the density of the model at gamma_min; not exact"
