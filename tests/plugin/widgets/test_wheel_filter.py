"""The wheel over the panel scrolls it; it changes no control that the user has not chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QWidget,
)

from napari_restore.plugin.attribution.attribution_tab import AttributionTab
from napari_restore.plugin.widgets.folding import Folded

pytestmark = [pytest.mark.viewer, pytest.mark.binding]


def turn(control: QWidget, steps: int = -1) -> bool:
    """Turn the wheel over a control; whether it keeps the event from what it lies in."""
    centre = QPointF(control.rect().center())
    event = QWheelEvent(
        centre,
        control.mapToGlobal(centre),
        QPoint(),
        QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(control, event)
    return bool(event.isAccepted())


def value(control: QWidget) -> Any:
    if isinstance(control, (QComboBox, QTabBar)):
        return control.currentIndex()
    if isinstance(control, QAbstractSpinBox):
        return control.text()
    assert isinstance(control, QAbstractSlider)
    return control.value()


def controls(panel: Any) -> list[QWidget]:
    """All in sight that could follow the wheel."""
    kinds = (QComboBox, QAbstractSpinBox, QAbstractSlider, QTabBar)
    found = [c for c in panel.findChildren(QWidget) if isinstance(c, kinds)]
    return [c for c in found if c.isVisibleTo(panel) and not isinstance(c, QScrollBar)]


@pytest.fixture
def open_panel(panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The panel with an image of unknown bands, everything unfolded, in a low window."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file dialog was opened")

    monkeypatch.setattr(QFileDialog, "getOpenFileName", refuse)
    window = panel.window()
    window.resize(900, 560)
    window.show()
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 64), np.uint16)
    panel.viewer.add_image(pixels[0], name="scene")
    panel.models.choose("dcp")
    parts = panel.findChildren(Folded)
    # Of some only one is open: the one with sliders.
    for part in sorted(parts, key=lambda part: part.text() == "Adjust"):
        part.open()
    (scroll,) = panel.findChildren(QScrollArea)
    qtbot.waitUntil(lambda: scroll.verticalScrollBar().maximum() > 0)
    return panel


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["Restore", AttributionTab.TITLE])
@pytest.mark.ids("nightly", "Restore")
def test_the_wheel_scrolls_and_changes_nothing(open_panel: Any, qtbot: Any, tab: str):
    panel = open_panel
    panel.tabs.choose(tab)
    QApplication.processEvents()
    found = controls(panel)
    for kind in (QComboBox, QAbstractSpinBox, QTabBar):
        assert any(isinstance(control, kind) for control in found)
    panel.bar.button.setFocus()
    for control in found:
        before = value(control)
        for steps in (-1, 1):
            assert not turn(control, steps), control
            assert value(control) == before, control
        # Qt gives it before the event to those that ask for it.
        assert control.focusPolicy() != Qt.FocusPolicy.WheelFocus, control


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(QTest, "wheelEvent"), reason="PyQt's QTest turns no wheel")
@pytest.mark.parametrize("kind", [QComboBox, QAbstractSpinBox, QAbstractSlider, QTabBar])
@pytest.mark.ids("nightly", "QAbstractSpinBox", "QAbstractSlider", "QComboBox")
def test_the_panel_follows_the_wheel_over_a_control(
    open_panel: Any, qtbot: Any, kind: type[QWidget]
):
    panel = open_panel
    window = panel.window()
    (scroll,) = panel.findChildren(QScrollArea)
    bar = scroll.verticalScrollBar()
    control = next(c for c in controls(panel) if isinstance(c, kind) and scroll.isAncestorOf(c))
    scroll.ensureWidgetVisible(control, 0, scroll.height() // 3)
    # Turned the way in which there is room.
    steps = -1 if bar.value() < bar.maximum() else 1
    before, place = value(control), bar.value()
    assert not control.hasFocus()
    centre = control.mapTo(window, control.rect().center())
    # As the window system delivers it: Qt itself passes on what the control ignores.
    QTest.wheelEvent(window.windowHandle(), QPointF(centre), QPoint(0, 120 * steps))
    assert (bar.value() - place) * steps < 0
    assert value(control) == before


@pytest.mark.slow
def test_a_choice_that_was_just_made_stays_while_the_panel_scrolls(open_panel: Any):
    combo = open_panel.exclude.combo
    combo.setFocus()
    before = combo.currentIndex()
    turn(combo)
    assert combo.currentIndex() == before


@pytest.mark.slow
def test_a_number_with_the_focus_follows_the_wheel(
    open_panel: Any, monkeypatch: pytest.MonkeyPatch
):
    memory = open_panel.memory
    assert not turn(memory, 1)
    assert memory.value() == 0
    # No window is active on a display without a window manager.
    monkeypatch.setattr(memory, "hasFocus", lambda: True)
    assert turn(memory, 1)
    assert memory.value() == 0.5


@pytest.mark.slow
def test_controls_made_later_ignore_it_too(open_panel: Any, qtbot: Any):
    open_panel.models.choose("htm")
    QApplication.processEvents()
    rows = [row.native for row in open_panel.parameters.rows.values()]
    mine = [c for c in controls(open_panel) if any(r is c or r.isAncestorOf(c) for r in rows)]
    assert mine
    for control in mine:
        before = value(control)
        turn(control)
        assert value(control) == before
