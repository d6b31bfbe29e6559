"""The package's names: each comes from its home on first use, the import itself is light."""

import subprocess
import sys

import pytest

import merged_diffusion as md

EXAMPLE = "examples/callable_expert.py"


@pytest.mark.parametrize("name", md.__all__)
def test_name_is_there(name):
    assert getattr(md, name) is not None
    assert name in dir(md)


def test_every_name_has_a_home_and_no_other_is_promised():
    assert sorted(md._HOMES) == sorted(md.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = md.nothing


def test_import_loads_neither_torch_nor_numpy():
    code = "import merged_diffusion, sys; assert not {'torch', 'numpy'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_example_runs(pytestconfig):
    script = pytestconfig.rootpath / EXAMPLE
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "bits/dim" in done.stdout.splitlines()[-1]
