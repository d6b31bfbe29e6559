"""Whether a mean is worse than guessing every grey level alike, which no sound expert is."""

from __future__ import annotations

from math import log2

from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertWarning
from merged_diffusion.likelihood.likelihoods import Likelihood


def warn_above_uniform(found: Likelihood, levels: int) -> None:
    """Warn of a mean that guessing every grey level alike would beat."""
    scored = [] if found.is_density else found.scored
    if not scored:
        return
    mean = sum(record.bits_per_dim or 0.0 for record in scored) / len(scored)
    if mean > log2(levels):
        text = (
            f"{mean:.4g} bits/dim are more than the {log2(levels):.4g} of guessing every grey level alike: "
            "is every expert what it is declared to be?"
        )
        warn_caller(ExpertWarning(text, "above uniform"))
