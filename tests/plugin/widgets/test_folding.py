"""Parts that are scrolled into view, however late their layouts are done."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt, QTimer
from qtpy.QtWidgets import QApplication, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_restore.plugin.widgets import folding
from napari_restore.plugin.widgets.folding import bring_into_view, form_layout

pytestmark = pytest.mark.binding


class LatePasses(QObject):
    """Makes a widget higher, once in each turn of the event loop."""

    def __init__(self, widget: QWidget, heights: list[int]) -> None:
        super().__init__(widget)
        self._widget, self.heights = widget, heights
        self.post()

    def post(self) -> None:
        QApplication.postEvent(self, QEvent(QEvent.Type.User))

    def event(self, a0: Any) -> bool:
        if a0.type() != QEvent.Type.User:
            return super().event(a0)
        self._widget.setFixedHeight(self.heights.pop(0))
        if self.heights:
            QTimer.singleShot(0, self.post)
        return True


def test_a_part_is_followed_until_no_pass_of_its_layouts_is_left(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the time is always over.
    monkeypatch.setattr(folding, "TURN_MS", 0)
    scroll, inner = QScrollArea(), QWidget()
    qtbot.addWidget(scroll)
    above, part = QWidget(), QWidget()
    above.setFixedHeight(50)
    part.setFixedHeight(80)
    column = QVBoxLayout(inner)
    column.addWidget(above)
    column.addWidget(part)
    scroll.setWidgetResizable(True)
    scroll.setWidget(inner)
    scroll.resize(200, 120)
    scroll.show()
    qtbot.waitExposed(scroll)
    bring_into_view(part)
    late = LatePasses(above, [300, 700, 1500])
    direct = Qt.FindChildOption.FindDirectChildrenOnly
    qtbot.waitUntil(lambda: not late.heights and not part.findChildren(QTimer, options=direct))
    viewport = scroll.viewport()
    top = part.mapTo(viewport, QPoint(0, 0)).y()
    assert top >= 0 and top + part.height() <= viewport.height()


def test_what_a_layout_lets_go_leaves_no_item_behind(qtbot: Any):
    shiboken6 = pytest.importorskip("shiboken6")
    parent = QWidget()
    qtbot.addWidget(parent)
    inner = QVBoxLayout()
    inner.addWidget(QWidget())
    outer = folding.column_of(parent, inner)
    # PySide's own way, for comparison.
    other = QWidget()
    qtbot.addWidget(other)
    own, added = QVBoxLayout(other), QVBoxLayout()
    added.addWidget(QWidget())
    own.addLayout(added)
    kept = [shiboken6.dump(layout).count("QWidgetItem") for layout in (own, outer)]
    if kept[0] == 0:
        pytest.skip("this PySide keeps no items")
    assert kept[1] == 0


def test_rows_have_the_height_of_their_width_whatever_was_asked_before(qtbot: Any) -> None:
    widget, label = QWidget(), QLabel("a sentence of several words " * 9, wordWrap=True)
    qtbot.addWidget(widget)
    form = form_layout(widget)
    form.addRow("Image", label)
    hint = form.sizeHint().width()
    for width in (hint, hint // 2, hint, hint + 90):
        for asked in (hint, hint // 2, hint + 200):
            for height in (400, 401):
                form.heightForWidth(width)
                form.heightForWidth(asked)
                form.setGeometry(QRect(0, 0, width, height))
                assert label.height() >= label.heightForWidth(label.width()), (width, asked)
