"""A walk through the window in which nothing goes wrong: no exception, no error or warning told.

Under both bindings of Qt: see the Makefile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.compat import isalive
from qtpy.QtCore import QEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMainWindow
from tests.images.brackets.photos import two_brackets

from napari_restore import Region
from napari_restore.plugin import RestorePanel
from napari_restore.plugin.compare.compare_section import CompareSection
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.state.request import ChosenMethod
from napari_restore.plugin.widgets.folding import Folded

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


@pytest.fixture
def nothing_told(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No notification but notes, and no traceback in the terminal."""
    known = len(notification_manager.records)
    yield
    told = [(str(one.severity), one.message) for one in notification_manager.records[known:]]
    assert [one for one in told if one[0] != "info"] == []
    assert "Traceback" not in capfd.readouterr().err


def shown(panel: Any) -> None:
    """Let Qt lay out and paint what is open."""
    QApplication.processEvents()
    panel.grab()
    QApplication.processEvents()


def end(panel: Any) -> None:
    """Destroy a window that was closed, as Qt's event loop does."""
    if isalive(panel):
        QApplication.sendPostedEvents(panel.window(), QEvent.Type.DeferredDelete.value)
    assert not isalive(panel)


def section(panel: Any, kind: type) -> Any:
    return next(each for each in panel.sections if isinstance(each, kind))


def test_every_part_opens(panel: Any, nothing_told: None, finished_run: Any, qtbot: Any):
    viewer = panel.viewer
    # napari warns of a grid on a canvas that is too small for one.
    panel.window().resize(1366, 768)
    panel.window().show()
    shown(panel)
    viewer.open_sample("napari-restore", "hazy-town")
    shown(panel)
    for number in range(panel.models.combo.count()):
        if panel.models.combo.model().item(number).isEnabled():
            panel.models.combo.setCurrentIndex(number)
            shown(panel)
    panel.models.choose("dcp")
    for number in range(panel.target.combo.count()):
        panel.target.combo.setCurrentIndex(number)
    panel.target.combo.setCurrentIndex(0)
    for title in ("Fuse", "Attribution", "Attention", "Restore"):
        panel.tabs.choose(title)
        shown(panel)
    viewer.scene.camera.zoom *= 8
    finished_run()
    for part in panel.findChildren(Folded):
        part.open()
        shown(panel)
    compare = section(panel, CompareSection)
    for button in (compare.swipe, compare.sides):
        button.setChecked(True)
        shown(panel)
        button.setChecked(False)
    section(panel, ExportSection).copy.click()
    for theme in ("light", "dark"):
        viewer.theme = theme
        shown(panel)


def attribution(panel: Any, _: Path) -> None:
    panel.tabs.choose("Attribution")
    panel.models.choose("dcp")
    panel.attribution.target.add_box(Region(100, 100, 164, 164))
    panel.attribution.bar.button.click()


def attention(panel: Any, _: Path) -> None:
    panel.tabs.choose("Attention")
    panel.models.choose("hint-small-denoise")
    panel.attention.bar.button.click()


def fusion(panel: Any, folder: Path) -> None:
    # napari warns of photos beside a map, whose units differ.
    panel.viewer.layers.clear()
    panel.tabs.choose("Fuse")
    panel.fusion.add([str(two_brackets(folder))])


def live(panel: Any, _: Path) -> None:
    panel.bar.set_live(True)


def run(panel: Any, _: Path) -> None:
    panel.models.choose("dcp")
    panel.advanced.tile.setValue(128)
    panel.bar.button.click()


@pytest.mark.parametrize("wait", [0, 50, 500])
@pytest.mark.parametrize("begin", [run, live, fusion, attribution, attention])
@pytest.mark.ids(
    "nightly",
    "live-0",
    "live-50",
    "attention-0",
    "run-50",
    "fusion-50",
    "fusion-0",
    "attention-50",
    "live-500",
    "fusion-500",
    "run-500",
    "attention-500",
    "attribution-50",
    "attribution-500",
    "run-0",
)
def test_a_window_is_closed_over_what_is_under_way(
    make_napari_viewer: Any,
    sample: Path,
    tmp_path: Path,
    qtbot: Any,
    nothing_told: None,
    begin: Callable[[Any, Path], None],
    wait: int,
):
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    viewer.open(sample, plugin="napari-restore")
    begin(panel, tmp_path)
    task = panel.runs.task
    QTest.qWait(wait)
    viewer.close()
    end(panel)
    if task is not None:
        qtbot.waitUntil(lambda: task.is_over)
    # What the threads have sent is delivered, to nobody.
    for _ in range(5):
        QTest.qWait(20)


def test_layers_outlive_the_window_of_the_panel(
    make_napari_viewer: Any, qtbot: Any, nothing_told: None
):
    viewer = make_napari_viewer()
    panel = RestorePanel(viewer)
    # Not napari's, whose own parts fail once that is gone.
    window = QMainWindow()
    window.setCentralWidget(panel)
    window.show()
    image = np.full((90, 120, 3), 90, np.uint8)
    viewer.add_image(image)
    shown(panel)
    state = panel.state
    window.deleteLater()
    end(panel)
    viewer.add_image(image)
    viewer.scene.camera.zoom *= 2
    viewer.layers.pop()
    state.method = ChosenMethod("hot")
    QTest.qWait(100)


def test_photos_open_whole_and_maps_in_view(panel: Any, tmp_path: Path, sample: Path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((800, 1200), 90, np.uint8)).save(path)
    viewer = panel.viewer
    viewer.open(path, plugin="napari-restore")
    camera = viewer.scene.camera
    for size in ((300, 500), (700, 300)):
        viewer.canvas.size = size
        assert camera.zoom * 1200 <= size[1] and camera.zoom * 800 <= size[0]
    camera.zoom *= 4
    zoom = camera.zoom
    viewer.canvas.size = (400, 400)
    assert camera.zoom == zoom
    assert panel.target.combo.currentText() == "Whole image"
    # It is grey, and what is recommended for photos of colours runs.
    assert panel.models.combo.currentText().startswith("★")
    assert panel.state.request().area.region == Region(0, 0, 800, 1200)
    viewer.layers.clear()
    viewer.open(sample, plugin="napari-restore")
    assert panel.target.combo.currentText() == "Visible region"
    # What the user has chosen stays.
    panel.target.combo.setCurrentIndex(panel.target.combo.findText("Drawn areas"))
    viewer.open(path, plugin="napari-restore")
    assert panel.target.combo.currentText() == "Drawn areas"
