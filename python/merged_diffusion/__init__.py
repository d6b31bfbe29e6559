"""Exact likelihood of images under merged pretrained diffusion experts.

    model = load_pair("photos", eta=0.3)
    log_likelihood(model, load_data("photos").select(limit=8))

Everything the command line does is one call here. Names are loaded when they are first used, so that this
import loads neither torch nor the core.
"""

from __future__ import annotations

from merged_diffusion.lazy import loader

# Not from typing: until the command line is told of a Ctrl-C, there should be little to interrupt.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from merged_diffusion._core import __version__
    from merged_diffusion.bound import Bound, loss_profile, variational_bound
    from merged_diffusion.data import load_data
    from merged_diffusion.data.images import Data
    from merged_diffusion.errors import MergedDiffusionError
    from merged_diffusion.experts.base import Expert
    from merged_diffusion.experts.callables import CallableExpert
    from merged_diffusion.experts.cards import load_expert
    from merged_diffusion.experts.converting import convert_expert
    from merged_diffusion.experts.diffusers import DiffusersExpert
    from merged_diffusion.experts.gaussian import GaussianExpert, GaussianMixtureExpert
    from merged_diffusion.experts.inspection import inspect_expert
    from merged_diffusion.jobs.evaluate import evaluate
    from merged_diffusion.jobs.settings import Settings
    from merged_diffusion.likelihood import Likelihood, log_density, log_likelihood, paired_difference
    from merged_diffusion.merge import MergedModel, Threshold
    from merged_diffusion.pairs import load_pair
    from merged_diffusion.quality.assess import assess
    from merged_diffusion.quality.frechet import frechet_distance
    from merged_diffusion.runs import open_run
    from merged_diffusion.sampling import Samples, draw, sample
    from merged_diffusion.sweeps.carry_out import sweep
    from merged_diffusion.thresholds import find_threshold
    from merged_diffusion.training import train

__all__ = [
    "Bound",
    "CallableExpert",
    "Data",
    "DiffusersExpert",
    "Expert",
    "GaussianExpert",
    "GaussianMixtureExpert",
    "Likelihood",
    "MergedDiffusionError",
    "MergedModel",
    "Samples",
    "Settings",
    "Threshold",
    "__version__",
    "assess",
    "convert_expert",
    "draw",
    "evaluate",
    "find_threshold",
    "frechet_distance",
    "inspect_expert",
    "load_data",
    "load_expert",
    "load_pair",
    "log_density",
    "log_likelihood",
    "loss_profile",
    "open_run",
    "paired_difference",
    "sample",
    "sweep",
    "train",
    "variational_bound",
]

_HOMES = {
    "Bound": "bound",
    "CallableExpert": "experts.callables",
    "Data": "data.images",
    "DiffusersExpert": "experts.diffusers",
    "Expert": "experts.base",
    "GaussianExpert": "experts.gaussian",
    "GaussianMixtureExpert": "experts.gaussian",
    "Likelihood": "likelihood",
    "MergedDiffusionError": "errors",
    "MergedModel": "merge",
    "Samples": "sampling",
    "Settings": "jobs.settings",
    "Threshold": "merge",
    "__version__": "_core",
    "assess": "quality.assess",
    "convert_expert": "experts.converting",
    "draw": "sampling",
    "evaluate": "jobs.evaluate",
    "find_threshold": "thresholds",
    "frechet_distance": "quality.frechet",
    "inspect_expert": "experts.inspection",
    "load_data": "data",
    "load_expert": "experts.cards",
    "load_pair": "pairs",
    "log_density": "likelihood",
    "log_likelihood": "likelihood",
    "loss_profile": "bound",
    "open_run": "runs",
    "paired_difference": "likelihood",
    "sample": "sampling",
    "sweep": "sweeps.carry_out",
    "train": "training",
    "variational_bound": "bound",
}


if not TYPE_CHECKING:  # a checker would take every name for an object
    __getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
