"""The log density of points by the package, with what `log_density` keeps to itself: records and costs."""

from __future__ import annotations

from typing import Any

from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.exact import score_points
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Probes, solver_of
from suite.setting import Floats


def scored(model: MergedModel, points: Floats, *, seed: int = 0, **words: Any) -> Likelihood:
    """Log densities in nats of points x [N, C, H, W]; `SolveError` if one failed.

    ``words`` are those of the command line, and ``path`` what is known of adams' correction; probes are named
    by seed and position.
    """
    machine = {name: words[name] for name in ("device", "dtype", "batch_size") if name in words}
    options = Options(
        seed=seed,
        dequantise="none",
        solver=solver_of(words),
        probes=Probes(words.get("probes", 1), words.get("probe"), companion=words.get("companion", False)),
        machine=Machine(**machine),
        path=words.get("path"),
    )
    return score_points(model, points, options).check()
