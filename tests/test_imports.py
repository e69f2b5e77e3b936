"""Who may import whom: one folder, one concern."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.static

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "napari_restore"

CONTRIBUTING = PACKAGE.parents[1] / "CONTRIBUTING.md"


def allowed() -> dict[str, set[str]]:
    """Return the table of parts in CONTRIBUTING.md; "" is `__init__`, `import napari_restore` itself."""
    rows = re.findall(
        r"^\| `(\w+)(?:\.py|/)` \|.*\| ([^|]*) \|$", CONTRIBUTING.read_text("utf-8"), re.MULTILINE
    )
    parts = {part: re.findall(r"`(\w+)`", others) for part, others in rows}
    return {
        part.replace("__init__", ""): {other.replace("__init__", "") for other in others}
        for part, others in parts.items()
    }


ALLOWED = allowed()
"""Part → the other parts of ours it may import."""

POINTS = "_points"
"""Every part may import it: a test can hold the program anywhere."""

WINDOW = {"napari", "magicgui", "qtpy", "superqt", "vispy", "PySide6", "PyQt5", "PyQt6", "npe2"}
"""Only plugin/ may import these."""

DATA_TYPES = {
    "engine": set(
        "Cluster Event Finished Job KeptResult MaskChoices Note Phase Plan Progress Region Result "
        "Stopped TileDone Worker".split()
    ),
    "explain": {
        *(
            "Attribution",
            "AttributionSummary",
            "Kind",
            "MethodInfo",
            "OpenedMap",
            "PartialAttribution",
            "OverviewShares",
        ),
        *(
            f"attention.{name}"
            for name in "ablation.HeadEffect attention.Attention head_maps.HeadMap head_maps.HeadMaps "
            "head_maps.QueryMaps queries.Query session.AttentionSession".split()
        ),
    },
    "images": {"Image"},
    "models": {"AttentionSite", "ModelCard", "Parameter", "Proposal", "RestorationModel"},
}
"""What plugin/ may name of the inner parts: what it is handed by api."""

BASE_OF_MODELS = ("_card", "_context", "_model", "_padding", "_registry")
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


def is_private_elsewhere(name: str, path: Path) -> bool:
    """Whether a dotted name of ours passes a private one of a package that `path` is not in."""
    pieces = name.split(".")
    private = next((at for at, piece in enumerate(pieces) if re.match("_(?!_)", piece)), 0)
    owner = PACKAGE.joinpath(*pieces[1:private])
    # Private files beside the folders of the package are everybody's.
    return bool(private) and owner != PACKAGE and owner not in path.parents


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
        if other not in (part, POINTS) and other not in ALLOWED[part]:
            found.append(f"{name}: {part or '__init__'} may not import {other or 'api'}")
        if is_private_elsewhere(name, path):
            found.append(f"{name}: a private name of another package")
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


def test_a_module_imports_only_what_its_folder_may():
    parts = {part_of(path) for path in modules()}
    assert parts <= set(ALLOWED), "a new part needs a row in CONTRIBUTING.md"
    found = [
        f"{path.relative_to(PACKAGE).as_posix()}: {problem}"
        for path in modules()
        for problem in problems_of(path.read_text(encoding="utf-8"), path)
    ]
    assert not found, "\n".join(found)


def test_the_rule_catches():
    caught = [
        ("errors.py", "import napari_restore.records"),
        ("_format.py", "from napari_restore.images import Image"),
        ("images/_x.py", "from napari_restore.models import card_of"),
        ("images/_x.py", "from ..models import card_of"),
        ("models/_x.py", "def f():\n    from napari_restore import engine"),
        ("engine/_x.py", "from napari_restore.models.classical import Dcp"),
        ("engine/_x.py", "import napari"),
        ("engine/_x.py", "from qtpy.QtCore import QObject"),
        ("api/_x.py", "from napari_restore.plugin import panel"),
        ("commands/_x.py", "from napari_restore.engine import Job"),
        ("commands/_x.py", "from .. import images"),
        ("plugin/_x.py", "from napari_restore.engine.running._job import Job"),
        ("plugin/runs/_x.py", "from napari_restore.plugin.state._kept import WindowState"),
        ("explain/_x.py", "from napari_restore.models._model import RestorationModel"),
        ("explain/_x.py", "from napari_restore.engine import _device"),
        ("plugin/_x.py", "from napari_restore.engine import ChildExecutor"),
        ("plugin/_x.py", "from napari_restore.images import open_image"),
        ("commands/_x.py", "if TYPE_CHECKING:\n    from napari_restore.images import Image"),
    ]
    assert [(where, line) for where, line in caught if not problems_of(line, PACKAGE / where)] == []


def test_the_rule_lets_pass():
    passed = [
        ("images/_x.py", "from napari_restore.errors import BadRegion"),
        ("images/_x.py", "from . import _source"),
        ("engine/_x.py", "from napari_restore.models import ModelCard"),
        ("plugin/_x.py", "import napari"),
        ("plugin/_x.py", "import napari_restore as nr"),
        ("plugin/_x.py", "from napari_restore.engine import Progress"),
        ("commands/_x.py", "import napari_restore as nr"),
    ]
    assert [(where, line) for where, line in passed if problems_of(line, PACKAGE / where)] == []


class _WithoutTypes(ast.NodeTransformer):
    """Leaves of a module what is not only for type checkers."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return node.orelse or None
        return self.generic_visit(node)


