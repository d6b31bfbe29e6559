"""Public networks at reduced size, as the tests of experts have them."""

import importlib.util
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "experts" / "conftest.py"


@pytest.fixture(scope="session")
def public():
    spec = importlib.util.spec_from_file_location("public_experts", HOME)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Public()
