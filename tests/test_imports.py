"""Who may import whom: one folder, one concern."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "napari_restore"

ALLOWED = {
    "errors": set(),
    "records": {"errors"},
    "metrics": {"errors"},
    "_line": {"errors"},
    "sample": set(),
    "images": {"errors"},
    "models": {"errors"},
    "engine": {"errors", "images", "models"},
    "api": {"errors", "records", "_line", "images", "models", "engine"},
    "_worker": {"errors", "records", "images", "models", "engine", "api", ""},
    "": {"errors", "records", "images", "models", "engine", "api"},
    "cli": {"errors", "_commands", "api", "records", ""},
    "_commands": {"errors", "api", "records", "sample", ""},
    "plugin": {"errors", "api", "records", "metrics", "sample", ""},
}
"""Part → the other parts of ours it may import; "" is `import napari_restore` itself."""

WINDOW = {"napari", "magicgui", "qtpy", "superqt", "vispy", "PySide6", "PyQt5", "PyQt6", "npe2"}
"""Only plugin/ may import these."""

DATA_TYPES = {
    "engine": set(
        "Adjustment Event Finished Job KeptResult Note Phase Plan Progress Region Result Stopped TileDone Worker".split()
    ),
    "images": {"Image"},
    "models": {"ModelCard", "Parameter", "Proposal", "RestorationModel"},
}
"""What plugin/ may name of the inner parts: what it is handed by api."""

BASE_OF_MODELS = ("_card", "_context", "_context_pass", "_model", "_padding", "_registry")
"""What of models/ the engine may know; never a method or a network."""


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def part_of(path: Path) -> str:
    """The folder or module directly below the package; "" for its __init__."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names of everything a module imports anywhere, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ("napari_restore", *path.relative_to(PACKAGE).parts[:-1])
                kept = package[: len(package) - node.level + 1]
                base = ".".join((*kept, *filter(None, [base])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def problems_of(source: str, path: Path) -> list[str]:
    part = part_of(path)
    found = []
    for name in imported(ast.parse(source), path):
        top, _, rest = name.partition(".")
        if top in WINDOW and part != "plugin":
            found.append(f"{name}: only plugin/ may know the window")
        if top != "napari_restore":
            continue
        first, _, deeper = rest.partition(".")
        # `from napari_restore import Image` takes a name of api, not a part.
        other = first if (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists() else ""
        if part == "plugin" and deeper in DATA_TYPES.get(other, ()):
            continue
        if other != part and other not in ALLOWED[part]:
            found.append(f"{name}: {part or '__init__'} may not import {other or 'api'}")
        inner = deeper.partition(".")[0]
        if (
            part == "engine"
            and other == "models"
            and (PACKAGE / "models" / inner).is_dir()
            and inner
        ):
            found.append(f"{name}: the engine knows cards, not methods")
        if part == "engine" and other == "models" and inner.startswith("_"):
            if inner not in BASE_OF_MODELS:
                found.append(f"{name}: the engine knows the base of models only")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_folder_may(path: Path):
    assert part_of(path) in ALLOWED, "a new part needs a line in ALLOWED, and in CONTRIBUTING.md"
    assert problems_of(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("errors.py", "import napari_restore.records"),
        ("images/_x.py", "from napari_restore.models import card_of"),
        ("images/_x.py", "from ..models import card_of"),
        ("models/_x.py", "def f():\n    from napari_restore import engine"),
        ("engine/_x.py", "from napari_restore.models.classical import Dcp"),
        ("engine/_x.py", "import napari"),
        ("engine/_x.py", "from qtpy.QtCore import QObject"),
        ("api.py", "from napari_restore.plugin import panel"),
        ("cli.py", "from napari_restore.engine import Job"),
        ("_commands/_x.py", "from .. import images"),
        ("plugin/_x.py", "from napari_restore.engine._job import Job"),
        ("plugin/_x.py", "from napari_restore.engine import ProcessJob"),
        ("plugin/_x.py", "from napari_restore.images import open_image"),
        ("cli.py", "if TYPE_CHECKING:\n    from napari_restore.images import Image"),
    ],
)
def test_the_rule_catches(where: str, line: str):
    assert problems_of(line, PACKAGE / where)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("images/_x.py", "from napari_restore.errors import BadRegion"),
        ("images/_x.py", "from . import _source"),
        ("engine/_x.py", "from napari_restore.models import ModelCard"),
        ("plugin/_x.py", "import napari"),
        ("plugin/_x.py", "import napari_restore as nr"),
        ("plugin/_x.py", "from napari_restore.engine import Progress"),
        ("_commands/_x.py", "import napari_restore as nr"),
    ],
)
def test_the_rule_lets_pass(where: str, line: str):
    assert problems_of(line, PACKAGE / where) == []
