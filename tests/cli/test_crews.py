"""``--ray`` where it cannot be: beside other ways to share, without Ray, at a wrong address."""

import subprocess
import sys

import pytest

from merged_diffusion.cli import crews

NLL = ("nll", "--data", "digits", "--limit", 2, "--ray", "local")


@pytest.mark.parametrize("command", ["nll", "vlb", "sweep", "sample", "threshold", "gate", "fid"])
def test_without_ray_it_is_said_how_to_get_it(run_cli, monkeypatch, command):
    monkeypatch.setattr(crews, "find_spec", lambda name: None)
    data = {"sample": ("--pair", "digits"), "fid": ("digits", "--ref", "digits")}.get(
        command, ("--data", "digits")
    )
    found = run_cli(command, *data, "--ray", "local")
    assert found.code == 2
    assert "--ray local, but Ray is not installed; pip install 'merged-diffusion[ray]'" in found.err


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (("--shard", "0/2"), {}, "--ray local beside --shard: both share the images"),
        (("--store", "off"), {}, "beside --store"),
        ((), {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "beside RANK and WORLD_SIZE"),
        ((), {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}, "beside SLURM_PROCID"),
    ],
)
def test_other_ways_to_share_are_refused_beside_it(run_cli, monkeypatch, words, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = run_cli(*NLL, *words, "--out", "run")
    assert found.code == 2
    assert told in found.err


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "here:there", "10.0.0.1"])
def test_what_is_no_address_is_refused(run_cli, address):
    found = run_cli("nll", "--data", "digits", "--ray", address)
    assert found.code == 2
    assert "is neither local, auto nor HOST:PORT" in found.err


def test_a_command_that_does_not_ask_for_it_does_not_load_it():
    code = (
        "import sys; from merged_diffusion.cli import main; main(sys.argv[1:]); print('ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "nll", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False\n")
