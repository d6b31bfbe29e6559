"""Imports point downwards: in the package, in the core, and between the two."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "merged_diffusion"

# From the top down; a module may import its own layer and those below.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"reports"},
    {"evaluation", "sweeps", "thresholds", "plots"},
    {"likelihood", "sampling", "training", "selftest", "quality", "bound"},
    {"merge", "pairs", "ode", "data", "runs", "fetch"},
    {"experts", "schedules"},
    {"cache", "archives", "inert", "methods", "samplers", "_core"},
    {"reading"},
    {"errors", "escapes", "lazy"},
)
LAYER = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}
CONCEPTS = {path.stem for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyi") or path.is_dir()} - {
    "__init__",
    "__pycache__",
}

CORE = ROOT / "rust" / "core" / "src"
CORE_CONCEPTS = {path.stem for path in CORE.iterdir()} - {"lib"}
# What solver modules and diffusion modules of the core stand on; `field` is where the two meet.
SHARED = {"error", "Error"}
SOLVER = {
    *("adams", "quadrature", "probe_noise", "tableau", "control", "course", "workspace", "outcome"),
    *("runge_kutta", "host", "lane", "timed"),
}
DIFFUSION = {"gamma", "merge", "stream", "special", "truncated_normal", "bits"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, as dotted names below the package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                # `from package import module` names the module, `from module import name` does not.
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("merged_diffusion.") in {*MODULES, "_core"}
                found.add(inner if is_module else f"{node.module}")
    below = {name for name in found if name.split(".")[0] == "merged_diffusion"}
    return {name.removeprefix("merged_diffusion").removeprefix(".") for name in below}


def concept(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_its_layer() -> None:
    assert set(LAYER) == CONCEPTS


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_point_downwards(module: str) -> None:
    for other in imported(MODULES[module]):
        if other:
            assert LAYER[concept(module)] <= LAYER[concept(other)], f"{module} imports {other}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"", "__main__"}))
def test_nothing_but_the_cli_asks_the_package_for_what_it_exports(module: str) -> None:
    assert "" not in imported(MODULES[module]) or concept(module) == "cli"


def test_package_exports_without_the_command_line() -> None:
    above = {"__main__", "cli"}
    assert not above & {concept(name) for name in imported(MODULES[""])}


def test_concepts_of_a_layer_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if module:
            others = {concept(name) for name in imported(path) if name} - {concept(module)}
            graph.setdefault(concept(module), set()).update(others)
    TopologicalSorter(graph).prepare()


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
    assert SOLVER | DIFFUSION | {"error", "field"} == CORE_CONCEPTS
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
