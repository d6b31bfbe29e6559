"""A default stands in one place: where it is changed, every way of asking for it has changed, too."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import merged_diffusion
from merged_diffusion.ode.methods import Adams, Dopri5
from merged_diffusion.samplers import USUAL_SOLVER, Ancestral, Dpmpp2m, Heun
from merged_diffusion.scores import defaults

# In which file which line says what, and what it says in a copy of the package.
CHANGED = {
    "ode/methods.py": [
        ("tol: float = 3e-3", "tol: float = 4e-3"),
        ("h_max: float = 0.7", "h_max: float = 0.6"),
        ("rtol: float = 1e-5", "rtol: float = 2e-5"),
        ("atol: float = 1e-5", "atol: float = 3e-5"),
        ("n: int = 1", "n: int = 2"),
    ],
    "samplers/chosen.py": [
        ("USUAL_SOLVER: Final = Adams(tol=1e-3)", "USUAL_SOLVER: Final = Adams(tol=2e-3)"),
        ('DECODE: Final = "argmax"', 'DECODE: Final = "sample"'),
    ],
    "samplers/on_grids.py": [
        ("steps: int = 256", "steps: int = 250"),
        ("steps: int = 18", "steps: int = 17"),
        ("steps: int = 20", "steps: int = 21"),
        ("steps: int = 15", "steps: int = 16"),
        ("steps: int = 10", "steps: int = 11"),
        ("s_noise: float = 1.0", "s_noise: float = 1.003"),
    ],
    "likelihood/likelihood_options.py": [
        ('DEQUANTISE: Final = "truncated-normal"', 'DEQUANTISE: Final = "uniform"'),
    ],
    "scores/defaults.py": [
        ("SEED: Final = 0", "SEED: Final = 5"),
        ("IMPORTANCE: Final = 1", "IMPORTANCE: Final = 3"),
        ("REPEATS: Final = 1", "REPEATS: Final = 4"),
        ("TIMES: Final = 16", "TIMES: Final = 15"),
        ("DRAWN: Final = 16", "DRAWN: Final = 14"),
        ("SWEPT: Final = 1000", "SWEPT: Final = 900"),
        ("TUNED: Final = 256", "TUNED: Final = 200"),
    ],
}
# Of what a command's help says, by option.
HELP = {
    "nll": {
        "tol": "0.004", "h-max": "0.6", "rtol": "2e-5", "atol": "3e-5", "probes": "2", "seed": "5",
        "importance": "3", "repeats": "4", "dequantise": "uniform",
    },
    "vlb": {"times": "15", "repeats": "4", "seed": "5"},
    "sample": {
        "tol": "0.002", "h-max": "0.6", "rtol": "2e-5", "atol": "3e-5", "num": "14", "seed": "5",
        "decode": "sample", "s-noise": "1.003",
        "steps": "heun 17, dpmpp-2m 21, dpmpp-3m 16, unipc 16, deis 16, ipndm 16, dpm-v3 11, ancestral 250",
    },
    "sweep": {"tol": "0.004; sample: 0.002", "num": "900", "times": "15", "seed": "5"},
    "threshold": {"tune-limit": "200", "seed": "5"},
}  # fmt: skip
SCRIPT = """
import inspect, json, sys
import click
import merged_diffusion as md
from merged_diffusion import cli
from merged_diffusion.bound import loss_profile
from merged_diffusion.jobs.metrics import VariationalBound
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.samplers import Sampling
from merged_diffusion.sweeps.request import Request

def signature(call):
    return {name: str(one.default) for name, one in inspect.signature(call).parameters.items()}

def help_of(name):
    command = cli.group.get_command(None, name)
    return command.get_help(click.Context(command))

