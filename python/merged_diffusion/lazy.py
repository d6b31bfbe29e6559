"""The names of a package are those of its stub, and each is loaded when it is first used (PEP 562).

``__init__.pyi`` is what type checkers read, and the one list of what the package exports: a line
``from merged_diffusion.merge import MergedModel as MergedModel`` for each module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from os import path


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose ``__init__.py`` is ``file``."""

    @cache
    def homes() -> dict[str, str]:
        import re  # not before it is needed: the import of the package itself is light

        with open(path.splitext(file)[0] + ".pyi", encoding="utf-8") as stub:  # noqa: PTH122, PTH123
            lines = re.findall(r"^from (\S+) import (.+)$", stub.read(), re.MULTILINE)
        return {name: home for home, names in lines for name in re.findall(r"as (\w+)", names)}

    def load(name: str) -> object:
        value: object = sorted(homes())
        if name != "__all__":
            if name not in homes():
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(importlib.import_module(homes()[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(homes())
