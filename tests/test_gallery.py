"""The notebooks of docs/gallery run from top to bottom, and are stored without output."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "gallery"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
NEEDED = {"research": ("captum", "matplotlib", "skimage")}


def cells_of(path: Path) -> list[dict[str, Any]]:
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    cells: list[dict[str, Any]] = book["cells"]
    return cells


def run(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; return what a notebook shows of its last line."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return shown._repr_html_() if hasattr(shown, "_repr_html_") else shown


def test_there_is_one_for_each_kind_of_user() -> None:
    assert [book.stem for book in BOOKS] == ["maps", "photos", "research"]


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_it_is_stored_without_output(book: Path) -> None:
    cells = cells_of(book)
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
@pytest.mark.ids("nightly", "research")
def test_it_runs(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDED.get(book.stem, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells_of(book):
        if cell["cell_type"] == "code":
            run("".join(cell["source"]), names)
    written = {path.name for path in tmp_path.iterdir()}
    expected = {
        "maps": {"clear.tif"},
        "photos": {"fused.jpg"},
        "research": {"map.npz", "map.svg", "segments.csv"},
    }
    assert expected[book.stem] <= written
    if book.stem == "photos":
        assert names["still"] < names["clipped"] / 2
    if book.stem == "research":
        assert names["attribution"].record["attribution"]["completeness"]["reached"]
