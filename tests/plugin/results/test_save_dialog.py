"""The dialog for the name of a file asks about the very file that would be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QCoreApplication, Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QMessageBox, QWidget

from napari_restore.plugin.results._save_dialog import ask_save_path

pytestmark = pytest.mark.viewer
NATIVE = Qt.ApplicationAttribute.AA_DontUseNativeDialogs


@pytest.fixture
def parent(qtbot: Any) -> Iterator[QWidget]:
    """Under dialogs whose parts a test can reach."""
    before = QCoreApplication.testAttribute(NATIVE)
    QCoreApplication.setAttribute(NATIVE, True)
    widget = QWidget()
    qtbot.addWidget(widget)
    yield widget
    QCoreApplication.setAttribute(NATIVE, before)


def typed(name: str, asked: list[str]) -> None:
    """Enter `name` in the open dialog; refuse to replace, then cancel."""
    dialog = QApplication.activeModalWidget()
    assert isinstance(dialog, QFileDialog)
    dialog.findChild(QLineEdit, "fileNameEdit").setText(name)

    def refuse() -> None:
        question = QApplication.activeModalWidget()
        if isinstance(question, QMessageBox):
            asked.append(question.text())
            question.reject()

    QTimer.singleShot(0, refuse)
    dialog.accept()
    if dialog.isVisible():
        dialog.reject()


def test_a_name_without_a_suffix_is_asked_about_with_it(parent: QWidget, tmp_path: Path):
    (tmp_path / "there.json").write_text("{}")
    asked: list[str] = []
    QTimer.singleShot(0, lambda: typed("there", asked))
    assert ask_save_path(parent, "Save", tmp_path / "new.json", "JSON") is None
    assert len(asked) == 1 and "there.json" in asked[0]


def test_a_free_name_gets_the_suffix_unasked(parent: QWidget, tmp_path: Path):
    asked: list[str] = []
    QTimer.singleShot(0, lambda: typed("größe", asked))
    chosen = ask_save_path(parent, "Save", tmp_path / "new.json", "JSON")
    assert chosen == tmp_path / "größe.json" and asked == []