scores = (md.log_likelihood, md.log_density, md.variational_bound, loss_profile)
calls = (*scores, md.draw, md.sample)
print(json.dumps({
    "calls": {call.__name__: signature(call) for call in calls},
    "help": {name: help_of(name) for name in sys.argv[1:]},
    "settings": md.Settings(data="x").as_dict(),
    "words": md.Settings.of({"data": "x"}).as_dict(),
    "options": str(Options()),
    "sampling": Sampling.of({}).as_dict(),
    "heun": Sampling.of({"sampler": "heun"}).as_dict(),
    "bound": VariationalBound().times,
    "request": [Request().num, Request().times, Request().how.as_dict()],
}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a copy of the package with other defaults says of them."""
    home = Path(merged_diffusion.__file__).parent
    copy = tmp_path_factory.mktemp("changed") / "merged_diffusion"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz"))
    for file, changes in CHANGED.items():
        text = (copy / file).read_text(encoding="utf-8")
        for before, after in changes:
            text, found = re.subn(rf"\b{re.escape(before)}(?=\s)", after, text)
            assert found, (file, before)
        (copy / file).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *HELP], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


SOLVER, SAMPLER = "Adams(tol=0.004, h_max=0.6)", "Ode(solver=Adams(tol=0.002, h_max=0.6))"


def test_calls_of_python_have_it(told):
    calls = told["calls"]
    assert {call: said["seed"] for call, said in calls.items()} == dict.fromkeys(calls, "5")
    for call in ("log_likelihood", "log_density"):
        assert calls[call]["solver"] == SOLVER
        assert calls[call]["probes"] == "Probes(n=2, kind=None, scheme=None, companion=False)"
    for call in ("draw", "sample"):
        assert calls[call]["sampler"] == SAMPLER
        assert calls[call]["decode"] == "sample"
    likelihood = calls["log_likelihood"]
    assert [likelihood[name] for name in ("dequantise", "importance", "repeats")] == ["uniform", "3", "4"]
    assert calls["sample"]["num"] == "14"
    assert calls["variational_bound"]["times"] == "15"
    assert calls["variational_bound"]["repeats"] == "4"
    assert SOLVER in told["options"]


def test_settings_of_runs_have_it(told):
    wanted = {"tol": 4e-3, "h_max": 0.6, "probes": 2, "dequantise": "uniform", "importance": 3, "repeats": 4}
    wanted |= {"seed": 5, "method": "adams", "rtol": None}
    for said in (told["settings"], told["words"]):
        assert {name: said[name] for name in wanted} == wanted
    assert (told["sampling"]["tol"], told["sampling"]["seed"], told["sampling"]["decode"]) == (
        2e-3,
        5,
        "sample",
    )
    assert (told["heun"]["steps"], told["heun"]["s_noise"]) == (17, 1.003)
    assert told["bound"] == 15
    num, times, how = told["request"]
    assert (num, times, how) == (900, 15, told["sampling"])


@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in HELP.items() for o in options])
def test_help_says_it(told, command, option):
    text = told["help"][command]
    line = re.search(rf"^  (?:-\w, )?--{option} .*?\[default:\s+(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert line is not None
    said = re.sub(r"\s+", " ", line[1])
    assert said == HELP[command][option]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"error of a step in units of the noise \(([\d.]+)\)", Adams.tol),
        (r"`--h-max` the longest step in gamma \(([\d.]+)\)", Adams.h_max),
        (r"`--rtol` and `--atol` \(([\de.-]+)\)", Dopri5.rtol),
        (r"`--num` images \(([\d,]+)\)", defaults.SWEPT),
        (r"`--tune-limit` images \((\d+)\)", defaults.TUNED),
        (r"`--steps (\d+)`, `--clip`", Ancestral.steps),
        (r"`--steps (\d+)`, `--s-churn`", Heun.steps),
        (r"second order \(`--steps (\d+)`\)", Dpmpp2m.steps),
        (r"but `--tol` ([\d.]+)\)", USUAL_SOLVER.tol),
        (r"`--times` T forward passes an image \((\d+)\)", defaults.TIMES),
    ],
)
def test_docs_say_it(pytestconfig, text, number):
    pages = sorted((pytestconfig.rootpath / "docs" / "commands").glob("*.md"))
    docs = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    (said,) = re.findall(text, docs)
    assert float(said.replace(",", "")) == number
