"""Every public function and class shows how it is used, and its example does what it says."""

import doctest
import inspect

import pytest

import merged_diffusion as md

# Whose example stands elsewhere: errors with the class that all of them are, what others return with those.
ELSEWHERE = {"Expert": "CallableExpert", "Run": "open_run", "Threshold": "MergedModel"}


def is_error(name):
    found = getattr(md, name)
    return isinstance(found, type) and issubclass(found, Exception) and found is not md.MergedDiffusionError


NAMES = sorted(name for name in md.__all__ if callable(getattr(md, name)) and not is_error(name))


@pytest.mark.parametrize("name", NAMES)
def test_example_does_what_it_says(name, tmp_path, monkeypatch):
    found = getattr(md, ELSEWHERE.get(name, name))
    (example,) = (test for test in doctest.DocTestFinder(recurse=False).find(found, name, globs={}))
    assert example.examples, f"{name} has no example"
    assert example.examples[0].source == "import merged_diffusion as md\n"
    if name in ELSEWHERE:
        assert name in inspect.getdoc(found)
        return
    monkeypatch.chdir(tmp_path)
    assert doctest.DocTestRunner().run(example).failed == 0
