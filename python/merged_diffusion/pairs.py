"""Two experts that belong together: ``load_pair("photos")``.

A pair's card states its data, the eta range of its threshold, and the recommended eta, chosen on the
held-back part of train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from merged_diffusion.catalogue.absent import expert_paths
from merged_diffusion.catalogue.entries import pair_card
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.merge import Convention, MergedModel, Threshold


def load_pair(
    name: str,
    eta: float | None = None,
    *,
    gamma: float | None = None,
    edm_sigma: float | None = None,
    logsnr: float | None = None,
    range: Literal["native", "merged"] = "native",  # noqa: A002  (the option's name everywhere)
    extrapolate: bool = False,
    convention: Convention = "exact",
    cache: str | Path | None = None,
) -> MergedModel:
    """Both experts of a pair, merged at a threshold stated in one of four ways.

    Without one, at the recommended eta. Public experts are taken from ``cache``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.load_pair("photos", eta=0.3)
    MergedModel(likelihood photos-vdm [-13.3000, -6.6808], quality photos-edm [-6.6808, 8.7640])
    """
    card = pair_card(name)
    given = {"eta": eta, "gamma": gamma, "edm_sigma": edm_sigma, "logsnr": logsnr}
    stated = {kind: value for kind, value in given.items() if value is not None}
    if len(stated) > 1:
        raise UsageError(f"{' and '.join(stated)} were both given", hint="state the threshold once")
    kind, value = next(iter(stated.items()), ("eta", card.eta))
    threshold = getattr(Threshold, kind)(value)
    likelihood, quality = map(load_expert, expert_paths(card.sources(cache).values(), cache))
    return MergedModel(
        likelihood,
        quality,
        threshold,
        eta_range=card.eta_range,
        range=range,
        extrapolate=extrapolate,
        convention=convention,
    )
