"""What napari-restore-lab takes of the program: the names of `extension`, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from napari_restore import extension

LAB = Path(__file__).resolve().parent.parent / "lab"
SOURCES = sorted((LAB / "src").rglob("*.py"))


def taken(text: str) -> set[str]:
    """Return the dotted names that a module imports from the program."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if re.match(r"napari_restore(\.|$)", node.module or "")]
    return {f"{node.module}.{alias.name}" for node in ours for alias in node.names}


@pytest.mark.static
def test_the_lab_takes_all_names_and_no_others() -> None:
    found = set().union(*(taken(path.read_text("utf-8")) for path in SOURCES))
    found -= {"napari_restore.extension"}
    assert found == {f"napari_restore.extension.{name}" for name in extension.__all__}


@pytest.mark.parametrize("name", extension.__all__)
def test_a_name_is_there(name: str) -> None:
    assert getattr(extension, name) is not None


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        extension.nothing  # noqa: B018


@pytest.mark.parametrize("command", ["haze", "train", "evaluate"])
def test_without_the_lab_its_commands_say_what_to_install(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_restore.commands import main

    monkeypatch.setattr("importlib.metadata.entry_points", lambda **asked: ())
    for words in ([command, "--some", "words"], [command, "--help"]):
        assert main(words) == 2
        assert "pip install napari-restore-lab" in capsys.readouterr().err
