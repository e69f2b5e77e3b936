"""Files, folders and brackets that are dropped on the window, or opened from its menu."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QMessageBox, QWidget
from tests.images.brackets.photos import two_brackets

from napari_restore.plugin.layers.reader import get_reader, read

pytestmark = [pytest.mark.viewer, pytest.mark.binding]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three photos without times, and a text."""
    folder = tmp_path / "trip"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((40 + 8 * number, 60, 3), 90, np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"p{number}.png")
    (folder / "notes.txt").write_text("f/8")
    return folder


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A function that answers questions with the button of a text: gives the questions."""

    def answer(text: str) -> list[str]:
        asked: list[str] = []

        def press(box: QMessageBox) -> int:
            asked.append(box.text())
            next(button for button in box.buttons() if button.text() == text).click()
            return 0

        monkeypatch.setattr(QMessageBox, "exec", press)
        return asked

    return answer


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is told meanwhile."""
    said: list[str] = []
    ready = notification_manager.notification_ready
    keep = ready.connect(lambda one: said.append(one.message))
    yield said
    ready.disconnect(keep)


@pytest.fixture
def canvas(panel: Any) -> Any:
    """What napari takes drops with, watched as when the window is shown."""
    panel.opener.watch(panel.window())
    return panel.viewer.window._qt_viewer


def drop(widget: QWidget, *paths: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    with_left = Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    at = widget.rect().center()
    entering, dropping = (
        QDragEnterEvent(at, *with_left, none),
        QDropEvent(QPointF(at), *with_left, none),
    )
    QApplication.sendEvent(widget, entering)
    assert entering.isAccepted()
    QApplication.sendEvent(widget, dropping)
    assert dropping.isAccepted()


def names(panel: Any) -> list[str]:
    return sorted(str(layer.name) for layer in panel.viewer.layers)


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["canvas", "Restore", "Attribution", "Attention"])
@pytest.mark.ids("nightly", "Restore", "Attention", "Attribution")
def test_a_folder_opens_one_by_one_wherever_it_is_dropped(
    panel: Any, canvas: QWidget, photos: Path, qtbot: Any, tab: str, answer: Any
) -> None:
    asked = answer("Each by itself")
    if tab != "canvas":
        panel.tabs.choose(tab)
    drop(canvas if tab == "canvas" else panel, photos)
    # The window goes on before the first one is there.
    assert names(panel) == []
    qtbot.waitUntil(lambda: panel.opener.message.text() == "Opening 2 of 3: p1.png")
    assert panel.opener.progress.value() == 1 and not panel.opener.isHidden()
    qtbot.waitUntil(lambda: names(panel) == ["p0", "p1", "p2"])
    assert panel.opener.isHidden()
    assert asked == ["3 photos: one bracket, or each by itself?"]


@pytest.mark.slow
@pytest.mark.parametrize("as_files", [True, False], ids=["files", "folder"])
@pytest.mark.parametrize("place", ["canvas", "panel"])
@pytest.mark.ids("nightly", "canvas-folder", "panel-files")
def test_a_bracket_is_asked_about(
    panel: Any, canvas: QWidget, tmp_path: Path, qtbot: Any, place: str, as_files: bool, answer: Any
) -> None:
    folder = two_brackets(tmp_path)
    files = sorted(folder.iterdir())[:3] if as_files else [folder]
    where = canvas if place == "canvas" else panel
    title = "One bracket" if as_files else "2 brackets"
    asked = answer(title)
    with qtbot.waitSignal(panel.fusion.controller.groups_changed):
        drop(where, *files)
    assert asked == [f"{3 if as_files else 6} photos: {title.lower()}, or each by itself?"]
    assert not panel.fusion.isHidden() and len(panel.fusion.controller.groups) == 2 - as_files
    panel.fusion.clear.click()
    panel.tabs.choose("Restore")
    answer("Each by itself")
    drop(where, *files)
    qtbot.waitUntil(lambda: names(panel)[:3] == ["a0", "a1", "a2"])
    panel.opener.stop()


def test_what_no_one_opens_gets_a_sentence(
    panel: Any, canvas: QWidget, photos: Path, qtbot: Any, told: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for place in (canvas, panel):
        told.clear()
        drop(place, photos / "notes.txt")
        drop(place, tmp_path / "empty")
        assert told == [
            "notes.txt holds no image that can be opened.",
            "empty holds no image that can be opened.",
        ]
        told.clear()
        panel.viewer.layers.clear()
        drop(place, photos / "p0.png", photos / "notes.txt", tmp_path / "empty")
        assert told == ["notes.txt and 1 more hold no image that can be opened."]
        qtbot.waitUntil(lambda: names(panel) == ["p0"])
    assert panel.opener.isHidden()


def test_opening_is_cancelled_and_says_what_is_missing(
    panel: Any, photos: Path, qtbot: Any, told: list[str], answer: Any
) -> None:
    answer("Each by itself")
    (photos / "p1.png").write_bytes(b"no picture")
    panel.opener.open([str(photos)])
    qtbot.waitUntil(lambda: panel.opener.message.text() == "Opening 3 of 3: p2.png")
    panel.opener.cancel.click()
    assert names(panel) == ["p0"] and panel.opener.isHidden()
    assert told[-1] == "1 of 3 images opened; not p1.png, p2.png."


def test_a_folder_from_the_menu_is_opened_by_the_panel(
    viewer: Any, photos: Path, qtbot: Any, answer: Any
) -> None:
    answer("Each by itself")
    viewer.open(photos, plugin="napari-restore")
    (panel,) = viewer.window.dock_widgets.values()
    qtbot.waitUntil(lambda: names(panel) == ["p0", "p1", "p2"])


def test_without_a_window_a_folder_is_all_of_its_images(photos: Path) -> None:
    reader = get_reader(str(photos))
    assert reader is not None and reader is not read
    assert [layer[1]["name"] for layer in reader(str(photos))] == ["p0", "p1", "p2"]
    assert get_reader(str(photos / "notes.txt")) is None
