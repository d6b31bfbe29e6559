from merged_diffusion.bound.bounds import Bound as Bound
from merged_diffusion.bound.profile import Profile as Profile, loss_profile as loss_profile
from merged_diffusion.bound.variational import variational_bound as variational_bound
