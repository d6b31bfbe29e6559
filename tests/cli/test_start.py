"""Help, version and usage errors: torch is not loaded, half a second suffices, every help has examples."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from merged_diffusion.cli import COMMANDS
from merged_diffusion.jobs.threads import configured

PROBE = """if 1:
    import sys
    from merged_diffusion.cli import main
    code = main(sys.argv[1:])
    assert "torch" not in sys.modules
    sys.exit(code)
"""
LOADED = """if 1:
    import sys
    from merged_diffusion.cli import main
    code = main(sys.argv[1:])
    print(*sys.modules)
    sys.exit(code)
"""
KEPT = Path(__file__).parents[1] / "reference" / "run-format-1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["nll", "--help"], 0),
        (["runs", "show", "--help"], 0),
        (["nll"], 2),
        (["nll", "--data", "digits", "--eta", "nan"], 2),
        (["nll", "--data", "digits", "--eta", "0.3", "--gamma", "1"], 2),
        (["sweep", "--help"], 0),
        (["sweep", "--data", "digits", "--etas", "0.2,0.2"], 2),
        (["nothing"], 2),
        (["fetch", "--help"], 0),
        (["fetch", "nothing"], 2),
        (["fetch", "cifar10", "--dry-run"], 0),
    ],
)
def test_torch_is_not_loaded_and_half_a_second_suffices(arguments, code):
    seconds = []
    for _ in range(3):
        begun = processor_seconds()
        done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, check=False)
        seconds.append(processor_seconds() - begun)
        assert done.returncode == code, done.stderr
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "show", "RUN"],
        ["runs", "show", "RUN", "--json"],
        ["runs", "show", "no/such/run"],
        ["runs", "compare", "RUN", "RUN"],
        ["runs", "export", "RUN", "--what", "nll"],
        ["experts", "list"],
        ["experts", "list", "--json"],
        ["data", "list"],
        ["data", "show", "digits"],
        *([command, "--help"] for command in COMMANDS),
    ],
    ids=" ".join,
)
def test_who_only_looks_loads_no_torch(arguments, tmp_path):
    words = [str(KEPT) if word == "RUN" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "AssertionError" not in done.stderr, done.stderr
    assert done.returncode in (0, 7, 9), done.stderr  # no run, an unfinished one


def test_a_start_loads_no_compiler_and_nothing_that_it_does_not_use():
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "nll", "--data", "digits", "--limit", "1", "--threads", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "torch" in loaded
    assert not loaded & {
        *("torch._inductor", "torch._dynamo", "torch.onnx", "torch.fx.experimental.symbolic_shapes"),
        *("triton", "sympy", "diffusers", "matplotlib", "jinja2", "sklearn", "scipy", "torch_fidelity"),
    }


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("host", ["default", "warn", "error"])
def test_determinism_is_what_was_asked_and_afterwards_the_hosts(monkeypatch, host, asked):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode(host)
    before = torch.get_deterministic_debug_mode()
    try:
        with configured(threads=torch.get_num_threads(), deterministic=asked):
            assert torch.get_deterministic_debug_mode() == (2 if asked else 0)
        assert torch.get_deterministic_debug_mode() == before
    finally:
        torch.set_deterministic_debug_mode("default")


def processor_seconds():
    """Of all children: the clock would count what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["runs", "show"], ["runs", "compare"]])
def test_every_help_has_an_example(run_cli, command):
    result = run_cli(*command, "--help")
    assert result.code == 0
    assert "Example" in result.out
    assert "merged-diffusion " + " ".join(command) in result.out


def test_module_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "merged_diffusion", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("merged-diffusion ")
