"""The process behind `napari-restore view`: napari, with its libraries loaded before.

Run as ``python -m napari_restore.plugin._start``, with the arguments of napari itself.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication

    from napari_restore.plugin.tasks._garbage import WindowGarbage

NEEDED = (
    "napari.viewer",
    "napari.window",
    "napari_restore.plugin._panel",
    "napari_restore.plugin.layers._reader",
    "napari_restore.plugin.layers._display",
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
    from napari_restore.plugin.tasks._garbage import WindowGarbage
    from napari_restore.plugin.tasks._superqt_patch import patch_superqt

    patch_superqt()
    return WindowGarbage(_application())


def _application() -> QApplication:
    """Make napari's QApplication without the arguments of napari.

    Qt has an option --plugin, too, and warns of a plugin that it does not know.
    """
    from napari.qt import get_qapp

    words = sys.argv
    sys.argv = words[:1]
    try:
        return get_qapp()
    finally:
        sys.argv = words


def main() -> None:
    """Load, then be napari."""
    load()
    from napari.__main__ import main as napari_main

    napari_main()


if __name__ == "__main__":
    main()
