"""The process behind `napari-restore view`: napari, with its libraries loaded before.

Run as ``python -m napari_restore.plugin._start``, with the arguments of napari itself.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication


EVERY_MS = 1000


class WindowGarbage(QObject):
    """Collects in the thread of the window, and nowhere else; make it there, before there are layers."""

    # Python collects in whatever thread makes the object too many; a canvas that is found there
    # takes its OpenGL context with it, and Qt aborts the program. What is alive when this is made
    # is never collected again: napari collects whenever a layer leaves, and going through all
    # libraries took 0.2 s and more each time, 0.03 s after this.
    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.collect)
        self._timer.start(EVERY_MS)

    def collect(self) -> None:
        """Collect the oldest generation that is due, as Python itself would."""
        due = [
            number
            for number, (count, limit) in enumerate(
                zip(gc.get_count(), gc.get_threshold(), strict=True)
            )
            if count > limit
        ]
        if due:
            gc.collect(due[-1])

    def end(self) -> None:
        """Leave it to Python again."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()


NEEDED = (
    "napari.viewer",
    "napari.window",
    "napari_restore.plugin._panel",
    "napari_restore.plugin.layers.reader",
    "napari_restore.plugin.layers.display",
    "dask.array",
    "rasterio",
)
"""Loaded before the window opens."""


def load() -> WindowGarbage:
    """Load what the window needs, and collect its garbage from then on."""
    for name in NEEDED:
        importlib.import_module(name)
    if "pint" in sys.modules:
        # napari's first layer would wait until the definitions of all units are read.
        sys.modules["pint"].get_application_registry().pixel  # noqa: B018
    from napari_restore.plugin.tasks.main_thread import patch_superqt

    patch_superqt()
    return WindowGarbage(_application())


def _application() -> QApplication:
    """Make napari's QApplication without the arguments of napari."""
    from napari.qt import get_qapp

    # Qt has an option --plugin, too, and warns of a plugin that it does not know.
    words = sys.argv
    sys.argv = words[:1]
    try:
        return get_qapp()
    finally:
        sys.argv = words


def main() -> None:
    """Load, then be napari."""
    load()
    # napari prints what is logged; what GDAL warns of in a file is no message to its user.
    logging.getLogger("rasterio").setLevel(logging.ERROR)
    from napari.__main__ import main as napari_main

    napari_main()


if __name__ == "__main__":
    main()
