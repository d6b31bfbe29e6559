"""The log density of points by the package, with what `log_density` keeps to itself: records and costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.dequantisation import Points
from merged_diffusion.likelihood.scoring import Scoring
from merged_diffusion.likelihood.solver_settings import Settings
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.items import Items
from suite.setting import Floats


def prepared(model: MergedModel, points: Floats, *, seed: int = 0, **options: Any) -> Scoring:
    """What scores points x [N, C, H, W]: probes are named by seed and position."""
    items = Items(np.arange(len(points), dtype=np.uint64), 1, seed)
    settings = Settings(seed=seed, dequantise="none", **options)
    starts = Points(points, gamma_min=model.gamma_range[0], items=items)
    return Scoring([model], settings, items, starts, points.shape[1:])


def run(scoring: Scoring) -> Likelihood:
    """Its log densities in nats; `SolveError` if one failed."""
    (records,) = scoring.run()
    return Likelihood(records, scoring.dim, dequantise="none").check()
