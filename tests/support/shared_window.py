"""One napari window for many tests, one after the other: to make one, and a canvas, takes a second.

Between two tests it is emptied and set back. What the program keeps for each viewer is forgotten, as if the
window were a new one. It has no style sheet: tests of looks, of opening and of closing have windows of
their own (mark `own_window`, or `make_napari_viewer`).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import pytest

OWN = "napari_restore.plugin."
MOST = 60
"""Tests that have one window: what napari keeps of each is then let go."""


class SharedWindow:
    """Makes the window when a test needs it, and again after a test that failed."""

    def __init__(self) -> None:
        self._made = ExitStack()
        self._viewer: Any = None
        self._tests = 0

    def viewer(self) -> Any:
        """Return the empty viewer, of a window that is not shown."""
        from napari._qt.qt_main_window import _QtMainWindow
        from napari.settings import get_settings

        if self._tests >= MOST:
            self.close()
        self._tests += 1
        if self._viewer is not None:
            _QtMainWindow._instances.append(self._window)
        else:
            get_settings().reset()
            self._viewer = self._make()
        # napari collects whenever a layer leaves: what is there before the test is left out of it. Now and
        # not at the end of the last test, which still held its panel.
        gc.collect()
        gc.freeze()
        return self._viewer

    def _make(self) -> Any:
        from app_model import Application
        from napari import Viewer
        from napari._app_model._app import NapariApplication, _napari_names
        from napari._qt._qapp_model.qactions import init_qactions
        from napari._qt.qt_viewer import QtViewer
        from napari.plugins import _initialize_plugins
        from qtpy.QtWidgets import QWidget

        def console(*_: Any) -> QWidget:
            widget = QWidget()
            widget._update_theme = lambda *_: None
            return widget

        for cached in (_initialize_plugins, init_qactions):
            cached.cache_clear()
            self._made.callback(cached.cache_clear)
        application = NapariApplication("shared_window")
        self._made.callback(Application.destroy, "shared_window")
        # Menus that went with their window fail, and every failure is looked up in all modules.
        self._made.callback(application.menus.menus_changed.disconnect)
        application.injection_store.namespace = _napari_names
        enter = self._made.enter_context
        enter(patch.object(NapariApplication, "get_app_model", return_value=application))
        enter(patch("napari._qt.threads.status_checker.StatusChecker.start", lambda *_: None))
        enter(patch("napari._qt.qt_viewer.QtViewer._get_console", console))
        # Qt applies it to each of the panel's 500 widgets: half of the time that a panel takes.
        enter(patch("napari._qt.qt_main_window.get_stylesheet", lambda *_, **__: ""))
        viewer = Viewer(show=False, show_welcome_screen=False)
        # napari's fixture takes whatever is left there for a leak.
        QtViewer._instances.discard(viewer.window._qt_viewer)
        self._window = viewer.window._qt_window
        self._layout, self._size = self._window.saveState(), self._window.size()
        self._canvas = viewer.window._qt_viewer.canvas.native
        self._canvas_size = self._canvas.size()
        return viewer

    def set_back(self) -> None:
        """Make the window as it was made, after a test."""
        from napari._qt.qt_main_window import _QtMainWindow
        from napari.settings import get_settings
        from qtpy.QtWidgets import QDialog

        viewer, window = self._viewer, self._window
        if viewer is None:
            return
        for name in list(viewer.window.dock_widgets):
            viewer.window.remove_dock_widget(viewer.window.dock_widgets[name])
        for dialog in window.findChildren(QDialog):
            dialog.close()
        viewer.layers.clear()
        viewer.reset()
        get_settings().reset()
        viewer.window._task_status_manager._tasks.clear()
        window.hide()
        window.restoreState(self._layout)
        window.resize(self._size)
        # A picture of the panel lays out the window: beside the panel the canvas had no width.
        self._canvas.resize(self._canvas_size)
        # Tests without a window find none.
        _QtMainWindow._instances.remove(window)
        for kept in _kept_by_viewer():
            kept.pop(viewer, None)

    def close(self) -> None:
        """Close the window; the next test makes another one."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            with patch.object(self._window, "_save_current_window_settings"):
                viewer.close()
        self._tests = 0
        self._made.close()


def _kept_by_viewer() -> Iterator[WeakKeyDictionary[Any, Any]]:
    """Yield what modules of the window keep for each viewer."""
    for name, module in list(sys.modules.items()):
        if name.startswith(OWN):
            yield from (v for v in vars(module).values() if isinstance(v, WeakKeyDictionary))


WINDOW = SharedWindow()


@pytest.fixture(scope="session")
def shared_window() -> Iterator[SharedWindow]:
    yield WINDOW
    WINDOW.close()
