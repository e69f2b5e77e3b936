"""By keyboard: Tab goes through what one sees, in the order in which one sees it; each control has a name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtCore import QEvent, QPoint, QRect, Qt, QTimer
from qtpy.QtGui import QFocusEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QFrame,
    QLabel,
    QLineEdit,
    QRadioButton,
    QScrollArea,
    QSlider,
    QWidget,
)
from superqt import QLabeledSlider
from tests.images.brackets.photos import two_brackets

from napari_restore.plugin.method.model_files_dialog import ProposalDialog, TrustDialog
from napari_restore.plugin.results.results_section import RecordView
from napari_restore.plugin.widgets.folding import Folded
from napari_restore.plugin.widgets.keys import FRAME

pytestmark = [pytest.mark.viewer, pytest.mark.binding, pytest.mark.slow]


def controls(root: QWidget) -> list[QWidget]:
    """All below `root` that is seen and takes Tab, in no order."""
    return [
        widget
        for widget in root.findChildren(QWidget)
        if widget.window() is root.window()
        and widget.isVisible()
        and widget.isEnabled()
        and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and widget.focusProxy() is None
    ]


def walked(root: QWidget, start: QWidget, key: Qt.Key) -> list[QWidget]:
    """Where the key goes from `start` on, which has the focus, before it leaves `root` or comes back."""
    window, found = root.window(), [start]
    while True:
        QTest.keyClick(found[-1], key)
        now = window.focusWidget()
        if now is start or not root.isAncestorOf(now):
            return found
        assert now not in found, f"{now.accessibleName()} for the second time"
        found.append(now)
        if not now.hasFocus():
            # The window system may have given it to another window.
            event = QFocusEvent(QEvent.Type.FocusIn, Qt.FocusReason.TabFocusReason)
            QApplication.sendEvent(now, event)
        assert is_in_sight(now), now.accessibleName()
        (frame,) = (each for each in now.findChildren(QFrame, FRAME) if each.parent() is now)
        assert frame.isVisible() and frame.geometry() == now.rect()


def is_in_sight(control: QWidget) -> bool:
    """Whether its upper edge, and all of it where there is room, is in what scrolls around it."""
    for scroll in control.window().findChildren(QScrollArea):
        if scroll.isAncestorOf(control):
            view = scroll.viewport().rect()
            box = QRect(control.mapTo(scroll.viewport(), QPoint(0, 0)), control.size())
            return view.top() <= box.top() and (box.bottom() <= view.bottom() or box.height() > 99)
    return True


def box_of(control: QWidget, root: QWidget) -> QRect:
    """Its place in `root`, as if what scrolls were as high as its content."""
    top = control.mapTo(root, QPoint(0, 0))
    for scroll in root.findChildren(QScrollArea):
        if scroll.isAncestorOf(control):
            top = control.mapTo(scroll.widget(), QPoint(0, 0))
        elif control.mapTo(root, QPoint(0, 0)).y() > scroll.geometry().center().y():
            top += QPoint(0, scroll.widget().height())
    return QRect(top, control.size())


def assert_in_order(chain: list[QWidget], root: QWidget) -> None:
    """Down from line to line, in each to the right."""
    for one, other in pairwise(chain):
        a, b = box_of(one, root), box_of(other, root)
        beside = a.top() < b.center().y() < a.bottom() or b.top() < a.center().y() < b.bottom()
        if not one.isAncestorOf(other):
            where = one.accessibleName(), a, other.accessibleName(), b
            assert a.right() < b.left() if beside else a.bottom() <= b.top(), where


def assert_named(root: QWidget) -> None:
    """Each that takes the focus has a name that a screen reader can say."""
    for widget in root.findChildren(QWidget):
        is_own = widget.window() is root.window() and widget.isVisible()
        is_own &= widget.focusPolicy() != Qt.FocusPolicy.NoFocus
        text = widget.text() if isinstance(widget, (QAbstractButton, QLabel)) else ""
        assert not is_own or widget.accessibleName() or text, (widget, widget.parentWidget())
    for label in root.findChildren(QLabel):
        field = label.buddy()
        if label.isVisible() and isinstance(
            field, (QAbstractSpinBox, QLineEdit, QComboBox, QAbstractSlider)
        ):
            inner = field.findChild(QSlider) or field
            assert inner.accessibleName() in (label.text(), "Index or expression"), label.text()


def assert_walked(root: QWidget) -> list[QWidget]:
    """Tab reaches each control in the order in which one sees them, and Shift + Tab back."""
    seen = controls(root)
    first = min(seen, key=lambda each: (box_of(each, root).top(), box_of(each, root).left()))
    first.setFocus()
    chain = walked(root, first, Qt.Key.Key_Tab)
    # Arrow keys go from one radio button to the next.
    left_out = {each for each in seen if isinstance(each, QRadioButton)}
    assert len(left_out & {*chain}) == bool(left_out)
    assert {*chain} - left_out == {*seen} - left_out, [
        x.accessibleName() for x in {*chain} ^ {*seen}
    ]
    assert_in_order(chain, root)
    chain[-1].setFocus()
    assert walked(root, chain[-1], Qt.Key.Key_Backtab) == chain[::-1]
    assert_named(root)
    return chain


@pytest.fixture
def shown(panel: Any, colours: np.ndarray, qtbot: Any) -> Any:
    """The panel with a photo, in a low window."""
    window = panel.window()
    window.resize(1366, 700)
    window.show()
    panel.viewer.add_image(colours[:60, :80], name="photo")
    qtbot.waitUntil(panel.bar.button.isEnabled)
    return panel


def parts_of(panel: QWidget) -> list[Folded]:
    return [each for each in panel.findChildren(Folded) if each.isVisible()]


def opened(part: Folded, panel: QWidget, qtbot: Any) -> None:
    """Unfold a part, and wait until no pass of the layouts moves anything."""
    part.heading.click()
    direct, passes = Qt.FindChildOption.FindDirectChildrenOnly, list[list[QRect]]()

    def at_rest() -> bool:
        passes.append([each.geometry() for each in panel.findChildren(QWidget)])
        is_same = len(passes) > 6 and all(boxes == passes[-1] for boxes in passes[-6:])
        return is_same and not part.findChildren(QTimer, options=direct)

    qtbot.waitUntil(at_rest)


@pytest.mark.parametrize("tab", ["Restore", "Fuse", "Attribution", "Attention"])
@pytest.mark.ids("nightly", "Fuse", "Attribution", "Attention")
def test_tab_goes_through_what_is_seen(
    shown: Any, qtbot: Any, finished_run: Callable[..., Any], tmp_path: Path, tab: str
) -> None:
    if tab == "Restore":
        shown.models.choose("dcp")
        finished_run()
    shown.tabs.choose(tab)
    if tab == "Fuse":
        shown.fusion.add([str(two_brackets(tmp_path))])
        qtbot.waitUntil(lambda: shown.fusion.controller.chosen.bracket is not None)
    folded = assert_walked(shown)
    assert shown.image in folded and shown.tabs in folded
    for part in parts_of(shown):
        inside = part.content.findChildren(QWidget)
        assert not any(each in folded for each in inside)
        opened(part, shown, qtbot)
        chain = assert_walked(shown)
        assert any(each in chain for each in inside) or not controls(part.content)
        part.heading.click()


def test_what_the_bands_are_is_chosen_by_keyboard(shown: Any, qtbot: Any, tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", "GTiff", 64, 64, 4, dtype="uint16", crs="EPSG:32636") as file:
        file.write(np.arange(4 * 64 * 64, dtype=np.uint16).reshape(4, 64, 64))
    shown.viewer.open(str(path), plugin="napari-restore")
    assert shown.bands.isVisible()
    chain = assert_walked(shown)
    assert shown.bands.sensor in chain and shown.bands.sensor.accessibleName() == "Sensor"
    opened(shown.bands.details, shown, qtbot)
    assert shown.bands.role_of(1) in assert_walked(shown)
    assert shown.bands.role_of(1).accessibleName() == "Role of band 1"


def test_a_slider_stops_tab_once_and_follows_its_keys(
    shown: Any, qtbot: Any, finished_run: Callable[..., Any]
) -> None:
    shown.models.choose("dcp")
    finished_run()
    (part,) = (each for each in parts_of(shown) if each.text().startswith("Adjust"))
    opened(part, shown, qtbot)
    (slider,) = (x for x in controls(part) if x.accessibleName() == "Strength (%)")
    assert isinstance(slider.parentWidget(), QLabeledSlider)
    QTest.keyClick(slider, Qt.Key.Key_Left)
    assert shown.state.current.adjustment.strength == pytest.approx(0.99)


def test_tab_comes_into_the_panel_at_its_ends(shown: Any, qtbot: Any) -> None:
    """Also after controls were made that Qt has put at the end of its order."""
    chain = assert_walked(shown)
    late = QLineEdit(shown.form.summary.parentWidget())
    late.parentWidget().layout().addWidget(late)
    qtbot.waitUntil(late.isVisible)
    chain[-1].setFocus()
    QTest.keyClick(chain[-1], Qt.Key.Key_Tab)
    outside = shown.window().focusWidget()
    assert not shown.isAncestorOf(outside)
    QTest.keyClick(outside, Qt.Key.Key_Backtab)
    assert shown.window().focusWidget() is chain[-1]
    chain[0].setFocus()
    QTest.keyClick(chain[0], Qt.Key.Key_Backtab)
    before = shown.window().focusWidget()
    assert not shown.isAncestorOf(before)
    QTest.keyClick(before, Qt.Key.Key_Tab)
    assert shown.window().focusWidget() is chain[0]
    assert_walked(shown)


def dialog_of(panel: Any, kind: type[QDialog], qtbot: Any) -> QDialog:
    def found() -> list[QDialog]:
        return [each for each in panel.window().findChildren(kind) if each.isVisible()]

    qtbot.waitUntil(lambda: bool(found()))
    (dialog,) = found()
    return dialog


def test_tab_goes_through_dialogs(
    shown: Any, qtbot: Any, finished_run: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "own.py"
    code = "from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 3, 1)\n"
    path.write_text(code + code.replace("make", "other"), encoding="utf-8")
    shown.files.add_file(str(path))
    dialog = dialog_of(shown, TrustDialog, qtbot)
    assert len(assert_walked(dialog)) == 3
    dialog.accept()
    dialog = dialog_of(shown, ProposalDialog, qtbot)
    names = [each.accessibleName() for each in assert_walked(dialog)]
    assert names[:3] == ["Title", "Task", "Value range"]
    dialog.reject()
    shown.models.choose("identity")
    finished_run()
    (section,) = (each for each in shown.sections if each.TITLE == "Results")
    section.record.click()
    dialog = dialog_of(shown, RecordView, qtbot)
    assert_walked(dialog)
    dialog.close()


@pytest.mark.parametrize("reason", ["OtherFocusReason", "MouseFocusReason"])
def test_a_note_that_goes_takes_no_focus(
    shown: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """napari gives it to the canvas; a click on the canvas is another thing."""
    canvas, window = shown.viewer.window._qt_viewer.canvas.native, shown.window()
    note = NapariQtNotification("The result is saved.", "info", parent=canvas)
    shown.image.setFocus()
    monkeypatch.setattr(QApplication, "focusWidget", lambda: canvas)
    why = Qt.FocusReason[reason]
    canvas.setFocus(why)
    # The window system may have given it to another window.
    QApplication.sendEvent(shown.image, QFocusEvent(QEvent.Type.FocusOut, why))
    QApplication.processEvents()
    assert (window.focusWidget() is shown.image) == (reason == "OtherFocusReason")
    note.close()
