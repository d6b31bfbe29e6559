"""What autodoc and napoleon need to be told about this package's docstrings."""

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

# Types of other packages: their documents are elsewhere, and nothing is loaded from there.
FOREIGN = re.compile(
    r"(collections\.abc|click|matplotlib|np|npt|numpy|pandas|pathlib|polars|torch|typing)\..*|Tensor|T"
)


def no_constants(app: Sphinx, what: str, name: str, found: object, skip: bool, options: Any) -> bool | None:
    """Class constants say something to the package alone, `extra_repr` to torch."""
    last = name.rpartition(".")[2]
    return True if last.isupper() or last == "extra_repr" else None


# A default that is written as a name: its value is what a reader wants to know.
NAMED = re.compile(r"(?<==)[A-Z][A-Z_]+(?=[,)])")


def defaults_as_values(
    app: Sphinx,
    what: str,
    name: str,
    found: object,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None] | None:
    """``level=LEVEL`` says nothing on a page, ``level=0.95`` does."""
    called = inspect.unwrap(found.__init__ if isinstance(found, type) else found)  # type: ignore[misc,arg-type]
    names = getattr(called, "__globals__", {})

    def value(written: re.Match[str]) -> str:
        default = names.get(written[0])
        return repr(default) if isinstance(default, str | int | float | tuple) else written[0]

    return None if signature is None else (NAMED.sub(value, signature), returned)


def whole_sentences(app: Sphinx, what: str, name: str, found: object, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon for a type: a property's docstring is a sentence."""
    lines[:] = [line.replace("** -- ", "** – ") for line in lines]
    if what not in ("property", "attribute", "data"):
        return
    for number, line in enumerate(lines):
        if line.startswith(":type: ") and " " in line[7:]:
            lines[:] = [f"{line[7:]}: {lines[0].strip()}", *lines[1:number], *lines[number + 1 :]]
            return


def examples_as_code(app: Sphinx, context: Any, lines: list[str]) -> None:
    """What stands below the help of a command is typed, not read."""
    typed = [line.removeprefix("| ") for line in lines if line.startswith("|")]
    if typed:
        head, *rest = typed
        lines[:] = ["", f".. rubric:: {head.strip().rstrip(':')}", "", ".. code-block:: sh", ""]
        lines += [f"   {line.strip()}" if line.strip() else "" for line in rest] + [""]


def by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, words: nodes.Element
) -> nodes.Element | None:
    """`UsageError` means the one object of the package that is called so."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = "." + target.removeprefix("merged_diffusion.")
    matches = {name: entry for name, entry in env.get_domain("py").objects.items() if name.endswith(last)}
    own = [name for name in matches if not matches[name].aliased]
    if len(own) == 1:
        entry = matches[own[0]]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, words, own[0])
    # Docstrings name in backticks what is not for users, too; it is shown as code.
    if FOREIGN.fullmatch(target) or node["reftype"] == "obj":
        return words
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry."""
    app.connect("autodoc-skip-member", no_constants)
    app.connect("autodoc-process-signature", defaults_as_values)
    app.connect("autodoc-process-docstring", whole_sentences, priority=900)
    app.connect("missing-reference", by_last_name)
    app.connect("sphinx-click-process-epilog", examples_as_code)
    return {"parallel_read_safe": True}
