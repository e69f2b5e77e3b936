"""The strip of frames: a row for each, dark to bright."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QLabel,
    QRadioButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

THUMBNAIL = 56
"""Width in pixels of a thumbnail on the screen."""


class FrameRow(NamedTuple):
    """What a row shows."""

    number: int
    """The frame's number in its group."""
    name: str
    exposure: str
    remark: str
    """How it lies, or why it is left out."""
    used: bool
    is_reference: bool
    colour: str | None
    """Of its weights on the canvas; None while these are not shown."""
    thumbnail: npt.NDArray[np.uint8] | None


class FramesView(QWidget):
    """Rows with a tick, a thumbnail, name and EV, the mark of the reference, and Show."""

    used_changed = Signal(int, bool)
    reference_changed = Signal(int)
    show_toggled = Signal(int, bool)
    """The frame itself shall be on the canvas, or no more."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ticks: dict[int, QCheckBox] = {}
        self.references: dict[int, QRadioButton] = {}
        self.shows: dict[int, QToolButton] = {}
        self.texts: dict[int, QLabel] = {}
        self._pictures: dict[int, QLabel] = {}
        self._numbers: list[int] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(2, 1)
        self._only = QButtonGroup(self)

    def show_rows(self, rows: list[FrameRow]) -> None:
        """Show rows; widgets stay where the frames are the same."""
        numbers = [row.number for row in rows]
        if numbers != self._numbers:
            self._numbers = numbers
            self._clear()
            for at, row in enumerate(rows):
                self._add(at, row)
        for row in rows:
            self._fill(row)

    def hide_shown(self, number: int) -> None:
        """Release Show: the frame's layer is gone."""
        button = self.shows.get(number)
        if button is not None:
            button.blockSignals(True)
            button.setChecked(False)
            button.blockSignals(False)

    def _clear(self) -> None:
        for widgets in (self.ticks, self.references, self.shows, self.texts, self._pictures):
            for widget in widgets.values():
                self._grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
            widgets.clear()

    def _add(self, at: int, row: FrameRow) -> None:
        number = row.number
        tick = QCheckBox(self)
        tick.setToolTip("Fuse this frame")
        tick.setAccessibleName(f"Fuse {row.name}")
        tick.toggled.connect(partial(self.used_changed.emit, number))
        picture = QLabel(self)
        picture.setFixedWidth(THUMBNAIL)
        text = QLabel(self)
        # Names are no markup.
        text.setTextFormat(Qt.TextFormat.PlainText)
        text.setMinimumWidth(1)
        text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        reference = QRadioButton(self)
        reference.setToolTip(
            "Reference: the result replaces this frame and keeps its EXIF and colour profile"
        )
        reference.setAccessibleName(f"{row.name} is the reference")
        self._only.addButton(reference)
        reference.clicked.connect(partial(self._on_reference, number))
        shown = QToolButton(self)
        shown.setText("Show")
        shown.setCheckable(True)
        shown.setToolTip("Show this frame as it lies, above the bracket")
        shown.setAccessibleName(f"Show {row.name}")
        shown.toggled.connect(partial(self.show_toggled.emit, number))
        for column, widget in enumerate((tick, picture, text, reference, shown)):
            self._grid.addWidget(widget, at, column)
            # Rows may be added to a tab that is open.
            widget.show()
        self.ticks[number], self.references[number] = tick, reference
        self.shows[number], self.texts[number] = shown, text
        self._pictures[number] = picture

    def _fill(self, row: FrameRow) -> None:
        number = row.number
        tick, reference = self.ticks[number], self.references[number]
        for button, on in ((tick, row.used), (reference, row.is_reference)):
            button.blockSignals(True)
            button.setChecked(on)
            button.blockSignals(False)
        # The reference is what the result replaces.
        tick.setEnabled(not row.is_reference)
        text = self.texts[number]
        text.setText("\n".join(filter(None, (row.name, row.exposure, row.remark))))
        about = " (estimated from the pixels)" if row.exposure.startswith("≈") else ""
        text.setToolTip(f"{row.name}\n{row.exposure}{about}")
        text.setEnabled(row.used)
        picture = self._pictures[number]
        if row.thumbnail is not None and picture.pixmap().isNull():
            picture.setPixmap(_pixmap(row.thumbnail))
        edge = "transparent" if row.colour is None else row.colour
        picture.setStyleSheet(f"border-left: 4px solid {edge}")
        picture.setEnabled(row.used)

    def _on_reference(self, number: int) -> None:
        self.reference_changed.emit(number)


def _pixmap(pixels: npt.NDArray[np.uint8]) -> QPixmap:
    height, width = pixels.shape[:2]
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    # `copy`: the image does not keep its bytes.
    return QPixmap.fromImage(image.copy()).scaledToWidth(
        THUMBNAIL - 6, Qt.TransformationMode.SmoothTransformation
    )
