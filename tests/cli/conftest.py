"""A small world for the command line: experts in a file, the commands in this process or in another."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from merged_diffusion.cli import main

# Data that is N(0, s^2) per pixel has eps_hat = sigma z / (alpha^2 s^2 + sigma^2).
EXPERTS = """
import time
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

class Slow(Normal):
    def forward(self, z, gamma, cond=None):
        time.sleep(0.02)
        return super().forward(z, gamma, cond)

class Holed(Normal):
    def forward(self, z, gamma, cond=None):
        eps_hat = super().forward(z, gamma, cond)
        hole = (gamma > 2) & (gamma < 4) & (z[:, 0, 4, 4] > 0)
        return torch.where(hole.view(-1, 1, 1, 1), torch.nan, eps_hat)

class Misshapen(Normal):
    def forward(self, z, gamma, cond=None):
        return super().forward(z, gamma, cond)[:, :, :4]

class Raising(Normal):
    def forward(self, z, gamma, cond=None):
        raise RuntimeError("no weights today")

def one(): return Normal("one")
def two(): return Normal("two", std=0.6)
def likelihood(): return Normal("likelihood", high=5.0)
def far(): return Normal("far", high=12.0)
def near(): return Normal("near", low=-9.0, std=0.72)
def quality(): return Normal("quality", low=-7.006, std=0.72)
def slow(): return Slow("slow")
def holed(): return Holed("holed")
def misshapen(): return Misshapen("misshapen")
def raising(): return Raising("raising")
def reversed_range(): return Normal("reversed", low=5.0, high=-7.0)
def other_levels():
    expert = Normal("other")
    expert.levels = 256
    return expert
"""


TOUCHY = """
class Touchy(Normal):
    def forward(self, z, gamma, cond=None):
        if bool(((gamma > -6.5) & (gamma < -5.5)).any()) and len(z) > 2:
            raise RuntimeError("not at this noise")
        return super().forward(z, gamma, cond)

def touchy(): return Touchy("touchy", low=-7.006, std=0.72)
def slow_likelihood(): return Slow("slow likelihood", high=5.0)
def holed_likelihood(): return Holed("holed likelihood", high=5.0)
"""


@pytest.fixture(scope="session")
def experts(tmp_path_factory):
    """``experts("one")`` is the source of an expert in a file."""
    path = tmp_path_factory.mktemp("experts") / "experts.py"
    path.write_text(EXPERTS)
    return lambda name: f"{path}:{name}"


@pytest.fixture
def run_cli(capsys, tmp_path, monkeypatch):
    """Run a command in an empty directory: ``.code``, ``.out``, ``.err``, ``.json``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")

    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(
            code=code, out=out, err=err, json=json.loads(out) if "--json" in arguments else None
        )

    return run


@pytest.fixture
def nll(experts):
    """Arguments of ``nll`` on digits under one expert of the file."""

    def arguments(name="one", *more):
        return (
            "nll",
            "--data",
            "digits",
            "--expert",
            experts(name),
            "--threads",
            1,
            "--device",
            "cpu",
            *more,
        )

    return arguments


@pytest.fixture
def pair(experts):
    """Arguments of ``nll`` on digits under a merged pair of the file."""

    def arguments(*more):
        likelihood, quality = experts("likelihood"), experts("quality")
        return (
            *("nll", "--data", "digits", "--likelihood-expert", likelihood, "--quality-expert", quality),
            *("--threads", 1, "--device", "cpu", *more),
        )

    return arguments


@pytest.fixture(scope="session")
def more_experts(experts, tmp_path_factory):
    """As ``experts``, with some that fail or dawdle at some thresholds only."""
    source = Path(experts("").rstrip(":")).read_text()
    path = tmp_path_factory.mktemp("more") / "more.py"
    path.write_text(source + TOUCHY)
    return lambda name: f"{path}:{name}"


@pytest.fixture
def sweep(more_experts):
    """Arguments of ``sweep`` on digits under a pair of the file."""

    def arguments(*more, likelihood="likelihood", quality="quality"):
        both = ("--likelihood-expert", more_experts(likelihood), "--quality-expert", more_experts(quality))
        return ("sweep", "--data", "digits", *both, "--threads", 1, "--device", "cpu", *more)

    return arguments
