"""Exact likelihood of images under merged pretrained diffusion experts.

    model = load_pair("photos", eta=0.3)
    log_likelihood(model, load_data("photos").select(limit=8))

Everything the command line does is one call here. Names are loaded when they are first used, so that this
import loads neither torch nor the core.
"""

from merged_diffusion.lazy import attach

__getattr__, __dir__ = attach(__name__, __file__)
