"""The window of a photographer on a small laptop, used with the mouse.

At 1366 × 768, and, in a child process, at 200 % on a screen of 1600 × 1000.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox, QScrollArea, QWidget
from tests.images.brackets.photos import shoot, two_brackets

from napari_restore.plugin.compare.compare_section import CompareSection
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.widgets.folding import Folded

pytestmark = [pytest.mark.viewer, pytest.mark.binding]
IS_DOUBLE = os.environ.get("QT_SCALE_FACTOR") == "2"
SCREEN = (800, 500) if IS_DOUBLE else (1366, 768)
"""Width and height in pixels of Qt."""
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def window(make_napari_viewer: Any, qtbot: Any) -> Iterator[Any]:
    """The panel in a window as large as the screen, opened as `view` does."""
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    panel.window().resize(*SCREEN)
    qtbot.waitUntil(panel.isVisible)
    panel.models.choose("identity")
    yield panel
    panel.runs.cancel()


@pytest.fixture
def slow_clicks() -> Iterator[None]:
    """However busy the machine, clicks follow each other as quickly as those of a double click."""
    usual = QApplication.doubleClickInterval()
    QApplication.setDoubleClickInterval(600_000)
    yield
    QApplication.setDoubleClickInterval(usual)


def photo(folder: Path, name: str, width: int = 900, height: int = 600) -> Path:
    """Write a photo with levels, of one grey."""
    path = folder / name
    Image.fromarray(np.full((height, width, 3), len(name) * 9, np.uint8)).save(path, quality=90)
    return path


def opened(panel: Any, qtbot: Any, *paths: Path) -> None:
    for path in paths:
        panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("identity")
    qtbot.waitUntil(lambda: "tile" in panel.bar.plan_line.text())


def click(widget: QWidget, at: QPoint | None = None) -> None:
    """Press and release the mouse over a widget, which must be what is seen there."""
    at = widget.rect().center() if at is None else at
    window = widget.window()
    assert window.childAt(widget.mapTo(window, at)) is widget, widget
    QTest.mouseClick(widget, LEFT, pos=at)


def unfolded(panel: Any, section: QWidget, qtbot: Any) -> None:
    """Open a section, and wait until it has been scrolled into view."""
    part: Any = section
    while not isinstance(part, Folded):
        part = part.parentWidget()
    viewport = panel.findChild(QScrollArea).viewport()
    part.heading.click()

    def in_sight() -> bool:
        top = part.mapTo(viewport, QPoint(0, 0)).y()
        needed = section.layout().totalHeightForWidth(section.width())
        below = top + part.height() - viewport.height()
        return section.height() >= needed and (top == 0 or (top > 0 and below <= 0))

    qtbot.waitUntil(in_sight)
    # The panel goes on for a while to look whether it grows, by timers of the part.
    direct = Qt.FindChildOption.FindDirectChildrenOnly
    qtbot.waitUntil(lambda: not part.findChildren(QTimer, options=direct))


def run(panel: Any, qtbot: Any) -> None:
    """Click Run and wait for the end."""
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome))
    click(panel.bar.button)
    qtbot.waitUntil(lambda: bool(reported))
    assert reported[0][0] == "done", reported


@pytest.mark.nightly
def test_the_canvas_has_half_of_the_window_and_the_photo_fits(
    window: Any, qtbot: Any, tmp_path: Path
):
    panel, main = window, window.window()
    opened(panel, qtbot, photo(tmp_path, "a.jpg", 1200, 900))
    canvas = main.centralWidget()
    # At 200 percent napari's own docks leave no half, and need more height.
    least = panel.minimumWidth()
    qtbot.waitUntil(lambda: canvas.width() >= main.width() / 2 or panel.width() == least)
    assert main.width() <= SCREEN[0] and panel.minimumSizeHint().height() <= SCREEN[1]
    assert panel.state.target is TargetChoice.WHOLE
    # All of the photo is in view, and fills it.
    height, width = panel.viewer.canvas.size
    zoom = panel.viewer.scene.camera.zoom
    shown = max(1200 * zoom / width, 900 * zoom / height)
    assert 0.9 < shown <= 1


@pytest.mark.slow
def test_one_photo_is_shown_at_a_time(window: Any, qtbot: Any, tmp_path: Path):
    panel, viewer = window, window.viewer
    opened(panel, qtbot, photo(tmp_path, "a.jpg"), photo(tmp_path, "other.jpg", 300, 250))
    strip = panel.form.photos.list

    def press(number: int) -> None:
        place = strip.visualItemRect(strip.item(number)).center()
        click(strip.viewport(), place)
        # The photo is shown once napari's list of layers is at rest.
        QApplication.processEvents()

    def visible() -> list[str]:
        return [layer.name for layer in viewer.layers if layer.visible]

    assert visible() == ["other"] and panel.state.layer.name == "other"
    press(0)
    assert visible() == ["a"]
    run(panel, qtbot)
    assert visible() == ["a", "Unchanged (whole image) – a"]
    zoom = viewer.scene.camera.zoom
    press(1)
    assert visible() == ["other"] and viewer.scene.camera.zoom > 2 * zoom
    # No result of what is not seen is adjusted or exported.
    assert panel.state.current is None
    fitted = viewer.scene.camera.zoom
    viewer.scene.camera.zoom = fitted * 5
    viewer.reset_view()
    assert viewer.scene.camera.zoom == pytest.approx(fitted)
    press(0)
    assert visible() == ["a", "Unchanged (whole image) – a"]
    assert panel.state.current.source.name == "a"
    # In the grid each has a place of its own.
    viewer.canvas.grid.enabled = True
    assert len(visible()) == 3
    viewer.canvas.grid.enabled = False
    QApplication.processEvents()
    assert visible() == ["a", "Unchanged (whole image) – a"]
    # But not beside a result and its source.
    compare = next(each for each in panel.sections if isinstance(each, CompareSection))
    compare.sides.click()
    assert visible() == ["a", "Unchanged (whole image) – a"]
    compare.sides.click()
    QApplication.processEvents()
    assert visible() == ["a", "Unchanged (whole image) – a"]
    # A photo that the user has hidden himself is not brought back.
    viewer.layers["Unchanged (whole image) – a"].visible = False
    press(1)
    press(0)
    assert visible() == ["a"]
    # Without the panel all that it had hidden is seen, where it was.
    window.close()
    assert visible() == ["a", "other"]


@pytest.mark.usefixtures("slow_clicks")
@pytest.mark.slow
@pytest.mark.nightly
def test_buttons_stay_where_they_are(window: Any, qtbot: Any, tmp_path: Path):
    panel = window
    opened(panel, qtbot, photo(tmp_path, "a.jpg"))
    export = next(each for each in panel.sections if isinstance(each, ExportSection))
    unfolded(panel, export, qtbot)
    places: dict[QWidget, list[tuple[int, int]]] = {}

    def is_laid_out() -> bool:
        return export.height() >= export.layout().totalHeightForWidth(export.width())

    def look(*_: Any) -> None:
        for button in (panel.bar.button, export.export) if is_laid_out() else ():
            corner = button.mapToGlobal(QPoint(0, 0))
            places.setdefault(button, []).append((corner.x(), corner.y()))

    def note() -> None:
        qtbot.waitUntil(is_laid_out)
        look()

    note()
    panel.runs.message.connect(look)
    panel.runs.progressed.connect(look)
    run(panel, qtbot)
    note()
    assert panel.bar.message.text().startswith("Done")
    ended: list[Any] = []
    export.ended.connect(lambda *outcome: ended.append(outcome))
    export.save(panel.state.current, tmp_path / "saved.jpg")
    assert not export.cancel.isHidden()
    # A click that was meant for what was there before.
    QTest.mouseClick(export.cancel, LEFT)
    assert export.cancel.isEnabled()
    note()
    qtbot.waitUntil(lambda: bool(ended))
    note()
    assert ended[0][0] == "done"
    for found in places.values():
        assert np.ptp(found, axis=0).max() == 0, places


@pytest.mark.usefixtures("slow_clicks")
@pytest.mark.slow
def test_a_double_click_starts_one_run(window: Any, qtbot: Any, tmp_path: Path):
    panel = window
    opened(panel, qtbot, photo(tmp_path, "a.jpg"))
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome[0]))
    click(panel.bar.button)
    QTest.mouseDClick(panel.bar.button, LEFT)
    qtbot.waitUntil(lambda: bool(reported))
    assert reported == ["done"]


@pytest.mark.slow
def test_a_part_is_exported_after_a_question(
    window: Any,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_as: Callable[[Path | None], list[str]],
):
    panel = window
    opened(panel, qtbot, photo(tmp_path, "a.jpg"))
    panel.target.choose(TargetChoice.VISIBLE)
    panel.viewer.scene.camera.zoom *= 3
    qtbot.waitUntil(lambda: panel.state.area is not None and panel.state.area.region.width < 800)
    run(panel, qtbot)
    export = next(each for each in panel.sections if isinstance(each, ExportSection))
    asked: list[str] = []

    def press(name: str) -> Callable[[QMessageBox], int]:
        def answer(box: QMessageBox) -> int:
            asked.append(box.text())
            next(each for each in box.buttons() if each.text() == name).click()
            return 0

        return answer

    titles = save_as(None)
    monkeypatch.setattr(QMessageBox, "exec", press("Export the part"))
    export.export.click()
    assert "a part" in asked[0] and "of 900 × 600 pixels" in asked[0] and len(titles) == 1
    monkeypatch.setattr(QMessageBox, "exec", press("Restore the whole image"))
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome))
    export.export.click()
    qtbot.waitUntil(lambda: bool(reported))
    assert panel.state.current.result.region.shape == (600, 900) and len(titles) == 1
    export.export.click()
    assert len(asked) == 2 and titles[1] == "Export"


def drop(widget: QWidget, *paths: Path) -> bool:
    """Drop files where a widget lies, as Qt passes them on from there; returns whether all were taken."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    place, copy = widget.rect().center(), Qt.DropAction.CopyAction
    none = Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(place, copy, data, LEFT, none)
    QApplication.sendEvent(widget, entering)
    dropping = QDropEvent(QPointF(place), copy, data, LEFT, none)
    if entering.isAccepted():
        QApplication.sendEvent(widget, dropping)
    assert dropping.type() == QEvent.Type.Drop
    return entering.isAccepted() and dropping.isAccepted()


