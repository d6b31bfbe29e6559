"""The pages of the Python reference, from the one list of public names: `merged_diffusion/__init__.pyi`.

A page for each room that a name comes from, a function or class after the other with its docstring. A name
that is added to the list is on a page at the next build.
"""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

# Rooms in the order in which a reader meets them, and what their page is called.
TITLES = {
    "data": "Images",
    "experts": "Experts",
    "merge": "Merged models",
    "pairs": "Merged models",
    "likelihood": "Likelihood",
    "scores": "Likelihood",
    "bound": "Variational bound",
    "sampling": "Samples",
    "samplers": "Samples",
    "quality": "Distances of samples",
    "ode": "Solvers and machine",
    "thresholds": "Thresholds and sweeps",
    "sweeps": "Thresholds and sweeps",
    "jobs": "Evaluations and runs",
    "runs": "Evaluations and runs",
    "training": "Training",
    "errors": "Errors",
}
LEFT_OUT = {"__version__"}
FROM_BASES = "   :inherited-members:\n"
# Modules whose own words belong before their names: a table that a docstring refers to.
INTRODUCED = {"CallableExpert": "merged_diffusion.experts.callables"}
ERRORS = """\
Errors
======

.. automodule:: merged_diffusion.errors
   :members:
   :show-inheritance:
"""


def listed() -> list[tuple[str, str]]:
    """Module and name of every public name, in the order of the stub."""
    package = importlib.util.find_spec("merged_diffusion")
    assert package is not None  # noqa: S101
    assert package.origin is not None  # noqa: S101
    stub = ast.parse(Path(package.origin).with_suffix(".pyi").read_text(encoding="utf-8"))
    return [
        (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.name not in LEFT_OUT
    ]


def title(module: str) -> str:
    """The page of a name that comes from ``module``."""
    room = module.split(".")[1]
    return TITLES.get(room, room.replace("_", " ").capitalize())


def directive(package: ModuleType, name: str) -> str:
    """How autodoc is asked for it."""
    found = getattr(package, name)
    text = ""
    if name in INTRODUCED:
        text += f".. automodule:: {INTRODUCED[name]}\n   :no-members:\n   :no-index:\n\n"
        text += ".. currentmodule:: merged_diffusion\n\n"
    if not isinstance(found, type):
        return f"{text}.. autofunction:: {name}\n"
    # What a result has of its base is its own; what an expert has of torch's module is not.
    inherited = "" if any(base.__module__.startswith("torch.") for base in found.__mro__) else FROM_BASES
    return f"{text}.. autoclass:: {name}\n   :members:\n{inherited}"


def pages(package: ModuleType) -> dict[str, str]:
    """Text by file name, ``index`` among them."""
    order = list(dict.fromkeys(TITLES.values()))
    names: dict[str, list[str]] = {}
    for module, name in listed():
        names.setdefault(title(module), []).append(name)
    titles = sorted(names, key=lambda each: order.index(each) if each in order else len(order))
    files = {each: each.lower().replace(" ", "-") for each in titles}
    texts = {
        files[each]: f"{each}\n{'=' * len(each)}\n\n.. currentmodule:: merged_diffusion\n\n"
        + "\n".join(directive(package, name) for name in names[each])
        for each in titles
    }
    texts[files["Errors"]] = ERRORS
    table = ".. list-table::\n   :widths: 1 3\n\n"
    for each in titles:
        links = ", ".join(f":py:obj:`{name} <merged_diffusion.{name}>`" for name in names[each])
        table += f"   * - :doc:`{files[each]}`\n     - {links}\n"
    toctree = ".. toctree::\n   :hidden:\n\n" + "".join(f"   {files[each]}\n" for each in titles)
    head = "Python\n======\n\nEverything below is a name of the package: ``import merged_diffusion as md``.\n"
    return texts | {"index": f"{head}\n{table}\n{toctree}"}


def write(app: Sphinx) -> None:
    """Bring ``reference/python/`` up to date; files that stay the same are left alone."""
    import merged_diffusion

    folder = Path(app.srcdir) / "reference" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.rst": text for name, text in pages(merged_diffusion).items()}
    for stale in {path.name for path in folder.glob("*.rst")} - texts.keys():
        (folder / stale).unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
