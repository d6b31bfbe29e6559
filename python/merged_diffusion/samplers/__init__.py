"""Samplers, as values that check themselves: each has the options that are its own.

Words are what the command line and kept samples call them. No torch is needed to refuse what cannot be meant.
"""

from merged_diffusion.samplers.chosen import (
    DECODE,
    DECODES,
    GRIDS,
    LOOSEST_TOL,
    NAMES,
    OF_ORDERS,
    SAMPLERS,
    USUAL_SOLVER,
    WORDS,
    Decode,
    Name,
    Ode,
    Sampler,
    Sampling,
    as_sampler,
    sampler_of,
)
from merged_diffusion.samplers.on_grids import (
    CHURN,
    ORDERS,
    Ancestral,
    Deis,
    Dpmpp2m,
    Dpmpp3m,
    DpmV3,
    Heun,
    Ipndm,
    OnGrid,
    UniPC,
)
from merged_diffusion.samplers.sigmas import WORDS as SIGMAS

__all__ = [
    "CHURN",
    "DECODE",
    "DECODES",
    "GRIDS",
    "LOOSEST_TOL",
    "NAMES",
    "OF_ORDERS",
    "ORDERS",
    "SAMPLERS",
    "SIGMAS",
    "USUAL_SOLVER",
    "WORDS",
    "Ancestral",
    "Decode",
    "Deis",
    "DpmV3",
    "Dpmpp2m",
    "Dpmpp3m",
    "Heun",
    "Ipndm",
    "Name",
    "Ode",
    "OnGrid",
    "Sampler",
    "Sampling",
    "UniPC",
    "as_sampler",
    "sampler_of",
]  # fmt: skip
