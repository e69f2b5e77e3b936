"""A slider over the planes of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QWidget
from superqt import QLabeledSlider
from superqt.utils import signals_blocked

from napari_restore.plugin.widgets.folding import column_of

if TYPE_CHECKING:
    from napari_restore.images import Image


class PlaneChooser(QWidget):
    """Which plane of a stack the layer shows; hidden where its file is one picture."""

    changed = Signal(int)
    """The number of the plane to show, counted from 0."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QLabeledSlider(Qt.Orientation.Horizontal, self)
        self.slider.setToolTip("The page, depth or time that is shown and restored, counted from 0")
        # A plane on the way would be opened for nothing.
        self.slider.setTracking(False)
        self.text = QLabel(self, wordWrap=True)
        column_of(self, self.text, self.slider)
        self.slider.valueChanged.connect(self.changed)
        self.hide()

    def show_running(self, running: bool) -> None:
        """Let no other plane be chosen during a run, which fills the layers of this one."""
        self.slider.setDisabled(running)

    def show_image(self, image: Image | None) -> None:
        """Show which plane `image` is."""
        planes = None if image is None else image.planes
        self.setVisible(planes is not None and planes.count > 1)
        if image is None or planes is None or planes.count < 2:
            return
        places = zip(planes.axes, planes.places(image.plane), strict=True)
        named = ", ".join(f"{axis.name} {place}" for axis, place in places)
        self.text.setText(f"Plane {image.plane} of 0 to {planes.count - 1} ({named})")
        with signals_blocked(self.slider):
            self.slider.setRange(0, planes.count - 1)
            self.slider.setValue(image.plane)
