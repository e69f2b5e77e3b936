"""Names that a module offers by its stub, each taken from the part that it is of when it is used first."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from pkgutil import get_data


def names_of_stub(
    module: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a module by its stub, whose `file` this is.

    As `lazy_loader.attach_stub`, but a stub may take names from other parts.
    """
    stub = ast.parse(get_data(module, Path(file).with_suffix(".pyi").name) or b"")
    parts = {
        alias.name: f"{module}.{node.module}" if node.level else str(node.module)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names = sorted(parts)

    def load(name: str) -> object:
        if name not in parts:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # It may be a module of that name.
        return getattr(__import__(parts[name], fromlist=[name]), name)

    return load, lambda: names, names
