"""Which threshold, without a search: two loss profiles and one pass of the solver in the place of a sweep.

`curves` gives the bound at every eta from a loss profile of each expert, and the crossing where it is least;
`one_pass` the exact likelihood at every eta from one solve; `find` puts both together, `confirm` scores what
was found by ordinary runs.
"""

from merged_diffusion.thresholds.auto import auto_threshold
from merged_diffusion.thresholds.confirm import Confirmed, confirm_threshold
from merged_diffusion.thresholds.find import Found, find_threshold

__all__ = ["Confirmed", "Found", "auto_threshold", "confirm_threshold", "find_threshold"]
