from merged_diffusion.likelihood.exact import can_share as can_share, log_density as log_density, log_likelihood as log_likelihood, log_likelihoods as log_likelihoods
from merged_diffusion.likelihood.likelihoods import Likelihood as Likelihood, paired_difference as paired_difference
