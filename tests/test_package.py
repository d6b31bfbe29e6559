"""The package's names: each comes from its home on first use, the import itself is light."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import merged_diffusion as md
import merged_diffusion.bound
import merged_diffusion.likelihood

EXAMPLE = "examples/callable_expert.py"


@pytest.mark.parametrize("name", md.__all__)
def test_name_is_there(name):
    assert getattr(md, name) is not None
    assert name in dir(md)


@pytest.mark.parametrize("package", [md, md.bound, md.likelihood])
def test_the_stub_is_the_list_of_names_and_no_other_is_promised(package):
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    listed = [(node.module, alias) for node in stub.body for alias in node.names]
    assert len(stub.body) == len({node.module for node in stub.body})
    assert all(alias.name == alias.asname for _, alias in listed)
    assert sorted(package.__all__) == sorted(alias.name for _, alias in listed)
    for module, alias in listed:
        assert getattr(package, alias.name) is getattr(importlib.import_module(module), alias.name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = md.nothing


def test_import_loads_neither_torch_nor_numpy():
    code = "import merged_diffusion, sys; assert not {'torch', 'numpy'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_example_runs(pytestconfig):
    script = pytestconfig.rootpath / EXAMPLE
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "bits/dim" in done.stdout.splitlines()[-1]


MOST_PARAMETERS = 14


def calls():
    """Public functions, and methods of public classes, by name; but no constructors."""
    for name in md.__all__:
        home = getattr(md, name)
        if inspect.isfunction(home):
            yield name, home
        for member, held in vars(home).items() if inspect.isclass(home) else ():
            call = held.__func__ if isinstance(held, classmethod | staticmethod) else held
            if inspect.isfunction(call) and not member.startswith("_"):
                yield f"{name}.{member}", call


@pytest.mark.parametrize(
    ("name", "call"), list(calls()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_call_has_few_parameters_and_each_by_its_name(name, call):
    parameters = inspect.signature(call).parameters.values()
    assert len([one for one in parameters if one.name not in ("self", "cls")]) <= MOST_PARAMETERS
    others = [one for one in parameters if one.kind == one.VAR_KEYWORD]
    assert all(str(one.annotation).startswith("Unpack[") for one in others)
