"""Imports point downwards: in the package, in the core, and between the two.

``python tests/test_layers.py`` prints the house, which `CONTRIBUTING.md` shows: the rooms of the package from
the top down, each on the highest floor that the rooms above it allow. It is derived from the imports, those
within functions and under ``TYPE_CHECKING`` among them: whoever has to know a name depends on it, whenever
it is loaded.
"""

import ast
import re
import tomllib
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "merged_diffusion"
FACADE = "__init__"  # of the package: it names what the rooms offer, and no room asks it

CORE = ROOT / "rust" / "core" / "src"
CORE_CONCEPTS = {path.stem for path in CORE.iterdir()} - {"lib"}
# What solver modules and diffusion modules of the core stand on; `field` is where the two meet.
SHARED = {"error", "Error"}
SOLVER = {
    *("adams", "quadrature", "quadrature_error", "probe_noise", "tableau", "control", "route", "workspace"),
    *("outcome", "runge_kutta", "rows", "host", "lane", "timed"),
}
DIFFUSION = {"gamma", "merge", "stream", "special", "truncated_normal", "bits"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
EXTENSION = "_core"


def room(module: str) -> str:
    return module.split(".")[0] or FACADE


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of the package that a module imports anywhere, as dotted names below the package."""
    path, found = MODULES[module], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                # `from package import module` names the module, `from module import name` does not.
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("merged_diffusion.") in {*MODULES, EXTENSION}
                found.add(inner if is_module else f"{node.module}")
    below = {name for name in found if name.split(".")[0] == "merged_diffusion"}
    return frozenset(name.removeprefix("merged_diffusion").removeprefix(".") for name in below)


def below() -> dict[str, set[str]]:
    """The other rooms that each room imports."""
    graph: dict[str, set[str]] = {EXTENSION: set()}
    for module in MODULES:
        others = {room(name) for name in imported(module)} - {room(module), FACADE}
        graph.setdefault(room(module), set()).update(others)
    del graph[FACADE]
    return graph


def floors() -> list[list[str]]:
    """The rooms from the top down; `graphlib.CycleError` names rooms that import each other."""
    graph = below()
    height: dict[str, int] = {}
    # Each after those that it imports; so in reverse, each after those that import it.
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        height[name] = max((height[user] + 1 for user in graph if name in graph[user]), default=0)
    return [
        sorted(name for name in height if height[name] == floor) for floor in range(max(height.values()) + 1)
    ]


def purpose(name: str) -> str:
    """The first line of what a room says of itself."""
    if name == EXTENSION:
        return "The core, in Rust: `rust/bindings`."
    return (ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8"))) or "").split("\n")[0]


def house() -> str:
    """A line for each room, an empty one between floors."""
    wide = max(len(name) for floor in floors() for name in floor)
    return "\n\n".join("\n".join(f"{name:<{wide}}  {purpose(name)}" for name in floor) for floor in floors())


def shown() -> str:
    """The house as `CONTRIBUTING.md` shows it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Where things are")[1]
    return text.split("```\n")[1].rstrip("\n")


def test_contributing_shows_the_house() -> None:
    """What `python tests/test_layers.py` prints."""
    assert shown() == house()


def test_imports_point_downwards() -> None:
    drawn = [[line.split()[0] for line in floor.split("\n")] for floor in shown().split("\n\n")]
    floor_of = {name: number for number, floor in enumerate(drawn) for name in floor}
    assert [
        f"{module} imports {other}"
        for module in MODULES
        for other in sorted(imported(module))
        if module and room(other) not in (FACADE, room(module))
        if floor_of[room(module)] >= floor_of[room(other)]
    ] == []


def test_no_modules_import_each_other() -> None:
    """Facades apart: what `__init__` of a room offers comes from within."""
    inside = {name for name, path in MODULES.items() if path.stem != "__init__"}
    TopologicalSorter({name: imported(name) & inside for name in inside}).prepare()


def test_a_file_s_name_says_its_content_without_its_folder() -> None:
    """No two modules have one name, but for those that are alike in every folder."""
    names = Counter(path.stem for path in MODULES.values())
    assert [name for name, count in names.items() if count > 1] == ["__init__"]


def test_no_module_is_long() -> None:
    """At 300 lines another concept is hiding (`CONTRIBUTING.md`)."""
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_nothing_but_the_cli_asks_the_package_for_what_it_exports() -> None:
    asking = {module for module in MODULES if "" in imported(module)}
    assert {room(module) for module in asking} <= {"cli", "__main__"}


def test_package_exports_without_the_command_line() -> None:
    assert not {"__main__", "cli"} & {room(name) for name in imported("")}


def used_in_core(source: str) -> set[str]:
    """Modules of the core that a file names, its tests left out; grouped `use crate::{...}` included."""
    code = re.sub(r"//.*", "", source.split("#[cfg(test)]")[0])
    grouped = re.findall(r"crate::\{([^;]*)\};", code)
    names = set(re.findall(r"crate::(\w+)", code))
    return names | {name for group in grouped for name in re.findall(r"(?:^|[,{]\s*)(\w+)", group)}


def core_files() -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(CORE.rglob("*.rs")):
        files.setdefault(path.relative_to(CORE).parts[0].removesuffix(".rs"), []).append(path)
    return files


@pytest.mark.parametrize("name", sorted(SOLVER | DIFFUSION))
def test_solver_and_diffusion_meet_in_the_field_alone(name: str) -> None:
    other = DIFFUSION if name in SOLVER else SOLVER
    for path in core_files()[name]:
        used = used_in_core(path.read_text(encoding="utf-8"))
        assert not used & other, f"{path.relative_to(ROOT)} uses {used & other}"


def test_every_module_of_the_core_is_solver_diffusion_or_shared() -> None:
    assert SOLVER | DIFFUSION | {"error", "field", "threads"} == CORE_CONCEPTS
    assert used_in_core((CORE / "field.rs").read_text(encoding="utf-8")) <= DIFFUSION | SHARED


def test_modules_of_the_core_form_no_cycle() -> None:
    graph = {
        name: {used for path in paths for used in used_in_core(path.read_text(encoding="utf-8"))}
        & (CORE_CONCEPTS - {name})
        for name, paths in core_files().items()
        if name != "lib"
    }
    TopologicalSorter(graph).prepare()


def dependencies(crate: str) -> set[str]:
    manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text(encoding="utf-8"))
    return set(manifest["dependencies"])


def test_core_knows_no_python() -> None:
    assert not dependencies("core") & {"pyo3", "numpy", "merged-diffusion-bindings"}
    assert "merged-diffusion-core" in dependencies("bindings")


if __name__ == "__main__":
    print(house())
