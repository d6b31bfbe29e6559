"""Help, version and usage errors: torch is not loaded, half a second suffices, every help has examples."""

import resource
import subprocess
import sys

import pytest

from merged_diffusion.cli import COMMANDS

PROBE = """if 1:
    import sys
    from merged_diffusion.cli import main
    code = main(sys.argv[1:])
    assert "torch" not in sys.modules
    sys.exit(code)
"""


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
