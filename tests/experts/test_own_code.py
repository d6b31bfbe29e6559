"""``file.py:name`` and ``module:name``: what they see while they run, and what they leave behind."""

import hashlib
import sys

import pytest
import torch

from merged_diffusion.errors import ExpertError
from merged_diffusion.experts import own_code
from merged_diffusion.experts.cards import load_expert
from merged_diffusion.experts.own_code import code_sha256

EXPERT = """
import merged_diffusion as md
{imports}

def expert():
    return md.CallableExpert(
        {net}, predicts="eps", time="gamma", input="vp", pixels="centred", levels=256,
        gamma_range=(-13.3, 5.0), image_shape=(3, 8, 8),
    )
"""
LAZY = """
def net(z, gamma):
    import lazy
    return lazy.factor * z
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Imports as they were, whatever a test made of them."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine", "nets", "neighbour", "lazy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = dict(sys.modules)
    for name, empty in (("_beside", {}), ("_folders", set())):
        monkeypatch.setattr(own_code, name, empty)
    yield
    for key in sys.modules.keys() - before.keys():
        del sys.modules[key]
    sys.modules.update(before)


def write(folder, name="mine.py", factor=2, *, helper="neighbour"):
    """An expert factor * z in a file, whose network lies in another beside it."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{helper}.py").write_text(f"def net(z, gamma):\n    return {factor} * z\n")
    (folder / name).write_text(EXPERT.format(imports=f"import {helper}", net=f"{helper}.net"))
    return folder / name


def factor(expert):
    z = torch.ones(1, 3, 8, 8)
    return float(expert(z, torch.zeros(1, dtype=torch.float64)).mean())


def test_file_sees_its_neighbours(tmp_path):
    assert factor(load_expert(f"{write(tmp_path)}:expert")) == 2


def test_file_sees_packages_beside_it(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("from nets.inner import net")
    (tmp_path / "nets" / "inner.py").write_text("def net(z, gamma):\n    return 3 * z\n")
    (tmp_path / "mine.py").write_text(EXPERT.format(imports="import nets", net="nets.net"))
    assert factor(load_expert(f"{tmp_path / 'mine.py'}:expert")) == 3


@pytest.mark.parametrize("place", ["elsewhere", "."])
def test_neighbours_are_seen_in_a_call_too(tmp_path, monkeypatch, place):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lazy.py").write_text("factor = 5")
    (tmp_path / "mine.py").write_text(LAZY + EXPERT.format(imports="", net="net"))
    monkeypatch.chdir(tmp_path)
    source = "mine:expert" if place == "." else f"{tmp_path / 'mine.py'}:expert"
    expert = load_expert(source)
    monkeypatch.chdir(tmp_path / place)
    assert factor(expert) == 5


def test_module_sees_the_working_folder(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert factor(load_expert("mine:expert")) == 2


def test_file_takes_no_place_of_a_package_once_the_expert_is_made(tmp_path):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not the one of Python')")
    sys.modules.pop("colorsys", None)
    load_expert(f"{write(tmp_path)}:expert")
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_code_that_fails_leaves_the_path_as_it_was(tmp_path):
    path = write(tmp_path)
    path.write_text("import neighbour, nowhere_to_be_found")
    before = list(sys.path)
    with pytest.raises(ExpertError, match="nowhere_to_be_found"):
        load_expert(f"{path}:expert")
    assert sys.path == before


def test_neighbours_of_one_name_are_each_experts_own(tmp_path, caplog):
    one, two = write(tmp_path / "a", factor=2), write(tmp_path / "b", factor=7)
    experts = [load_expert(f"{path}:expert") for path in (one, two, one)]
    assert [factor(expert) for expert in experts] == [2, 7, 2]
    assert "both hold neighbour" in caplog.text


def test_hash_of_the_code_covers_the_neighbours_that_it_imported(tmp_path):
    path = write(tmp_path)
    (tmp_path / "other.py").write_text("unused = 1")
    source = f"{path}:expert"
    load_expert(source)
    found = code_sha256(source)
    (tmp_path / "other.py").write_text("unused = 2")
    assert code_sha256(source) == found
    (tmp_path / "neighbour.py").write_text("def net(z, gamma):\n    return 9 * z\n")
    assert code_sha256(source) != found


def test_hash_of_a_file_that_imports_no_neighbour_is_that_of_the_file(tmp_path):
    path = tmp_path / "alone.py"
    path.write_text(EXPERT.format(imports="", net="lambda z, gamma: z"))
    (tmp_path / "neighbour.py").write_text("")
    load_expert(f"{path}:expert")
    assert code_sha256(f"{path}:expert") == hashlib.sha256(path.read_bytes()).hexdigest()


def test_relative_import_is_told_how_it_runs(tmp_path):
    path = write(tmp_path)
    path.write_text("from . import neighbour")
    with pytest.raises(ExpertError, match=r"package\.file:name, from the folder above"):
        load_expert(f"{path}:expert")
