"""The dialog for the name of a file asks about the very file that would be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QCoreApplication, Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QMessageBox, QWidget

from napari_restore.plugin.results.save_dialog import ask_save_path, store_around

pytestmark = [pytest.mark.viewer, pytest.mark.binding]
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


def test_a_name_without_a_suffix_is_confirmed_with_it(parent: QWidget, tmp_path: Path):
    (tmp_path / "there.json").write_text("{}")
    asked: list[str] = []
    QTimer.singleShot(0, lambda: typed("there", asked))
    assert ask_save_path(parent, "Save", tmp_path / "new.json", "JSON") is None
    assert len(asked) == 1 and "there.json" in asked[0]


def test_a_free_name_gets_the_suffix_without_a_dialog(parent: QWidget, tmp_path: Path):
    asked: list[str] = []
    QTimer.singleShot(0, lambda: typed("größe", asked))
    chosen = ask_save_path(parent, "Save", tmp_path / "new.json", "JSON")
    assert chosen == tmp_path / "größe.json" and asked == []


@pytest.mark.parametrize("step", ["proposed", "typed"])
def test_a_zarr_store_is_not_saved_inside_another(parent: QWidget, tmp_path: Path, step: str):
    store = tmp_path / "scene.zarr"
    store.mkdir()
    proposed = store if step == "proposed" else tmp_path / "new.zarr"
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    begun: list[tuple[Path, str]] = []

    def save() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QFileDialog)
        name = dialog.findChild(QLineEdit, "fileNameEdit")
        begun.append((Path(dialog.directory().absolutePath()), name.text()))
        name.setText("scene.zarr")
        # Qt enters the folder of that name first.
        dialog.accept()
        assert dialog.isVisible() and Path(dialog.directory().absolutePath()) == store
        name.setText("scene.zarr")
        dialog.accept()

    QTimer.singleShot(0, save)
    assert ask_save_path(parent, "Export", proposed, "OME-Zarr") is None
    assert begun == [(tmp_path, proposed.name)]
    assert shown == [
        "scene.zarr is a zarr store that exists: nothing is saved inside it. "
        "Choose another name, or delete the store first."
    ]


def test_a_new_zarr_store_beside_another_is_fine(parent: QWidget, tmp_path: Path):
    (tmp_path / "scene.zarr").mkdir()
    asked: list[str] = []
    QTimer.singleShot(0, lambda: typed("other", asked))
    chosen = ask_save_path(parent, "Export", tmp_path / "scene_2.zarr", "OME-Zarr")
    assert chosen == tmp_path / "other.zarr" and asked == []


@pytest.mark.parametrize("mark", ["zarr.json", ".zgroup"])
def test_a_store_is_known_by_its_files(tmp_path: Path, mark: str):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / mark).write_text("{}")
    assert store_around(tmp_path / "scene" / "0" / "new.zarr") == tmp_path / "scene"
    assert store_around(tmp_path / "scene") is None
