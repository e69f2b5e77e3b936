"""What the package imports is declared, in the extra that the message about it names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

pytestmark = pytest.mark.static

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "napari_restore"

DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "napari_builtins": "napari",
    "npe2": "napari",  # its registry of plugins
    "pydantic_core": "pydantic",  # which pins its version
}
"""Names of import that are not those of their distribution."""

GUARDED = {
    "api/cluster_worker.py": "engine/executors/connection.py",
    "explain/attention/figure.py": "explain/attribution/figure_file.py",
    "explain/attribution/attribution.py": "explain/attribution/figure_file.py",
    "explain/attribution/figure.py": "explain/attribution/figure_file.py",
    "explain/attribution/methods.py": "explain/attribution/captum.py",
    "images/readers/_remote_zarr.py": "images/files/objects.py",
    "models/_graph_file.py": "api/_model_export.py",
    "models/_onnx_graph.py": "models/_onnx.py",
}
"""Modules with imports of extras, and the one that gives the message where they are missing."""

LOOKED_FOR = ("find_spec", "import_module")
"""Functions that take the name of a package."""


DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = DECLARED["project"]


def requirements() -> list[Requirement]:
    """All that is declared, but for linters and builders."""
    extras = PROJECT["optional-dependencies"].values()
    lists = [PROJECT["dependencies"], *extras, DECLARED["dependency-groups"]["test"]]
    found = (Requirement(text) for texts in lists for text in texts)
    return [r for r in found if canonicalize_name(r.name) != "napari-restore"]


@cache
def declared() -> dict[str, frozenset[str]]:
    """Extra, "" for none → the distributions it installs, with those of the extras it names."""
    listed = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}

    def of(extra: str) -> frozenset[str]:
        found: set[str] = set()
        for requirement in map(Requirement, listed[extra]):
            if canonicalize_name(requirement.name) == "napari-restore":
                found.update(*(of(inner) for inner in requirement.extras))
            found.add(canonicalize_name(requirement.name))
        return frozenset(found)

    return {extra: of(extra) for extra in listed}


def imported(source: str) -> Iterator[str]:
    """The top-level names of everything that a module imports or looks for, anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(LOOKED_FOR):
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value.partition(".")[0]


def extras_of(text: str) -> set[str]:
    """The extras that a text says to install."""
    return set(re.findall(r"napari-restore\[(\w+)\]", text))


def undeclared(source: str, path: Path) -> list[str]:
    """What a module at `path` imports without a declaration in the right place."""
    found = []
    guard = GUARDED.get(path.relative_to(PACKAGE).as_posix())
    named = extras_of(source if guard is None else (PACKAGE / guard).read_text(encoding="utf-8"))
    for name in sorted(set(imported(source)) - {"napari_restore"} - sys.stdlib_module_names):
        wanted = canonicalize_name(DISTRIBUTIONS.get(name, name))
        if wanted in declared()[""]:
            continue
        extras = {e for e, listed in declared().items() if wanted in listed}
        if not extras:
            found.append(f"{name} is declared nowhere")
        elif path.is_relative_to(PACKAGE / "plugin"):
            if "napari" not in extras:
                found.append(f"{name} is not in the extra napari")
        elif not named & extras:
            found.append(f"{name} is in {extras}, the message names {named}")
    return found


def test_every_import_is_declared_where_it_is_needed():
    problems = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in sorted(PACKAGE.rglob("*.py"))
        if (found := undeclared(path.read_text(encoding="utf-8"), path))
    }
    assert problems == {}


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("images/_x.py", "import cv2"),
        ("plugin/_x.py", "def f():\n    from matplotlib import figure"),
        ("explain/_x.py", "importlib.util.find_spec('kornia')"),
        ("images/_x.py", "import skimage\nHINT = 'napari-restore[exr]'"),
        ("images/_x.py", "def f():\n    import skimage"),
        ("models/_x.py", "if TYPE_CHECKING:\n    import hypothesis"),
    ],
)
def test_a_missing_declaration_is_seen(where: str, source: str):
    assert undeclared(source, PACKAGE / where)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("images/_x.py", "import numpy.linalg, os.path\nfrom . import _y"),
        ("plugin/_x.py", "from psygnal import Signal"),
        ("images/_x.py", "import OpenEXR\nHINT = 'napari-restore[exr]'"),
    ],
)
def test_a_declared_import_passes(where: str, source: str):
    assert undeclared(source, PACKAGE / where) == []


def test_every_message_and_page_names_an_extra_with_the_line_that_installs_it():
    """In double quotes: single ones are part of the name in Windows' own shell."""
    lists = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in lists if "lab" not in path.parts}
    named = {path: text for path, text in texts.items() if "napari-restore[" in text}
    assert len(named) > 15
    for path, text in named.items():
        listed = re.findall(r"napari-restore\[([\w,]+)\]", text)
        lines = re.findall(r'pip install\s"napari-restore\[([\w,]+)\]"', text)
        assert listed == lines, path
        assert set(",".join(lines).split(",")) <= set(declared()), path


def test_the_page_on_extras_has_all_of_them_and_what_all_brings():
    page = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| (.+) \|$", page, re.MULTILINE)
    assert {name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)} == set(
        PROJECT["optional-dependencies"]
    )
    (brings,) = (text for cell, text in rows if cell == "`all`")
    (own,) = (r for r in map(Requirement, PROJECT["optional-dependencies"]["all"]) if r.extras)
    assert set(re.findall(r"`(\w+)`", brings)) | {"napari"} == own.extras


def test_all_brings_what_the_quick_starts_use():
    """`--figure` and `captum:…` stand on their pages after no more than `[all]`."""
    assert {"napari", "pyside6", "matplotlib", "captum", "scikit-learn"} <= declared()["all"]


def test_every_lowest_version_was_tested():
    """A bound that changes needs a run of `make matrix`, which writes the page."""
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    (head,) = (row for row in rows if row[:1] == ["package"])
    column = next(n for n, name in enumerate(head) if name.startswith("lowest"))
    tested = {canonicalize_name(row[0]): row[column] for row in rows if len(row) == len(head)}
    for requirement in requirements():
        bounds = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
        version = Version(tested[canonicalize_name(requirement.name)])
        assert [Version(version.public)] == bounds, requirement
