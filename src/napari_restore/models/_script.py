"""Python files of the user that make a model: their factories, without running them."""

from __future__ import annotations

import ast
from pathlib import Path

from napari_restore.errors import BadModel

USUAL = ("make", "make_model", "build", "create_model", "get_model", "model")
"""Usual names of factories; offered first."""


def factories_in(path: Path) -> list[str]:
    """Return public functions and classes of a Python file that may make a model, usual first.

    The file is parsed and not run. Raises `BadModel`.
    """
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadModel(f"There is no file {path}.", "Check the path.") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise BadModel(f"{path.name} is no readable Python: {error}.", "Check the file.") from None
    names = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    if not names:
        raise BadModel(
            f"{path.name} has no function that could make a model.",
            "Write one that returns a torch.nn.Module.",
        )
    return sorted(names, key=lambda name: USUAL.index(name) if name in USUAL else len(USUAL))


def without_factory(path: Path) -> BadModel:
    """Return the error for a Python file that is named without a factory."""
    names = factories_in(path)
    others = f" It also has {', '.join(names[1:])}." if len(names) > 1 else ""
    return BadModel(
        f"{path.name} is named, but not the function in it that makes the model.",
        f"Write {path}:{names[0]}.{others}",
    )
