"""What of a window's text is cut off, by widget: what a person would have to guess."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QComboBox,
    QGroupBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QStyle,
    QStyleOptionComboBox,
    QTabBar,
    QWidget,
)

CHROME = 1
"""Pixels by which two bindings round a size differently."""


def cut_texts(root: QWidget) -> list[str]:
    """Return a line for each visible widget of `root` whose text has less room than it needs."""
    found = []
    for widget in root.findChildren(QWidget):
        if not widget.isVisible() or widget.window() is not root.window():
            continue
        found += [f"{type(widget).__name__} {said}" for said in _cut(widget)]
    return found


def _cut(widget: QWidget) -> Iterator[str]:
    text, width, height = _need(widget)
    if text and (width > widget.width() + CHROME or height > widget.height() + CHROME):
        yield f"{text!r} needs {width} × {height}, has {widget.width()} × {widget.height()}"
    elif text and not (seen := _left_by_parents(widget)).adjusted(
        -CHROME, -CHROME, CHROME, CHROME
    ).contains(widget.rect()):
        yield f"{text!r} is cut by what it lies in: {seen.width()} × {seen.height()} of " + (
            f"{widget.width()} × {widget.height()}"
        )
    if isinstance(widget, QPushButton) and widget.icon().isNull():
        if not (text or widget.accessibleName()):
            yield "says nothing"
    if isinstance(widget, QTabBar):
        for number in range(widget.count()):
            title, place = widget.tabText(number), widget.tabRect(number)
            needs = widget.fontMetrics().horizontalAdvance(title)
            if needs > place.width() or not widget.rect().adjusted(-1, -1, 1, 1).contains(place):
                yield f"{title!r} needs {needs}, has {place} of {widget.width()}"
    elif isinstance(widget, QHeaderView) and widget.orientation() == Qt.Orientation.Horizontal:
        for number in range(widget.count()):
            needs = widget.sectionSizeHint(number)
            if not widget.isSectionHidden(number) and needs > widget.sectionSize(number) + CHROME:
                title = widget.model().headerData(number, Qt.Orientation.Horizontal)
                yield f"{title!r} needs {needs}, has {widget.sectionSize(number)}"


def _need(widget: QWidget) -> tuple[str, int, int]:
    """Return the text of a widget, and the width and height that it needs; ("", 0, 0) for none."""
    metrics, hint = widget.fontMetrics(), widget.sizeHint()
    if isinstance(widget, QLabel):
        if widget.wordWrap():
            return (
                widget.text(),
                widget.minimumSizeHint().width(),
                widget.heightForWidth(widget.width()),
            )
        return widget.text(), hint.width(), hint.height()
    if isinstance(widget, (QAbstractButton, QGroupBox)):
        text = widget.text() if isinstance(widget, QAbstractButton) else widget.title()
        return text, hint.width(), min(hint.height(), metrics.height() + 2)
    if isinstance(widget, QComboBox) and not widget.isEditable():
        option = QStyleOptionComboBox()
        widget.initStyleOption(option)
        field = QStyle.SubControl.SC_ComboBoxEditField
        room = widget.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, field, widget
        )
        chrome, text = widget.width() - room.width(), widget.currentText()
        return text, metrics.horizontalAdvance(text) + chrome, metrics.height()
    if isinstance(widget, QLineEdit):
        holder = widget.parentWidget()
        text = widget.text() or widget.placeholderText()
        # What Qt keeps free beside the letters, and a caret.
        margins = widget.textMargins()
        width = metrics.horizontalAdvance(text) + margins.left() + margins.right() + 5
        if not isinstance(holder, QAbstractSpinBox) and widget.text():
            # What is typed may be longer than its field.
            width = min(width, 60)
        return text or "", width, metrics.height()
    if isinstance(widget, QProgressBar) and widget.isTextVisible():
        return widget.text(), metrics.horizontalAdvance(widget.text()), metrics.height()
    return "", 0, 0


def _left_by_parents(widget: QWidget) -> QRect:
    """Return what of a widget's rectangle its parents leave, up to what can be scrolled."""
    seen, inner = widget.rect(), widget
    while not inner.isWindow() and (above := inner.parentWidget()) is not None:
        seen = seen.translated(inner.pos())
        inner, area = above, above.parentWidget()
        if isinstance(area, QAbstractScrollArea) and above is area.viewport():
            if area.horizontalScrollBarPolicy() == Qt.ScrollBarPolicy.ScrollBarAlwaysOff:
                seen.setRight(min(seen.right(), above.rect().right()))
            break
        seen &= above.rect()
    return seen.translated(-widget.mapTo(inner, QPoint(0, 0)))
