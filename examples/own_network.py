"""Your own network as an expert: change the lines of `expert`, then

    merged-diffusion nll --data photos --limit 8 --expert examples/own_network.py:expert

or, as one of two, --likelihood-expert or --quality-expert. The network here predicts v at the timesteps 0 to
999 of a cosine schedule; it is a posterior mean in closed form, so that the script needs no weights. Its kind
is declared in full: nothing that a wrong guess would make a wrong number has a default.
"""

import torch
from torch import Tensor, nn

import merged_diffusion as md

ANGLES = torch.linspace(0.001, 1.56, 1000, dtype=torch.float64)
GAMMAS = 2 * ANGLES.tan().log()  # alpha = cos, sigma = sin


class Network(nn.Module):
    """v of x ~ N(0, s^2): alpha sigma (1 - s^2) z / (alpha^2 s^2 + sigma^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.variance = nn.Parameter(torch.tensor(0.3))

    def forward(self, z: Tensor, timestep: Tensor) -> Tensor:
        """Of z [B, C, H, W] at timesteps [B], which are not always whole numbers."""
        angle = (0.001 + (1.559 / 999) * timestep).view(-1, 1, 1, 1)
        alpha, sigma = angle.cos(), angle.sin()
        return alpha * sigma * (1 - self.variance) * z / (alpha**2 * self.variance + sigma**2)


def expert() -> md.CallableExpert:
    """Ten lines to change."""
    net = Network()  # net.load_state_dict(torch.load("weights.pt", weights_only=True))
    return md.CallableExpert(
        net.eval(),
        predicts="v",  # eps, x0, v, score, eps-minus-x0, x0-minus-eps
        time="timestep",  # gamma, edm_sigma, log_edm_sigma_over_4, t01, timestep, or a function of gamma
        schedule=GAMMAS,  # for t01 and timestep: the gammas of its times, or a function; gamma = -log SNR
        input="vp",  # vp: z; edm: z / alpha; flow: z / (alpha + sigma)
        pixels="ends",  # ends: v / 127.5 - 1; centred: (v + 1/2) / 128 - 1
        levels=256,
        gamma_range=(float(GAMMAS[0]), float(GAMMAS[-1])),  # on which it was trained
        image_shape=(3, 8, 8),  # (3, None, None): any size
    )


if __name__ == "__main__":
    print(md.log_likelihood(expert(), md.load_data("photos").select(limit=8)))