# -- the window's views -------------------------------------------------------------

VIEWS = ("panel", "section", "tab", "form", "view", "bar", "chooser", "dialog", "plots")
"""How the names of the files in plugin/ end that may import Qt widgets, beside plugin/widgets/."""


def is_view(path: Path) -> bool:
    return path.parent.name == "widgets" or path.stem.rpartition("_")[2] in VIEWS


def widgets_in(source: str, path: Path) -> list[str]:
    """What a module imports of Qt's widgets, anywhere, but for type checkers."""
    names = imported(_WithoutTypes().visit(ast.parse(source)), path)
    return [name for name in names if "QtWidgets" in name.split(".")]


def test_only_views_of_the_window_know_widgets():
    others = [p for p in modules() if part_of(p) == "plugin" and not is_view(p)]
    found = {path.name: widgets_in(path.read_text(encoding="utf-8"), path) for path in others}
    assert {name: widgets for name, widgets in found.items() if widgets} == {}


def test_a_widget_in_the_state_is_seen():
    path = PACKAGE / "plugin" / "_state.py"
    assert not is_view(path)
    late = "def f():\n    from qtpy.QtWidgets import QLabel"
    assert widgets_in(late, path) == ["qtpy.QtWidgets.QLabel"]
    assert widgets_in("from qtpy import QtWidgets", path) == ["qtpy.QtWidgets"]
    assert widgets_in(f"if TYPE_CHECKING:\n    {late[13:]}", path) == []


# -- circles -------------------------------------------------------------------------


class _AtStart(_WithoutTypes):
    """Leaves of a module what runs when it is loaded: no functions, nothing only for types."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None


@cache
def offered_by(package: Path) -> Mapping[str, Path]:
    """Public name → its module, of a package that loads them when they are used."""
    stub = package / "__init__.pyi"
    if not stub.is_file():
        return {}
    nodes = [
        each for each in ast.parse(stub.read_text("utf-8")).body if isinstance(each, ast.ImportFrom)
    ]
    return {
        alias.name: package.joinpath(*(node.module or "").split(".")).with_suffix(".py")
        if node.level
        else file_of(f"{node.module}.{alias.name}")
        for node in nodes
        for alias in node.names
    }


def file_of(name: str) -> Path:
    """The module of ours that a dotted name is, is in, or is taken from by its package."""
    parts, last = name.split(".")[1:], ""
    while not (found := PACKAGE.joinpath(*parts, "__init__.py")).is_file():
        if parts and (found := PACKAGE.joinpath(*parts).with_suffix(".py")).is_file():
            return found
        *parts, last = parts
    return offered_by(found.parent).get(last, found)


@cache
def arrows(*, at_start: bool) -> Mapping[Path, frozenset[Path]]:
    """Module → the modules of ours it imports: anywhere, or only when it is loaded."""
    found = {}
    for path in modules():
        tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
        names = imported(_AtStart().visit(tree) if at_start else tree, path)
        ours = {file_of(name) for name in names if name.partition(".")[0] == "napari_restore"}
        found[path] = frozenset(ours - {path})
    return found


def circle_in(graph: Mapping[Path, Iterable[Path]]) -> list[str]:
    """One circle of `graph`; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [path.relative_to(PACKAGE).as_posix() for path in error.args[1]]
    return []


def within(folder: Path, graph: Mapping[Path, Iterable[Path]]) -> dict[Path, list[Path]]:
    return {
        path: [other for other in others if folder in other.parents]
        for path, others in graph.items()
        if folder in path.parents
    }


def test_no_module_waits_for_itself_to_load():
    assert circle_in(arrows(at_start=True)) == []


def test_no_import_anywhere_closes_a_circle():
    parts = ("images", "models", "engine", "explain", "commands", "api")
    found = {part: circle_in(within(PACKAGE / part, arrows(at_start=False))) for part in parts}
    assert {part: circle for part, circle in found.items() if circle} == {}


def rooms_of(folder: Path) -> dict[Path, set[Path]]:
    """Folder below `folder` → the others that it imports."""

    def room(path: Path) -> Path:
        """The folder below `folder`; a file that lies in none stands for itself."""
        return folder / path.relative_to(folder).parts[0]

    rooms: dict[Path, set[Path]] = {}
    for path, others in within(folder, arrows(at_start=False)).items():
        # Files beside the folders are for another test.
        others = [other for other in others if {path.parent, other.parent} != {folder}]
        rooms.setdefault(room(path), set()).update({room(other) for other in others} - {room(path)})
    return rooms


def test_no_two_folders_import_each_other():
    parts = ("images", "models", "engine", "explain", "plugin")
    found = {part: circle_in(rooms_of(PACKAGE / part)) for part in parts}
    assert {part: circle for part, circle in found.items() if circle} == {}


def test_a_circle_is_seen():
    one, other = PACKAGE / "one.py", PACKAGE / "other.py"
    assert set(circle_in({one: {other}, other: {one}})) == {"one.py", "other.py"}
    late = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    import b\nimport c")
    assert list(imported(late, one)) == ["c", "a", "b"]
    assert list(imported(_AtStart().visit(late), one)) == ["c"]


def test_the_panel_does_not_wait_for_torch() -> None:
    """Importing torch takes a second; the first plan does, on a thread."""
    code = "import sys, napari_restore.plugin._panel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
