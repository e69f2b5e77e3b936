"""The panel is as wide as is comfortable where the window has room, and stays as the user drags it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QComboBox, QDockWidget, QToolTip

from napari_restore.plugin import NARROWEST, USUAL

pytestmark = [pytest.mark.viewer, pytest.mark.own_window, pytest.mark.binding]


@pytest.mark.slow
def test_the_panel_takes_its_usual_width_once(make_napari_viewer: Any, qtbot: Any):
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1500, 700)
    _, panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    qtbot.waitUntil(lambda: panel.width() == USUAL)
    dock = next(d for d in window.findChildren(QDockWidget) if d.isAncestorOf(panel))
    window.resizeDocks([dock], [NARROWEST + 20], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: panel.width() == NARROWEST + 20)
    dock.hide()
    dock.show()
    window.resize(1600, 700)
    qtbot.waitUntil(lambda: window.width() == 1600)
    QApplication.processEvents()
    assert panel.width() == NARROWEST + 20


@pytest.mark.slow
def test_choices_that_do_not_fit_are_elided_with_a_tooltip(
    panel: Any, qtbot: Any, monkeypatch: Any
):
    window = panel.viewer.window._qt_window
    window.show()
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="a_scene_with_a_long_name_2015")
    panel.setFixedWidth(NARROWEST)
    combo = panel.image
    qtbot.waitUntil(lambda: combo.isVisible() and combo.width() < NARROWEST)
    assert combo.shown_text().startswith("a_scene") and combo.shown_text().endswith("…")
    reported: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _, text, *__: reported.append(text))
    at = QPoint(5, 5)
    QApplication.sendEvent(combo, QHelpEvent(QEvent.Type.ToolTip, at, combo.mapToGlobal(at)))
    assert reported[0].startswith("a_scene_with_a_long_name_2015")
    assert panel.models.combo.shown_text() == panel.models.combo.currentText()
    # What is typed is scrolled, not elided.
    chosen = [c for c in panel.findChildren(QComboBox) if not c.isEditable()]
    uncut = [c for c in chosen if not hasattr(c, "shown_text")]
    assert uncut == []
