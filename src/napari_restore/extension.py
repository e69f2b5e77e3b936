"""What napari-restore-lab builds on: the names of its stub, each from the part that it is of."""

import ast
from pathlib import Path

_PARTS = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}


def __getattr__(name: str) -> object:
    """Import a name when it is used first: the options of a command need no torch."""
    if name not in _PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(__import__(_PARTS[name], fromlist=[name]), name)  # or a module of that name
