"""Images drawn from a merged model or from one expert, each reproducible by its id.

The probability flow toward data (the paper's algorithm 1), ancestral sampling (algorithm 2), and the two
samplers that such models are usually run with. The start noise of an image is that of (seed, id), whatever
the threshold, the sampler or the images beside it.
"""

from merged_diffusion.sampling.draw_by_id import draw, sample
from merged_diffusion.sampling.samples import Samples

__all__ = ["Samples", "draw", "sample"]
