"""Two experts that belong together: ``load_pair("photos")``.

A pair's card states its data, the eta range of its threshold, and the recommended eta, chosen on the
held-back part of train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from merged_diffusion.errors import CheckpointError, UsageError
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.catalogue import known
from merged_diffusion.merge import MergedModel, Threshold


@dataclass(frozen=True)
class PairCard:
    """A ``[pair.X]`` table: sources of both experts, eta's range in gamma, the recommended eta."""

    name: str
    data: str
    likelihood: str
    quality: str
    eta_range: tuple[float, float]
    eta: float


def pair_card(name: str) -> PairCard:
    """The card of the pair ``name``."""
    table = known()["pair"]
    if name not in table:
        raise UsageError(f"no pair is called {name!r}", hint=f"known: {', '.join(table)}")
    card = table[name]
    low, high = card["eta_range"]
    return PairCard(
        name, card["data"], card["likelihood"], card["quality"], (float(low), float(high)), float(card["eta"])
    )


def load_pair(
    name: str,
    eta: float | None = None,
    *,
    gamma: float | None = None,
    edm_sigma: float | None = None,
    logsnr: float | None = None,
    range: Literal["native", "merged"] = "native",  # noqa: A002  (the option's name everywhere)
    extrapolate: bool = False,
) -> MergedModel:
    """Both experts of a pair, merged at a threshold stated in one of four ways.

    Without one, at the recommended eta.
    """
    card = pair_card(name)
    given = {"eta": eta, "gamma": gamma, "edm_sigma": edm_sigma, "logsnr": logsnr}
    stated = {kind: value for kind, value in given.items() if value is not None}
    if len(stated) > 1:
        raise UsageError(f"{' and '.join(stated)} were both given", hint="state the threshold once")
    kind, value = next(iter(stated.items()), ("eta", card.eta))
    threshold = getattr(Threshold, kind)(value)
    if not card.likelihood.startswith("bundled:"):
        raise CheckpointError(
            f"the experts of {name} ({card.likelihood}, {card.quality}) cannot be read by this version",
            hint="try the pair photos",
            pair=name,
        )
    return MergedModel(
        load_expert(card.likelihood),
        load_expert(card.quality),
        threshold,
        eta_range=card.eta_range,
        range=range,
        extrapolate=extrapolate,
    )
