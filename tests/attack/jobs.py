"""The commands that are attacked: the smallest work of each that writes all that it ever writes."""

from pathlib import Path

import numpy as np

# Data that is N(0, s^2) per pixel has eps_hat = sigma z / (alpha^2 s^2 + sigma^2).
EXPERTS = """
import torch

class Normal(torch.nn.Module):
    pixels, levels, image_shape, conditional = "centred", 17, (1, 8, 8), False

    def __init__(self, name, low=-7.876, high=8.764, std=0.7):
        super().__init__()
        self.name, self.gamma_range = name, (low, high)
        self.register_buffer("std", torch.tensor(std))
        self.eval()

    def forward(self, z, gamma, cond=None):
        g = gamma.to(z.dtype).view(-1, 1, 1, 1)
        variance = torch.sigmoid(-g) * self.std**2 + torch.sigmoid(g)
        return torch.sigmoid(g).sqrt() * z / variance

def likelihood(): return Normal("likelihood", high=5.0)
def quality(): return Normal("quality", low=-7.006, std=0.72)
"""

CARD = """format = 1
name = "tiny"
kind = "vdm"
predicts = "eps"
time = "gamma"
input = "vp"
pixels = "centred"
levels = 17
image_shape = [1, 8, 8]
gamma_range = [-1.0, 1.0]

[network]
type = "unet"
channels = [8, 16]
dropout = 0.1
periods = [1, 2]

[training]
data = "{images}"
seed = 0
steps = 2
batch = 2
learning_rate = 0.002
ema = 0.999
warmup = 1
"""

PAIR = "--likelihood-expert {experts}:likelihood --quality-expert {experts}:quality"
HOW = "--threads 1 --device cpu --quiet"
SOLVE = "--data digits --limit 2 --tol 0.5 --h-max 4"
DRAW = "--sampler dpmpp-2m --steps 2 --batch-size 2"
BOUND = "--data digits --limit 2 --times 2"
COMMANDS = {
    "nll": f"nll {SOLVE} --eta 0.3 {PAIR} {HOW} --out out",
    "nll-compare": f"nll --compare {SOLVE} --eta 0.3 {PAIR} {HOW} --out out",
    "vlb": f"vlb {BOUND} --eta 0.3 {PAIR} {HOW} --out out",
    "sweep-nll": f"sweep {SOLVE} --etas 0,0.3 {PAIR} {HOW} --out out",
    "sweep-vlb": f"sweep --metric vlb {BOUND} --etas 0,0.3 {PAIR} {HOW} --out out",
    "sweep-sample": f"sweep --metric sample --data digits --num 3 --etas 0,0.3 {DRAW} {PAIR} {HOW} --out out",
    "sample-npz": f"sample --pair digits --num 3 {DRAW} {PAIR} {HOW} --out out.npz",
    "sample-zip": f"sample --pair digits --num 3 {DRAW} {PAIR} {HOW} --out out.zip",
    "sample-folder": f"sample --pair digits --num 3 {DRAW} {PAIR} {HOW} --out out",
    "sample-png": f"sample --pair digits --num 3 {DRAW} {PAIR} {HOW} --out out.png",
    "threshold": f"threshold {SOLVE} --pair digits --tune-limit 3 {PAIR} {HOW} --out out",
    "train": "train {card} --threads 1 --quiet --out out",
}


class Jobs:
    """The commands with the files that they read, which lie in ``folder``."""

    def __init__(self, folder):
        self._files = {name: Path(folder) / name for name in ("experts.py", "images.npz", "card.toml")}
        images = np.random.RandomState(0).randint(0, 17, (10, 1, 8, 8)).astype(np.uint8)
        if not self._files["card.toml"].exists():
            self._files["experts.py"].write_text(EXPERTS)
            np.savez(self._files["images.npz"], images=images, levels=np.array(17))
            self._files["card.toml"].write_text(CARD.format(images=self._files["images.npz"]))

    def arguments(self, name):
        """Of the command line, to be run in the folder of an attempt."""
        files = {"experts": self._files["experts.py"], "card": self._files["card.toml"]}
        return COMMANDS[name].format(**files).split()