@pytest.mark.slow
def test_fuse_takes_a_drop_anywhere_and_says_what_it_did(
    window: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    panel, tab = window, window.fusion
    folder = two_brackets(tmp_path)
    shoot(folder, "single.jpg", 5000, 0)
    (folder / "notes.txt").write_text("f/8")
    panel.tabs.choose("Fuse")
    qtbot.waitUntil(tab.isVisible)
    QApplication.processEvents()
    with monkeypatch.context() as patch:
        taken: list[Any] = []
        patch.setattr(tab.controller, "add_paths", taken.append)
        places = [QPoint(x, y) for y in range(0, panel.height(), 24) for x in (20, 120, 300)]
        below = {panel.childAt(place) for place in places} - {None}
        for number, widget in enumerate(below, 1):
            assert drop(widget, folder) and len(taken) == number, widget
    drop(panel.bar, folder, folder / "notes.txt")
    qtbot.waitUntil(
        lambda: tab.controller.chosen.bracket is not None and not tab.controller.is_busy
    )
    assert tab.message.text() == (
        "notes.txt is no photo: left out.\n6 photos are 2 brackets; the list below has all. "
        "single.jpg belongs to no bracket and is left out.\n"
        "It has no colour profile and is taken as sRGB."
    )
    drop(panel.bar, folder)
    qtbot.waitUntil(lambda: "already" in tab.message.text())
    assert tab.group.count() == 2
    drop(panel.bar, folder / "notes.txt")
    assert tab.message.text() == "notes.txt is no photo: left out."
    # The layer of a bracket that was removed comes again.
    panel.viewer.layers.remove(tab.controller.chosen.layer)
    drop(panel.bar, folder)
    qtbot.waitUntil(lambda: tab.controller.chosen.layer is not None and not tab.controller.is_busy)
    assert tab.group.count() == 2


@pytest.mark.nightly
def test_words_of_photographers(window: Any, qtbot: Any, tmp_path: Path):
    panel = window
    opened(panel, qtbot, photo(tmp_path, "a.jpg"))
    panel.models.choose("atmosphere")
    export = next(each for each in panel.sections if isinstance(each, ExportSection))
    titles = [export.format.itemText(number) for number in range(export.format.count())]
    assert titles[:4] == ["TIFF", "PNG", "JPEG", "WebP"]
    assert export.format.currentText() == "JPEG" and export.quality.text() == "95"
    words = " ".join(
        each.text()
        for each in panel.findChildren(QWidget)
        if callable(getattr(each, "text", None)) and not each.visibleRegion().isEmpty()
    )
    for word in ("airlight", "swept", "uint8", "GeoTIFF", "transmission"):
        assert word not in words


@pytest.mark.slow
@pytest.mark.skipif(IS_DOUBLE, reason="this is the child")
@pytest.mark.nightly
def test_the_same_at_200_percent():
    environment = os.environ | {"QT_SCALE_FACTOR": "2"}
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", __file__]
    child = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout[-3000:] + child.stderr[-2000:]
