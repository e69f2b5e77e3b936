"""In which Python environment models run: napari's own, or another one that has torch."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QWidget
from superqt.utils import signals_blocked

from napari_restore.plugin.widgets import NarrowComboBox, add_button, column_of

OWN = "napari’s own"
CHOOSE, MAKE = "choose", "make"


class EnvironmentForm(QWidget):
    """A row that names the environment; below it what is checked or made, with a button to cancel it."""

    chosen = Signal(str)
    """The user wants the environment of this folder; "": napari's own."""
    make_requested = Signal()
    """The user wants one to be made."""
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._python = ""
        self.choice = NarrowComboBox(
            self,
            8,
            "Where models run: in napari’s own environment, or in another one with torch and "
            "napari-restore, so that what other plugins need cannot break it",
        )
        self.line = QLabel(self, wordWrap=True)
        self.cancel = add_button(self, "Cancel", "Stop checking or making the environment")
        column_of(self, self.choice, self.line, self.cancel)
        self.setFocusProxy(self.choice)
        self.choice.activated.connect(self._on_activated)
        self.cancel.clicked.connect(self.cancel_requested)
        self.show_python("")
        self.show_line("")

    def show_python(self, python: str) -> None:
        """Show the interpreter that models run by; "" is napari's own."""
        self._python = python
        own = [] if not python else [(_name_of(python), python)]
        others = [("another …", CHOOSE), ("make one …", MAKE)]
        with signals_blocked(self.choice):
            self.choice.offer([(OWN, ""), *own, *others], python)

    def show_line(self, text: str, *, is_busy: bool = False) -> None:
        """Show what is being done, or what was found; with `is_busy` it can be cancelled."""
        self.line.setText(text)
        self.line.setVisible(bool(text))
        self.cancel.setVisible(is_busy)
        self.choice.setEnabled(not is_busy)

    def _on_activated(self) -> None:
        wanted = self.choice.currentData()
        # Until it is checked, the one before stays.
        self.show_python(self._python)
        if wanted == MAKE:
            self.make_requested.emit()
            return
        if wanted == CHOOSE:
            wanted = QFileDialog.getExistingDirectory(self, "The folder of an environment")
            if not wanted:
                return
        if wanted != self._python:
            self.chosen.emit(wanted)


def _name_of(python: str) -> str:
    """Return the name of the folder that an environment lies in."""
    folder = Path(python).parent
    return (folder.parent if folder.name in ("bin", "Scripts") else folder).name or python
