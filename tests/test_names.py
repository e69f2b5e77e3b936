"""One class name has one meaning in the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "napari_restore"
LAYERS = {"GatedMLP", "WindowAttention"}
"""Layers that two networks have, each its own kind, under the name that the literature gives them."""


@pytest.mark.static
def test_no_two_classes_have_the_same_name():
    places: dict[str, list[str]] = defaultdict(list)
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(file.relative_to(SOURCE).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1}.keys() == LAYERS
